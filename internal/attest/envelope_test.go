package attest_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/attest/attesttest"
)

func attested(t testing.TB) (*attesttest.Enclave, *attest.Document) {
	t.Helper()
	e := attesttest.New(t, now)
	d, err := verifier(t, e).Verify(e.Document(nil), now)
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

func TestOpenSSLOpensAnswers(t *testing.T) {
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal(err) // scripts/setup installs it
	}
	e, d := attested(t)
	der, err := x509.MarshalPKCS8PrivateKey(e.Recipient)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile, sealedFile := filepath.Join(dir, "key.pem"), filepath.Join(dir, "sealed")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 15, 16, 32, 256, 1024, 2400, 4096} {
		plaintext := bytes.Repeat([]byte{byte(n), '\n'}, n)[:n]
		sealed, err := d.Encrypt(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if len(sealed) > 6144 {
			t.Errorf("%d octets become %d", n, len(sealed))
		}
		if err := os.WriteFile(sealedFile, sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		var complaint bytes.Buffer
		command := exec.CommandContext(t.Context(), path, "cms", "-decrypt", "-binary", "-inform", "DER", "-in", sealedFile, "-inkey", keyFile)
		command.Stderr = &complaint
		got, err := command.Output()
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d octets: %x, %v %s", n, got, err, &complaint)
		}
	}
	if _, err := d.Encrypt(make([]byte, 4097)); err == nil {
		t.Error("a plaintext of any length is encrypted")
	}
}

// The form is that of a real answer: 28 octets become 477, and the parts that do not depend on keys are these.
func TestEnvelopeForm(t *testing.T) {
	e, d := attested(t)
	plaintext := []byte("a secret of 28 octets, just.")
	sealed, err := d.Encrypt(plaintext)
	if err != nil {
		t.Fatal(err)
	}
	if len(sealed) != 477 {
		t.Errorf("%d octets", len(sealed))
	}
	spki, err := x509.MarshalPKIXPublicKey(e.Recipient.Public())
	if err != nil {
		t.Fatal(err)
	}
	keyID := sha256.Sum256(spki)
	rest := sealed
	take := func(n int) []byte {
		t.Helper()
		if len(rest) < n {
			t.Fatalf("only %d octets are left", len(rest))
		}
		part := rest[:n]
		rest = rest[n:]
		return part
	}
	expect := func(what, want string) {
		t.Helper()
		if got := hex.EncodeToString(take(len(want) / 2)); got != want {
			t.Fatalf("%s: %s, not %s", what, got, want)
		}
	}
	expect("ContentInfo", "308006092a864886f70d010703a080")
	expect("EnvelopedData", "3080020102")
	expect("RecipientInfos", "3182016b30820167020102")
	expect("identifier", "8020"+hex.EncodeToString(keyID[:]))
	expect("OAEP", "303c06092a864886f70d010107302f"+"a00f300d06096086480165030402010500"+"a11c301a06092a864886f70d010108300d06096086480165030402010500")
	expect("encrypted key", "04820100")
	contentKey, err := rsa.DecryptOAEP(sha256.New(), nil, e.Recipient, take(256), nil)
	if err != nil {
		t.Fatal(err)
	}
	expect("EncryptedContentInfo", "308006092a864886f70d010701301d060960864801650304012a0410")
	iv := take(16)
	expect("content", "a0800420")
	content := bytes.Clone(take(32))
	expect("the ends", "00000000000000000000")
	if len(rest) != 0 {
		t.Errorf("%d octets behind the end", len(rest))
	}
	block, err := aes.NewCipher(contentKey)
	if err != nil || len(contentKey) != 32 {
		t.Fatalf("%d octets: %v", len(contentKey), err)
	}
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(content, content)
	if want := append(plaintext, 4, 4, 4, 4); !bytes.Equal(content, want) {
		t.Errorf("%x", content)
	}
	again, err := d.Encrypt(plaintext)
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("the same answer twice, %v", err)
	}
}
