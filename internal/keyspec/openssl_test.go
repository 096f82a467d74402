package keyspec_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// openssl runs the program in a directory of files; nil means that it failed.
func openssl(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("openssl %s: %v: %s", strings.Join(args, " "), err, complaint.String())
		return nil
	}
	return out
}

func write(t *testing.T, dir, name string, octets []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), octets, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOpenSSL has keys of OpenSSL's imported here, and each side use what the other made.
func TestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal(err)
	}
	const pss = "rsa_padding_mode:pss rsa_pss_saltlen:digest"
	for _, test := range []struct {
		spec      key.Spec
		generate  string // options of genpkey
		algorithm string
		digest    string // of pkeyutl
		options   string // likewise, pkeyopt
	}{
		{keyspec.RSA2048, "-algorithm RSA -pkeyopt rsa_keygen_bits:2048", "RSASSA_PKCS1_V1_5_SHA_384", "sha384", ""},
		{keyspec.RSA3072, "-algorithm RSA -pkeyopt rsa_keygen_bits:3072", "RSASSA_PSS_SHA_256", "sha256", pss},
		{keyspec.P256, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "ECDSA_SHA_256", "sha256", ""},
		{keyspec.P384, "-algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ECDSA_SHA_384", "sha384", ""},
		{keyspec.P521, "-algorithm EC -pkeyopt ec_paramgen_curve:P-521", "ECDSA_SHA_512", "sha512", ""},
		{keyspec.P256K1, "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", "ECDSA_SHA_256", "sha256", ""},
		{keyspec.SM2, "-algorithm EC -pkeyopt ec_paramgen_curve:SM2", "SM2DSA", "sm3", "distid:1234567812345678"},
		{keyspec.Ed25519, "-algorithm ED25519", "ED25519_SHA_512", "", ""},
	} {
		t.Run(string(test.spec), func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "generated.pem", openssl(t, dir, append([]string{"genpkey"}, strings.Fields(test.generate)...)...))
			private := openssl(t, dir, "pkcs8", "-topk8", "-nocrypt", "-in", "generated.pem", "-outform", "DER")
			k, err := keyspec.Parse(test.spec, private)
			if err != nil {
				t.Fatal(err)
			}
			octets := k.Octets().Expose()
			write(t, dir, "theirs.der", private)
			write(t, dir, "private.der", octets)
			write(t, dir, "public.der", k.Public().SPKI())
			message := []byte("a message")
			write(t, dir, "message", message)
			if spki := openssl(t, dir, "pkey", "-in", "private.der", "-inform", "DER", "-pubout", "-outform", "DER"); !bytes.Equal(spki, k.Public().SPKI()) {
				t.Error("another SPKI")
			}
			signature, err := k.(keyspec.Signer).Sign(test.algorithm, keyspec.Raw, message)
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, "signature", signature)
			options := []string{"-rawin", "-in", "message"}
			if test.digest != "" {
				options = append(options, "-digest", test.digest)
			}
			for _, o := range strings.Fields(test.options) {
				options = append(options, "-pkeyopt", o)
			}
			openssl(t, dir, append([]string{"pkeyutl", "-verify", "-pubin", "-inkey", "public.der", "-keyform", "DER", "-sigfile", "signature"}, options...)...)
			theirs := openssl(t, dir, append([]string{"pkeyutl", "-sign", "-inkey", "theirs.der", "-keyform", "DER"}, options...)...)
			if !k.Public().(keyspec.Verifier).Verify(test.algorithm, keyspec.Raw, message, theirs) {
				t.Error("its signature does not verify")
			}
			opensslEncryption(t, dir, k)
			opensslAgreement(t, dir, test.spec, k)
		})
	}
}

func opensslEncryption(t *testing.T, dir string, k keyspec.Private) {
	decrypter, ok := k.(keyspec.Decrypter)
	if !ok {
		return
	}
	for algorithm, options := range map[string][]string{
		"RSAES_OAEP_SHA_1":   {"-pkeyopt", "rsa_padding_mode:oaep"},
		"RSAES_OAEP_SHA_256": {"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256"},
		"SM2PKE":             nil,
	} {
		ours, err := k.Public().(keyspec.Encrypter).Encrypt(algorithm, []byte("a message"))
		if err != nil {
			continue // of the other kind of key
		}
		write(t, dir, "ciphertext", ours)
		if got := openssl(t, dir, append([]string{"pkeyutl", "-decrypt", "-inkey", "private.der", "-keyform", "DER", "-in", "ciphertext"}, options...)...); string(got) != "a message" {
			t.Errorf("%s: it decrypts to %q", algorithm, got)
		}
		theirs := openssl(t, dir, append([]string{"pkeyutl", "-encrypt", "-pubin", "-inkey", "public.der", "-keyform", "DER", "-in", "message"}, options...)...)
		if got, err := decrypter.Decrypt(algorithm, theirs); err != nil || string(got.Expose()) != "a message" {
			t.Errorf("%s: decrypting its ciphertext: %v", algorithm, err)
		}
	}
}

func opensslAgreement(t *testing.T, dir string, s key.Spec, k keyspec.Private) {
	if len(keyspec.Of(s).Agreement) == 0 || s == keyspec.SM2 { // OpenSSL has no plain ECDH for SM2 keys
		return
	}
	peer, err := keyspec.Generate(s)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "peer.der", peer.Public().SPKI())
	theirs := openssl(t, dir, "pkeyutl", "-derive", "-inkey", "private.der", "-keyform", "DER", "-peerkey", "peer.der", "-peerform", "DER")
	if got, err := peer.(keyspec.Agreer).Agree(k.Public().SPKI()); err != nil || !bytes.Equal(got.Expose(), theirs) {
		t.Errorf("it agrees on another secret: %v", err)
	}
}
