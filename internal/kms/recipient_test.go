package kms_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/attest/attesttest"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// newAttestedWorld is newWorld with an enclave whose root the service trusts.
func newAttestedWorld(t testing.TB) *world {
	t.Helper()
	w := newWorld(t, "")
	w.enclave = attesttest.New(t, w.now())
	var err error
	w.verifier, err = attest.NewVerifier(w.enclave.Roots())
	w.must(err)
	w.open()
	return w
}

// recipient returns a Recipient of the enclave; the changes are those of attesttest.
func (w *world) recipient(changes map[string]any) in {
	w.t.Helper()
	return in{"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": w.enclave.Document(changes)}
}

// opens returns what the enclave finds in an answer. The form of answers has its test beside their encoder: this one looks for
// what it needs.
func (w *world) opens(sealed []byte) []byte {
	w.t.Helper()
	after := func(mark []byte) []byte {
		_, rest, ok := bytes.Cut(sealed, mark)
		if !ok {
			w.t.Fatalf("no %x in %x", mark, sealed)
		}
		var value []byte
		if _, err := asn1.Unmarshal(rest, &value); err != nil {
			w.t.Fatal(err)
		}
		return value
	}
	contentKey, err := rsa.DecryptOAEP(sha256.New(), nil, w.enclave.Recipient, after([]byte("\x65\x03\x04\x02\x01\x05\x00\xa1\x1c\x30\x1a\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00")), nil)
	w.must(err)
	aesCBC := []byte("\x60\x86\x48\x01\x65\x03\x04\x01\x2a")
	iv := after(aesCBC)
	content := after(append(append(append(append([]byte{}, aesCBC...), 4, 16), iv...), 0xa0, 0x80))
	block, err := aes.NewCipher(contentKey)
	w.must(err)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(content, content)
	return content[:len(content)-int(content[len(content)-1])]
}

// Each of the five operations answers for the enclave, and nothing in the clear.
func TestRecipient(t *testing.T) {
	w := newAttestedWorld(t)
	id, _ := w.newKey()
	plaintext := []byte("for the enclave only")
	blob := w.encrypt(id, plaintext, nil)

	opened := do[*kmsapi.DecryptResponse](w, "Decrypt", in{"CiphertextBlob": blob, "Recipient": w.recipient(nil)})
	if got := w.opens(opened.CiphertextForRecipient); !opened.Plaintext.IsZero() || !bytes.Equal(got, plaintext) || opened.KeyMaterialID.V == "" {
		t.Errorf("Decrypt: %x", got)
	}
	r := w.lastRecord()["additionalEventData"].(in)["recipient"].(in)
	want := map[string]string{"attestationDocumentModuleId": w.enclave.ModuleID, "attestationDocumentEnclaveImageDigest": base64.StdEncoding.EncodeToString(w.enclave.PCRs[0])}
	for _, n := range []int{1, 2, 3, 4, 8} {
		want["attestationDocumentEnclavePCR"+string(rune('0'+n))] = base64.StdEncoding.EncodeToString(w.enclave.PCRs[n])
	}
	for name, value := range want {
		if r[name] != value || len(r) != len(want) {
			t.Errorf("record: %v", r)
		}
	}

	data := do[*kmsapi.GenerateDataKeyResponse](w, "GenerateDataKey", in{"KeyId": id, "KeySpec": "AES_256", "Recipient": w.recipient(nil)})
	if !data.Plaintext.IsZero() {
		t.Error("GenerateDataKey answers in the clear")
	}
	w.decrypts(data.CiphertextBlob, w.opens(data.CiphertextForRecipient), nil)

	pair := do[*kmsapi.GenerateDataKeyPairResponse](w, "GenerateDataKeyPair", in{"KeyId": id, "KeyPairSpec": "RSA_4096", "Recipient": w.recipient(nil)})
	if !pair.PrivateKeyPlaintext.IsZero() || len(pair.PublicKey) == 0 {
		t.Error("GenerateDataKeyPair answers in the clear")
	}
	w.decrypts(pair.PrivateKeyCiphertextBlob, w.opens(pair.CiphertextForRecipient), nil)

	random := do[*kmsapi.GenerateRandomResponse](w, "GenerateRandom", in{"NumberOfBytes": 1024, "Recipient": w.recipient(nil)})
	if !random.Plaintext.IsZero() || len(w.opens(random.CiphertextForRecipient)) != 1024 {
		t.Error("GenerateRandom")
	}
	if r := w.lastRecord()["additionalEventData"].(in); r["recipient"] == nil {
		t.Errorf("record: %v", r)
	}

	agreement := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}).KeyMetadata.KeyID.V
	request := in{"KeyId": agreement, "KeyAgreementAlgorithm": "ECDH", "PublicKey": do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": agreement}).PublicKey}
	clear := do[*kmsapi.DeriveSharedSecretResponse](w, "DeriveSharedSecret", request)
	request["Recipient"] = w.recipient(nil)
	derived := do[*kmsapi.DeriveSharedSecretResponse](w, "DeriveSharedSecret", request)
	if !derived.SharedSecret.IsZero() || !bytes.Equal(w.opens(derived.CiphertextForRecipient), clear.SharedSecret.Expose()) {
		t.Error("DeriveSharedSecret")
	}
}

// answersCode requires an error by its code. It does not show the request, which is long.
func (w *world) answersCode(code wire.Code, operation string, request in) {
	w.t.Helper()
	if _, failure := w.try(operation, request); failure == nil || failure.Code != code {
		w.t.Errorf("%s: %v, not %s", operation, failure, code)
	}
}

// withRecipient are requests of all operations that can have one, without it.
func (w *world) withRecipient() map[string]in {
	id, _ := w.newKey()
	agreement := do[*kmsapi.CreateKeyResponse](w, "CreateKey", in{"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}).KeyMetadata.KeyID.V
	public := do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": agreement}).PublicKey
	return map[string]in{
		"Decrypt":             {"KeyId": id, "CiphertextBlob": w.encrypt(id, []byte("x"), nil)},
		"GenerateDataKey":     {"KeyId": id, "KeySpec": "AES_256"},
		"GenerateDataKeyPair": {"KeyId": id, "KeyPairSpec": "ECC_NIST_P256"},
		"GenerateRandom":      {"NumberOfBytes": 32},
		"DeriveSharedSecret":  {"KeyId": agreement, "KeyAgreementAlgorithm": "ECDH", "PublicKey": public},
	}
}

func TestRefusedRecipients(t *testing.T) {
	w := newAttestedWorld(t)
	good := w.enclave.Document(nil)
	for what, bad := range map[string]in{
		"nothing":        {},
		"no document":    {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256"},
		"no algorithm":   {"AttestationDocument": good},
		"garbage":        {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": []byte("garbage")},
		"altered":        {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1)},
		"another root":   {"KeyEncryptionAlgorithm": "RSAES_OAEP_SHA_256", "AttestationDocument": attesttest.New(t, w.now()).Document(nil)},
		"old":            w.recipient(map[string]any{"timestamp": w.now().Add(-time.Hour).UnixMilli()}),
		"no public key":  w.recipient(map[string]any{"public_key": nil}),
		"both PCR kinds": w.recipient(map[string]any{"nitrotpm_pcrs": w.enclave.PCRs}),
	} {
		for operation, request := range w.withRecipient() {
			request["Recipient"] = bad
			t.Run(operation+" with "+what, func(*testing.T) { w.answersCode(wire.CodeValidation, operation, request) })
		}
	}
	for operation, request := range w.withRecipient() {
		request["Recipient"] = w.recipient(nil)
		if operation != "GenerateRandom" { // which has no dry run
			request["DryRun"] = true
			w.answersCode("DryRunOperationException", operation, request)
		}
	}
	w.verifier = nil
	w.open()
	for operation, request := range w.withRecipient() {
		request["Recipient"] = w.recipient(nil)
		w.answersCode("UnsupportedOperationException", operation, request)
	}
}

// A policy can bind a key to one image of an enclave; what a document that does not hold says is no fact, and the refusal does
// not come before authorization.
func TestPoliciesAboutEnclaves(t *testing.T) {
	w := newAttestedWorld(t)
	id, _ := w.newKey()
	blob := w.encrypt(id, []byte("x"), nil)
	u := w.user("u")
	image := strings.ToUpper(hex.EncodeToString(w.enclave.PCRs[0]))
	u = u.may(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateRandom"],"Resource":"*","Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"` + image + `"}}}]}`)
	decrypt := func(recipient in) in {
		request := in{"CiphertextBlob": blob}
		if recipient != nil {
			request["Recipient"] = recipient
		}
		return request
	}
	u.done("Decrypt", decrypt(w.recipient(nil)))
	u.done("GenerateRandom", in{"NumberOfBytes": 8, "Recipient": w.recipient(nil)})
	u.answersCode("AccessDeniedException", "Decrypt", decrypt(nil))
	u.answersCode("AccessDeniedException", "GenerateRandom", in{"NumberOfBytes": 8})
	other := map[int][]byte{0: make([]byte, 48)}
	u.answersCode("AccessDeniedException", "Decrypt", decrypt(w.recipient(map[string]any{"pcrs": other})))
	u.answersCode("AccessDeniedException", "Decrypt", decrypt(w.recipient(map[string]any{"pcrs": nil, "nitrotpm_pcrs": w.enclave.PCRs})))
	u.answersCode("AccessDeniedException", "Decrypt", decrypt(w.recipient(map[string]any{"timestamp": 1})))
	u.answersCode("AccessDeniedException", "GenerateDataKey", in{"KeyId": id, "KeySpec": "AES_256", "Recipient": w.recipient(nil)})
}

// A document is verified for callers only whom it could help: one who may do nothing spends nothing on it, and others wait for
// their turn with it.
func TestRecipientsAreMetLate(t *testing.T) {
	w := newAttestedWorld(t)
	requests := w.withRecipient()
	for range runtime.GOMAXPROCS(0) { // so that who verifies a document waits
		end, err := w.custody.Turn(t.Context(), bob)
		w.must(err)
		defer end()
	}
	nothing := w.user("u")
	asking := nothing.may(allowing(`"kms:*"`, "*", `{"StringEquals":{"kms:EncryptionContext:stage":"prod"}}`))
	enclaves := nothing.may(allowing(`"kms:*"`, "*", `{"StringLike":{"kms:RecipientAttestation:ImageSha384":"*"}}`))
	for operation, request := range requests {
		request["Recipient"] = w.recipient(nil)
		op := w.operations[operation]
		for who, c := range map[string]struct {
			*world
			meets bool
		}{
			"nothing": {nothing, false}, "something else": {asking, false}, "what enclaves may": {enclaves, true}, "everything": {w, true},
		} {
			input := op.New()
			if err := decodeInto(request, input.(wire.JSONInput)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/20)
			if !c.meets {
				ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
			}
			_, failure := c.answer(ctx, &op, input)
			if waited := ctx.Err() != nil; failure == nil || waited != c.meets || !waited && failure.Code != wire.CodeAccessDenied {
				t.Errorf("%s by a caller who may do %s: waited: %v, %v", operation, who, waited, failure)
			}
			cancel()
		}
	}
}
