package goclient_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keywright/keywright/conformance/server"
	"github.com/keywright/keywright/internal/attest/attesttest"
)

// enclave is an enclave under a root of its own, and a server that trusts that root.
type enclave struct {
	*attesttest.Enclave
	dir string
	c   *kms.Client
}

func startAttested(t *testing.T) *enclave {
	t.Helper()
	e := &enclave{Enclave: attesttest.New(t, time.Now()), dir: t.TempDir()}
	der, err := x509.MarshalPKCS8PrivateKey(e.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"roots.pem": e.Roots(), "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	} {
		if err := os.WriteFile(filepath.Join(e.dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.c = server.Start(t, "", filepath.Join(e.dir, "log"), "--attestation-roots", filepath.Join(e.dir, "roots.pem")).KMS()
	return e
}

func (e *enclave) recipient() *types.RecipientInfo {
	return &types.RecipientInfo{
		KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256, AttestationDocument: e.Document(nil),
	}
}

// opened returns what OpenSSL finds in an answer with the enclave's key.
func (e *enclave) opened(t *testing.T, sealed []byte) []byte {
	t.Helper()
	file := filepath.Join(e.dir, "sealed")
	if err := os.WriteFile(file, sealed, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", file, "-inkey", filepath.Join(e.dir, "key.pem"))
	out, err := command.Output()
	if err != nil {
		t.Fatalf("openssl: %v", err)
	}
	return out
}

// An enclave gets the secrets of all five operations, and nobody else on the way does.
func TestEnclave(t *testing.T) {
	e := startAttested(t)
	ctx := server.Context(t)
	k := newKey(t, e.c)

	data := must[*kms.GenerateDataKeyOutput](t)(e.c.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{
		KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256, Recipient: e.recipient(),
	}))
	inClear := must[*kms.DecryptOutput](t)(e.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob})).Plaintext
	if data.Plaintext != nil || !bytes.Equal(e.opened(t, data.CiphertextForRecipient), inClear) {
		t.Error("the data key for the enclave is another, or was answered in the clear")
	}

	plain := must[*kms.DecryptOutput](t)(e.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob, Recipient: e.recipient()}))
	if plain.Plaintext != nil || !bytes.Equal(e.opened(t, plain.CiphertextForRecipient), inClear) {
		t.Error("the plaintext for the enclave is another, or was answered in the clear")
	}

	random := must[*kms.GenerateRandomOutput](t)(e.c.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1024), Recipient: e.recipient()}))
	if random.Plaintext != nil || len(e.opened(t, random.CiphertextForRecipient)) != 1024 {
		t.Error("random octets for the enclave have another length, or were answered in the clear")
	}

	pair := must[*kms.GenerateDataKeyPairOutput](t)(e.c.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{
		KeyId: k.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256, Recipient: e.recipient(),
	}))
	private := must[*kms.DecryptOutput](t)(e.c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: pair.PrivateKeyCiphertextBlob})).Plaintext
	if pair.PrivateKeyPlaintext != nil || !bytes.Equal(e.opened(t, pair.CiphertextForRecipient), private) {
		t.Error("the private key for the enclave is another, or was answered in the clear")
	}

	agreeing := must[*kms.CreateKeyOutput](t)(e.c.CreateKey(ctx, &kms.CreateKeyInput{
		KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement,
	})).KeyMetadata
	agree := &kms.DeriveSharedSecretInput{
		KeyId: agreeing.KeyId, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: pair.PublicKey,
	}
	shared := must[*kms.DeriveSharedSecretOutput](t)(e.c.DeriveSharedSecret(ctx, agree)).SharedSecret
	agree.Recipient = e.recipient()
	agreed := must[*kms.DeriveSharedSecretOutput](t)(e.c.DeriveSharedSecret(ctx, agree))
	if agreed.SharedSecret != nil || !bytes.Equal(e.opened(t, agreed.CiphertextForRecipient), shared) {
		t.Error("the shared secret for the enclave is another, or was answered in the clear")
	}
}

// A document of another root is no document.
func TestForeignEnclave(t *testing.T) {
	e := startAttested(t)
	foreign := &enclave{Enclave: attesttest.New(t, time.Now())}
	_, err := e.c.GenerateRandom(server.Context(t), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32), Recipient: foreign.recipient()})
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != "ValidationException" {
		t.Errorf("%v", err)
	}
}
