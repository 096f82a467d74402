package kms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// newKeyOf makes a key of a spec and usage and returns its id and ARN.
func (w *world) newKeyOf(s key.Spec, u key.Usage) (id, keyARN string) {
	w.t.Helper()
	m := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"KeySpec": s, "KeyUsage": u}).KeyMetadata
	return m.KeyID.V, m.ARN.V
}

// slow reports whether keys of a spec take long to make, and are like others but for their size.
func slow(s key.Spec) bool { return s == keyspec.RSA3072 || s == keyspec.RSA4096 }

// algorithmMembers are the members of KeyMetadata that list algorithms, by usage.
var algorithmMembers = map[key.Usage]string{
	key.EncryptDecrypt: "EncryptionAlgorithms", key.SignVerify: "SigningAlgorithms", key.MACUsage: "MacAlgorithms",
	key.KeyAgreement: "KeyAgreementAlgorithms", key.Encapsulation: "EncapsulationAlgorithms",
}

// Keys of every spec and usage do what they are for with every algorithm, and say so; what they are not for, they refuse.
func TestEverySpecUsageAndAlgorithm(t *testing.T) {
	w := newWorld(t, "")
	for _, row := range keyspec.All() {
		for i, u := range row.Usages {
			if row.Spec == key.SymmetricDefault || slow(row.Spec) && (i > 0 || row.Spec == keyspec.RSA4096 && testing.Short()) {
				continue
			}
			t.Run(string(row.Spec)+" "+string(u), func(t *testing.T) {
				w := *w
				w.t = t
				w.metadataOf(row, u)
				id, keyARN := w.newKeyOf(row.Spec, u)
				for _, a := range row.Algorithms(u) {
					use(&w, row, u, id, a)
				}
				w.refuseOthers(u, keyARN)
			})
		}
	}
}

func (w *world) metadataOf(row *keyspec.Row, u key.Usage) {
	w.t.Helper()
	if slow(row.Spec) {
		return
	}
	member := "KeySpec"
	if row.Wrapping { // RSA, for instance: the deprecated name knows the older specs only
		member = "CustomerMasterKeySpec"
	}
	made := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{member: row.Spec, "KeyUsage": u}).KeyMetadata
	got := string(do[*kmsapi.DescribeKeyResponse](w, "DescribeKey", in{"KeyId": made.KeyID.V}).KeyMetadata.AppendJSON(nil))
	if got != string(made.AppendJSON(nil)) {
		w.t.Errorf("CreateKey and DescribeKey differ:\n%s\n%s", made.AppendJSON(nil), got)
	}
	list := `"` + strings.Join(row.Algorithms(u), `","`) + `"`
	want := fmt.Sprintf(`"KeyUsage":"%s","KeyState":"Enabled","Origin":"AWS_KMS","KeyManager":"CUSTOMER","CustomerMasterKeySpec":"%s","KeySpec":"%[2]s",`, u, row.Spec)
	if !strings.Contains(got, want) || !strings.Contains(got, `"`+algorithmMembers[u]+`":[`+list+`]`) || strings.Count(got, "Algorithms") != 1 || strings.Contains(got, "CurrentKeyMaterialId") {
		w.t.Errorf("metadata %s", got)
	}
	if row.MAC != nil {
		w.refused("UnsupportedOperationException", "GetPublicKey", in{"KeyId": made.KeyID.V})
		return
	}
	public := do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": made.ARN.V})
	if _, err := keyspec.ParsePublic(row.Spec, public.PublicKey); err != nil {
		w.t.Errorf("public key: %v", err)
	}
	text := string(public.AppendJSON(nil))
	if public.KeyID.V != made.ARN.V || !strings.Contains(text, `"`+algorithmMembers[u]+`":[`+list+`]`) || strings.Count(text, "Algorithms") != 1 ||
		public.KeySpec.V != string(row.Spec) || public.CustomerMasterKeySpec.V != string(row.Spec) || public.KeyUsage.V != string(u) {
		w.t.Errorf("public key %s", text)
	}
}

// use does and undoes what a key is for.
func use(w *world, row *keyspec.Row, u key.Usage, id, a string) {
	w.t.Helper()
	switch u {
	case key.EncryptDecrypt:
		w.encryptsWith(id, a)
	case key.SignVerify:
		for _, kind := range []keyspec.MessageType{keyspec.Raw, keyspec.Digest, keyspec.ExternalMu} {
			w.signsWith(row.Spec, id, a, kind)
		}
	case key.MACUsage:
		request := in{"KeyId": id, "MacAlgorithm": a, "Message": []byte("message")}
		out := do[*kmsapi.GenerateMacResponse](w, "GenerateMac", request)
		request["Mac"] = out.Mac
		if ok := do[*kmsapi.VerifyMacResponse](w, "VerifyMac", request); !ok.MacValid.V || ok.MacAlgorithm.V != a || out.MacAlgorithm.V != a || ok.KeyID != out.KeyID {
			w.t.Errorf("%s: %+v", a, ok)
		}
		for _, bad := range [][]byte{out.Mac[:len(out.Mac)-1], append(bytes.Clone(out.Mac), 0), make([]byte, len(out.Mac)), {1}} {
			request["Mac"] = bad
			w.refused("KMSInvalidMacException", "VerifyMac", request)
		}
	case key.KeyAgreement:
		w.agrees(row.Spec, id)
	case key.Encapsulation:
		out := do[*kmsapi.EncapsulateResponse](w, "Encapsulate", in{"KeyId": id, "EncapsulationAlgorithm": a})
		request := in{"KeyId": id, "EncapsulationAlgorithm": a, "SharedSecretCiphertextBlob": out.SharedSecretCiphertextBlob}
		if back := do[*kmsapi.DecapsulateResponse](w, "Decapsulate", request); !back.SharedSecret.Equal(out.SharedSecret) || out.SharedSecret.Len() != 32 || back.KeyID != out.KeyID || back.EncapsulationAlgorithm.V != a {
			w.t.Errorf("%s: another secret", a)
		}
		bad := bytes.Clone(out.SharedSecretCiphertextBlob)
		bad[0] ^= 1
		request["SharedSecretCiphertextBlob"] = bad
		if back := do[*kmsapi.DecapsulateResponse](w, "Decapsulate", request); back.SharedSecret.Equal(out.SharedSecret) || back.SharedSecret.Len() != 32 {
			w.t.Error("an altered ciphertext gives the same secret")
		}
		request["SharedSecretCiphertextBlob"] = bad[1:]
		w.refused("InvalidCiphertextException", "Decapsulate", request)
	}
}

func (w *world) encryptsWith(id, a string) {
	w.t.Helper()
	plaintext := []byte("plaintext")
	out := do[*kmsapi.EncryptResponse](w, "Encrypt", in{"KeyId": id, "EncryptionAlgorithm": a, "Plaintext": plaintext})
	request := in{"KeyId": id, "EncryptionAlgorithm": a, "CiphertextBlob": out.CiphertextBlob}
	back := do[*kmsapi.DecryptResponse](w, "Decrypt", request)
	if !bytes.Equal(back.Plaintext.Expose(), plaintext) || back.KeyID != out.KeyID || back.EncryptionAlgorithm.V != a || out.EncryptionAlgorithm.V != a || back.KeyMaterialID.Set {
		w.t.Errorf("%s: %+v", a, back)
	}
	if _, more := w.lastRecord()["additionalEventData"]; more {
		w.t.Error("the record tells of key material")
	}
	for _, bad := range [][]byte{out.CiphertextBlob[1:], append(bytes.Clone(out.CiphertextBlob), 0), make([]byte, len(out.CiphertextBlob)), {1}} {
		request["CiphertextBlob"] = bad
		w.refused("InvalidCiphertextException", "Decrypt", request)
	}
}

// takes returns the length of a good message of a type, if the algorithm takes the type.
func takes(a string, kind keyspec.MessageType) (size int, ok bool) {
	switch kind {
	case keyspec.Digest:
		size = keyspec.DigestSize(a)
		return size, size > 0
	case keyspec.ExternalMu:
		return 64, a == keyspec.AlgorithmMLDSA
	}
	return 100, a != keyspec.AlgorithmEd25519ph
}

func (w *world) signsWith(s key.Spec, id, a string, kind keyspec.MessageType) {
	w.t.Helper()
	size, ok := takes(a, kind)
	request := in{"KeyId": id, "SigningAlgorithm": a, "MessageType": kind, "Message": bytes.Repeat([]byte{7}, max(size, 1))}
	if !ok {
		with := "key spec " + string(s)
		if strings.HasPrefix(a, "ED25519") && kind != keyspec.ExternalMu {
			with = "algorithm " + a
		}
		want := fmt.Sprintf("ValidationException: Message type %s is incompatible with %s.", kind, with)
		w.refused(want, "Sign", request)
		request["Signature"] = []byte("x")
		w.refused(want, "Verify", request)
		return
	}
	if kind == keyspec.Raw {
		delete(request, "MessageType") // it is the default
	}
	out := do[*kmsapi.SignResponse](w, "Sign", request)
	request["Signature"] = out.Signature
	if v := do[*kmsapi.VerifyResponse](w, "Verify", request); !v.SignatureValid.V || v.SigningAlgorithm.V != a || out.SigningAlgorithm.V != a || v.KeyID != out.KeyID {
		w.t.Errorf("%s %s: %+v", a, kind, v)
	}
	for _, bad := range [][]byte{{1}, out.Signature[:len(out.Signature)-1], append(bytes.Clone(out.Signature), 0)} {
		request["Signature"] = bad
		w.refused("KMSInvalidSignatureException", "Verify", request)
	}
	request["Signature"], request["Message"] = out.Signature, bytes.Repeat([]byte{8}, size)
	w.refused("KMSInvalidSignatureException", "Verify", request)
	if kind != keyspec.Raw {
		request["Message"] = bytes.Repeat([]byte{7}, size+1)
		want := "ValidationException: Digest is invalid length for algorithm " + a + "."
		w.refused(want, "Verify", request)
		delete(request, "Signature")
		w.refused(want, "Sign", request)
	}
}

func (w *world) agrees(s key.Spec, id string) {
	w.t.Helper()
	other, _ := w.newKeyOf(s, key.KeyAgreement)
	public := func(id string) []byte {
		return do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": id}).PublicKey
	}
	derive := func(id string, peer []byte) *kmsapi.DeriveSharedSecretResponse {
		return do[*kmsapi.DeriveSharedSecretResponse](w, "DeriveSharedSecret", in{"KeyId": id, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peer})
	}
	a, b := derive(id, public(other)), derive(other, public(id))
	if !a.SharedSecret.Equal(b.SharedSecret) || a.KeyOrigin.V != "AWS_KMS" || a.KeyAgreementAlgorithm.V != "ECDH" {
		w.t.Errorf("%s: the two do not agree: %+v", s, a)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	w.must(err)
	curve, err := x509.MarshalPKIXPublicKey(x25519.PublicKey())
	w.must(err)
	for _, bad := range [][]byte{{1}, public(other)[1:], curve} {
		for _, run := range []bool{false, true} {
			_, failure := w.try("DeriveSharedSecret", in{"KeyId": id, "KeyAgreementAlgorithm": "ECDH", "PublicKey": bad, "DryRun": run})
			if failure == nil || failure.Code != "ValidationException" || failure.Message != "" || failure.NoMessage {
				w.t.Errorf("%x: %v", bad, failure)
			}
		}
	}
}

// cryptography has a good request of every operation that uses keys for something, and what for.
var cryptography = map[string]struct {
	usage   key.Usage
	request in
}{
	"Encrypt":                             {key.EncryptDecrypt, in{"Plaintext": []byte("x")}},
	"GenerateDataKey":                     {key.EncryptDecrypt, in{"KeySpec": "AES_256"}},
	"GenerateDataKeyWithoutPlaintext":     {key.EncryptDecrypt, in{"KeySpec": "AES_256"}},
	"GenerateDataKeyPair":                 {key.EncryptDecrypt, in{"KeyPairSpec": "ECC_NIST_P256"}},
	"GenerateDataKeyPairWithoutPlaintext": {key.EncryptDecrypt, in{"KeyPairSpec": "ECC_NIST_P256"}},
	"Decrypt":                             {key.EncryptDecrypt, in{"CiphertextBlob": []byte("x"), "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}},
	"Sign":                                {key.SignVerify, in{"Message": []byte("x"), "SigningAlgorithm": "SYMMETRIC_DEFAULT"}},
	"Verify":                              {key.SignVerify, in{"Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_256", "Signature": []byte("x")}},
	"GenerateMac":                         {key.MACUsage, in{"Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256"}},
	"VerifyMac":                           {key.MACUsage, in{"Message": []byte("x"), "MacAlgorithm": "HMAC_SHA_256", "Mac": []byte("x")}},
	"DeriveSharedSecret":                  {key.KeyAgreement, in{"KeyAgreementAlgorithm": "ECDH", "PublicKey": []byte("x")}},
	"Encapsulate":                         {key.Encapsulation, in{"EncapsulationAlgorithm": "ML_KEM"}},
	"Decapsulate":                         {key.Encapsulation, in{"EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": []byte("x")}},
}

// refuseOthers asks of a key what it is not for, and then what it is for while it is disabled or goes.
func (w *world) refuseOthers(u key.Usage, keyARN string) {
	w.t.Helper()
	all := func(want func(op string, of key.Usage) string) {
		for op, c := range cryptography {
			c.request["KeyId"] = keyARN
			if text := want(op, c.usage); text != "" {
				w.refused(text, op, c.request)
			}
		}
	}
	wrongUsage := func(op string, of key.Usage) string {
		if of == u {
			return ""
		}
		return "InvalidKeyUsageException: " + keyARN + " key usage is " + string(u) + " which is not valid for " + op + "."
	}
	all(wrongUsage)
	w.done("DisableKey", in{"KeyId": keyARN})
	all(func(op string, of key.Usage) string {
		if text := wrongUsage(op, of); text != "" {
			return text
		}
		return "DisabledException: " + keyARN + " is disabled."
	})
	if u != key.MACUsage {
		do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": keyARN})
	}
	do[*kmsapi.ScheduleKeyDeletionResponse](w, "ScheduleKeyDeletion", in{"KeyId": keyARN})
	all(func(op string, of key.Usage) string {
		if text := wrongUsage(op, of); text != "" {
			return text
		}
		return "KMSInvalidStateException: " + keyARN + " is pending deletion."
	})
	w.refused("KMSInvalidStateException: "+keyARN+" is pending deletion.", "GetPublicKey", in{"KeyId": keyARN})
}
