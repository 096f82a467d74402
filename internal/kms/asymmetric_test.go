package kms_test

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // an algorithm of the API
	"crypto/x509"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

const dryRun = "DryRunOperationException: The request would have succeeded, but the DryRun option is set."

func TestCreateKeyOfWrongKind(t *testing.T) {
	w := newWorld(t, "")
	const needed = "ValidationException: You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."
	for _, row := range keyspec.All() {
		if row.Spec == key.SymmetricDefault {
			continue
		}
		w.refused(needed, "CreateKey", in{"KeySpec": row.Spec})
		for _, u := range []key.Usage{key.EncryptDecrypt, key.SignVerify, key.MACUsage, key.KeyAgreement, key.Encapsulation} {
			if row.Algorithms(u) == nil {
				w.refused("ValidationException: KeyUsage "+string(u)+" is not compatible with KeySpec "+string(row.Spec), "CreateKey", in{"KeySpec": row.Spec, "KeyUsage": u})
			}
		}
	}
	w.refused("UnsupportedOperationException: Key material cannot be imported into keys with KeySpec ML_KEM_768.", "CreateKey",
		in{"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE", "Origin": "EXTERNAL"})
}

func TestAsymmetricEncryption(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKeyOf(keyspec.RSA2048, key.EncryptDecrypt)
	symmetricID, symmetricARN := w.newKey()
	const sha256 = "RSAES_OAEP_SHA_256"
	for a, most := range map[string]int{"RSAES_OAEP_SHA_1": 256 - 2*sha1.Size - 2, sha256: 190} {
		do[*kmsapi.EncryptResponse](w, "Encrypt", in{"KeyId": id, "EncryptionAlgorithm": a, "Plaintext": make([]byte, most)})
		w.refused("ValidationException: Algorithm "+a+" and key spec RSA_2048 cannot encrypt data larger than "+map[int]string{214: "214", 190: "190"}[most]+" bytes.",
			"Encrypt", in{"KeyId": id, "EncryptionAlgorithm": a, "Plaintext": make([]byte, most+1), "DryRun": true})
	}
	blob := do[*kmsapi.EncryptResponse](w, "Encrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "Plaintext": []byte("x")}).CiphertextBlob
	const incompatible = "InvalidKeyUsageException: Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048."
	const context = "ValidationException: EncryptionContext is supported only with symmetric encryption KMS keys."
	w.refused(incompatible, "Encrypt", in{"KeyId": id, "Plaintext": []byte("x")})
	w.refused("InvalidCiphertextException", "Decrypt", in{"CiphertextBlob": blob})
	w.refused("InvalidCiphertextException", "Decrypt", in{"KeyId": id, "CiphertextBlob": blob})
	w.refused("InvalidCiphertextException", "Decrypt", in{"KeyId": id, "CiphertextBlob": blob, "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"})
	w.refused("ValidationException: KeyId is required to decrypt with algorithm RSAES_OAEP_SHA_256.", "Decrypt", in{"CiphertextBlob": blob, "EncryptionAlgorithm": sha256})
	w.refused("InvalidKeyUsageException: Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT.", "Decrypt", in{"KeyId": symmetricID, "CiphertextBlob": blob, "EncryptionAlgorithm": sha256})
	w.refused("InvalidKeyUsageException: Algorithm SM2PKE is incompatible with key spec RSA_2048.", "Decrypt", in{"KeyId": id, "CiphertextBlob": blob, "EncryptionAlgorithm": "SM2PKE"})
	w.refused("IncorrectKeyException: The key ID in the request does not identify a CMK that can perform this operation.", "Decrypt", in{"KeyId": id, "CiphertextBlob": w.encrypt(symmetricID, []byte("x"), nil)})
	w.refused(context, "Encrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "Plaintext": []byte("x"), "EncryptionContext": in{"a": "b"}})
	w.refused(context, "Decrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "CiphertextBlob": blob, "EncryptionContext": in{"a": "b"}})
	w.refused(dryRun, "Encrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "Plaintext": []byte("x"), "DryRun": true})
	w.refused(dryRun, "Decrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "CiphertextBlob": blob, "DryRun": true})
	w.refused(dryRun, "Decrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "DryRun": true, "DryRunModifiers": []string{"IGNORE_CIPHERTEXT"}})
	for _, op := range []string{"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"} {
		w.refused("InvalidKeyUsageException: You cannot generate a data key with an asymmetric CMK", op, both(cryptography[op].request, in{"KeyId": id}))
	}

	// From one kind of key to the other and back.
	there := do[*kmsapi.ReEncryptResponse](w, "ReEncrypt", in{"CiphertextBlob": blob, "SourceKeyId": id, "SourceEncryptionAlgorithm": sha256, "DestinationKeyId": symmetricID, "DestinationEncryptionContext": in{"a": "b"}})
	if there.SourceKeyID.V != keyARN || there.KeyID.V != symmetricARN || there.SourceKeyMaterialID.Set || len(there.DestinationKeyMaterialID.V) != 64 ||
		there.SourceEncryptionAlgorithm.V != sha256 || there.DestinationEncryptionAlgorithm.V != "SYMMETRIC_DEFAULT" {
		t.Errorf("%+v", there)
	}
	w.decrypts(there.CiphertextBlob, []byte("x"), map[string]string{"a": "b"})
	back := do[*kmsapi.ReEncryptResponse](w, "ReEncrypt", in{"CiphertextBlob": there.CiphertextBlob, "SourceEncryptionContext": in{"a": "b"}, "DestinationKeyId": id, "DestinationEncryptionAlgorithm": sha256})
	if back.DestinationKeyMaterialID.Set || len(back.SourceKeyMaterialID.V) != 64 {
		t.Errorf("%+v", back)
	}
	if data := w.lastRecord()["additionalEventData"].(in); len(data) != 1 || data["sourceKeyMaterialId"] != back.SourceKeyMaterialID.V {
		t.Errorf("the record has %v", data)
	}
	got := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "CiphertextBlob": back.CiphertextBlob})
	if string(got.Plaintext.Expose()) != "x" {
		t.Error("it came back as something else")
	}
	long := w.encrypt(symmetricID, make([]byte, 191), nil)
	w.refused("ValidationException: Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.", "ReEncrypt",
		in{"CiphertextBlob": long, "DestinationKeyId": id, "DestinationEncryptionAlgorithm": sha256, "DryRun": true})
	w.refused(incompatible, "ReEncrypt", in{"CiphertextBlob": long, "DestinationKeyId": id})

	w.done("DisableKey", in{"KeyId": id})
	w.refused("DisabledException: "+keyARN+" is disabled.", "Decrypt", in{"KeyId": id, "EncryptionAlgorithm": sha256, "CiphertextBlob": []byte("x")})
}

// both returns the members of two requests.
func both(a, b in) in {
	all := in{}
	for _, m := range []in{a, b} {
		for k, v := range m {
			all[k] = v
		}
	}
	return all
}

func TestWrongAlgorithms(t *testing.T) {
	w := newWorld(t, "")
	ecdsa, _ := w.newKeyOf(keyspec.P256, key.SignVerify)
	mac, _ := w.newKeyOf(keyspec.HMACSHA256, key.MACUsage)
	for _, a := range []string{"ECDSA_SHA_384", "SYMMETRIC_DEFAULT", "ML_DSA_SHAKE_256"} {
		want := "InvalidKeyUsageException: Algorithm " + a + " is incompatible with key spec ECC_NIST_P256."
		w.refused(want, "Sign", in{"KeyId": ecdsa, "Message": []byte("x"), "SigningAlgorithm": a, "MessageType": "EXTERNAL_MU"})
		w.refused(want, "Verify", in{"KeyId": ecdsa, "Message": []byte("x"), "SigningAlgorithm": a, "Signature": []byte("x")})
	}
	want := "InvalidKeyUsageException: Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_256."
	w.refused(want, "GenerateMac", in{"KeyId": mac, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_512"})
	w.refused(want, "VerifyMac", in{"KeyId": mac, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_512", "Mac": []byte("x")})
}

func TestDryRunsOfEveryKind(t *testing.T) {
	w := newWorld(t, "")
	symmetric, _ := w.newKey()
	ecdsa, _ := w.newKeyOf(keyspec.P256, key.SignVerify)
	mac, _ := w.newKeyOf(keyspec.HMACSHA256, key.MACUsage)
	agree, _ := w.newKeyOf(keyspec.P256, key.KeyAgreement)
	kem, _ := w.newKeyOf(keyspec.MLKEM768, key.Encapsulation)
	signed := in{"KeyId": ecdsa, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_256"}
	coded := in{"KeyId": mac, "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256"}
	public := do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": agree}).PublicKey
	capsule := do[*kmsapi.EncapsulateResponse](w, "Encapsulate", in{"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM"}).SharedSecretCiphertextBlob
	for _, c := range []struct {
		op string
		in in
	}{
		{"Sign", signed},
		{"Verify", both(signed, in{"Signature": do[*kmsapi.SignResponse](w, "Sign", signed).Signature})},
		{"GenerateMac", coded},
		{"VerifyMac", both(coded, in{"Mac": do[*kmsapi.GenerateMacResponse](w, "GenerateMac", coded).Mac})},
		{"DeriveSharedSecret", in{"KeyId": agree, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public}},
		{"Encapsulate", in{"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM"}},
		{"Decapsulate", in{"KeyId": kem, "EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": capsule}},
		{"GenerateDataKeyPair", in{"KeyId": symmetric, "KeyPairSpec": "RSA_4096"}},
		{"GenerateDataKeyPairWithoutPlaintext", in{"KeyId": symmetric, "KeyPairSpec": "RSA_4096"}},
	} {
		w.refused(dryRun, c.op, both(c.in, in{"DryRun": true}))
		if r := w.lastRecord(); r["requestParameters"].(in)["dryRun"] != true || r["readOnly"] != true {
			t.Errorf("%s: record %v", c.op, r)
		}
	}
	w.refused("KMSInvalidSignatureException", "Verify", both(signed, in{"Signature": []byte("x"), "DryRun": true}))
	w.refused("KMSInvalidMacException", "VerifyMac", both(coded, in{"Mac": []byte("x"), "DryRun": true}))
}

func TestDataKeyPairs(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKey()
	context := map[string]string{"stage": "test"}
	for _, row := range keyspec.All() {
		if !row.Pair || row.Spec == keyspec.RSA3072 || row.Spec == keyspec.RSA4096 && testing.Short() {
			continue
		}
		request := in{"KeyId": id, "KeyPairSpec": row.Spec, "EncryptionContext": context}
		out := do[*kmsapi.GenerateDataKeyPairResponse](w, "GenerateDataKeyPair", request)
		r := w.lastRecord()
		if p := r["requestParameters"].(in); p["keyPairSpec"] != string(row.Spec) || p["encryptionContext"].(in)["stage"] != "test" || len(p) != 3 || r["additionalEventData"].(in)["keyMaterialId"] != out.KeyMaterialID.V {
			t.Errorf("record %v", r)
		}
		pair, err := keyspec.Parse(row.Spec, out.PrivateKeyPlaintext.Expose())
		if err != nil || !bytes.Equal(pair.Public().SPKI(), out.PublicKey) || out.KeyID.V != keyARN || out.KeyPairSpec.V != string(row.Spec) || len(out.KeyMaterialID.V) != 64 {
			t.Errorf("%s: %v, %+v", row.Spec, err, out)
		}
		if strings.HasPrefix(string(row.Spec), "RSA") || strings.HasPrefix(string(row.Spec), "ECC_NIST") {
			if _, err := x509.ParsePKCS8PrivateKey(out.PrivateKeyPlaintext.Expose()); err != nil {
				t.Errorf("%s: %v", row.Spec, err)
			}
		}
		w.decrypts(out.PrivateKeyCiphertextBlob, out.PrivateKeyPlaintext.Expose(), context)
		bare := do[*kmsapi.GenerateDataKeyPairWithoutPlaintextResponse](w, "GenerateDataKeyPairWithoutPlaintext", request)
		opened := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"CiphertextBlob": bare.PrivateKeyCiphertextBlob, "EncryptionContext": context})
		if pair, err := keyspec.Parse(row.Spec, opened.Plaintext.Expose()); err != nil || !bytes.Equal(pair.Public().SPKI(), bare.PublicKey) || bytes.Equal(bare.PublicKey, out.PublicKey) {
			t.Errorf("%s without plaintext: %v", row.Spec, err)
		}
	}
}

func TestAliasesOfOneKind(t *testing.T) {
	w := newWorld(t, "")
	symmetric, _ := w.newKey()
	rsa, _ := w.newKeyOf(keyspec.RSA2048, key.EncryptDecrypt)
	mac, _ := w.newKeyOf(keyspec.HMACSHA256, key.MACUsage)
	other, _ := w.newKeyOf(keyspec.HMACSHA512, key.MACUsage)
	w.done("CreateAlias", in{"AliasName": "alias/s", "TargetKeyId": symmetric})
	w.done("CreateAlias", in{"AliasName": "alias/m", "TargetKeyId": mac})
	w.refused("ValidationException: Alias alias/s cannot be changed from a CMK with key type SYMMETRIC to a CMK with key type ASYMMETRIC. The key type of the current CMK and the new CMK must be the same.",
		"UpdateAlias", in{"AliasName": "alias/s", "TargetKeyId": rsa})
	w.refused("ValidationException: Alias alias/s cannot be changed from a CMK with key usage ENCRYPT_DECRYPT to a CMK with key usage GENERATE_VERIFY_MAC. The key usage of the current CMK and the new CMK must be the same.",
		"UpdateAlias", in{"AliasName": "alias/s", "TargetKeyId": mac})
	w.done("UpdateAlias", in{"AliasName": "alias/m", "TargetKeyId": other})
	request := in{"KeyId": "alias/m", "Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_512"}
	do[*kmsapi.GenerateMacResponse](w, "GenerateMac", request)
}

func TestGrantsOnEveryKind(t *testing.T) {
	w := newWorld(t, "")
	u := w.user("u")
	for _, c := range []struct {
		spec  key.Spec
		usage key.Usage
		op    string
	}{
		{keyspec.P256, key.SignVerify, "Sign"},
		{keyspec.HMACSHA256, key.MACUsage, "GenerateMac"},
		{keyspec.MLKEM768, key.Encapsulation, "Encapsulate"},
		{keyspec.RSA2048, key.EncryptDecrypt, "GetPublicKey"},
	} {
		_, keyARN := w.newKeyOf(c.spec, c.usage)
		request := both(cryptography[c.op].request, in{"KeyId": keyARN})
		if c.op == "Sign" {
			request["SigningAlgorithm"] = "ECDSA_SHA_256"
		}
		if _, failure := u.try(c.op, request); failure == nil || failure.Code != "AccessDeniedException" {
			t.Errorf("%s without a grant: %v", c.op, failure)
		}
		do[*kmsapi.CreateGrantResponse](w, "CreateGrant", in{"KeyId": keyARN, "GranteePrincipal": userARN + "u", "Operations": []string{c.op}})
		u.done(c.op, request)
		w.refused("ValidationException: EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key.", "CreateGrant",
			in{"KeyId": keyARN, "GranteePrincipal": userARN + "u", "Operations": []string{c.op}, "Constraints": in{"EncryptionContextEquals": in{"a": "b"}}})
	}
}

// Every kind of key is what it was after a restart, and no record tells what was signed, or a secret.
func TestKindsAfterARestart(t *testing.T) {
	w := newWorld(t, t.TempDir())
	ecdsa, _ := w.newKeyOf(keyspec.P256, key.SignVerify)
	mac, _ := w.newKeyOf(keyspec.HMACSHA256, key.MACUsage)
	message := []byte("a message that is in no record")
	signed := in{"KeyId": ecdsa, "Message": message, "SigningAlgorithm": "ECDSA_SHA_256"}
	coded := in{"KeyId": mac, "Message": message, "MacAlgorithm": "HMAC_SHA_256"}
	signed["Signature"] = do[*kmsapi.SignResponse](w, "Sign", signed).Signature
	if p := w.lastRecord()["requestParameters"].(in); len(p) != 3 || p["keyId"] != ecdsa || p["messageType"] != "RAW" || p["signingAlgorithm"] != "ECDSA_SHA_256" {
		t.Errorf("parameters %v", p)
	}
	coded["Mac"] = do[*kmsapi.GenerateMacResponse](w, "GenerateMac", coded).Mac
	if p := w.lastRecord()["requestParameters"].(in); len(p) != 2 || p["keyId"] != mac || p["macAlgorithm"] != "HMAC_SHA_256" {
		t.Errorf("parameters %v", p)
	}
	w.restart()
	do[*kmsapi.VerifyResponse](w, "Verify", signed)
	do[*kmsapi.VerifyMacResponse](w, "VerifyMac", coded)
	if bytes.Contains(bytes.Join(w.audit.Records(), nil), message) {
		t.Error("a record has the message")
	}
}
