package keywrap_test

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
)

func generate(t testing.TB, s key.Spec) keyspec.Private {
	t.Helper()
	k, err := keyspec.Generate(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEveryAlgorithmUnwrapsWhatItWrapped(t *testing.T) {
	p521, rsa := generate(t, keyspec.P521).Octets(), generate(t, keyspec.RSA2048).Octets()
	tests := []struct {
		wrapping  key.Spec
		algorithm string
		material  []byte
		err       error
	}{
		{keyspec.RSA2048, keywrap.OAEPSHA1, make([]byte, 32), nil},
		{keyspec.RSA2048, keywrap.OAEPSHA256, make([]byte, 128), nil},
		{keyspec.RSA2048, keywrap.OAEPSHA256, p521.Expose(), keywrap.ErrSize},
		{keyspec.RSA3072, keywrap.OAEPSHA256, p521.Expose(), nil},
		{keyspec.RSA2048, keywrap.AESWrapSHA1, rsa.Expose(), nil},
		{keyspec.RSA3072, keywrap.AESWrapSHA256, rsa.Expose(), nil},
		{keyspec.RSA4096, keywrap.AESWrapSHA256, []byte{1}, nil},
		{keyspec.RSA4096, keywrap.AESWrapSHA256, nil, keywrap.ErrSize},
		{keyspec.RSA2048, keywrap.OAEPSHA256, nil, keywrap.ErrSize},
		{keyspec.SM2, keywrap.SM2PKE, p521.Expose(), nil},
		{keyspec.SM2, keywrap.OAEPSHA256, make([]byte, 32), keywrap.ErrAlgorithm},
		{keyspec.SM2, keywrap.AESWrapSHA256, make([]byte, 32), keywrap.ErrAlgorithm},
		{keyspec.RSA2048, keywrap.SM2PKE, make([]byte, 32), keywrap.ErrAlgorithm},
		{keyspec.RSA2048, "RSAES_PKCS1_V1_5", make([]byte, 32), keywrap.ErrAlgorithm},
		{keyspec.P256, keywrap.OAEPSHA256, make([]byte, 32), keywrap.ErrAlgorithm},
	}
	for _, test := range tests {
		k := generate(t, test.wrapping)
		blob, err := keywrap.Wrap(test.algorithm, k.Public(), test.material)
		if !errors.Is(err, test.err) {
			t.Errorf("%s with %s: %v", test.algorithm, test.wrapping, err)
		}
		if err != nil {
			if _, err := keywrap.Unwrap(test.algorithm, test.wrapping, k, make([]byte, 512)); err == nil {
				t.Errorf("%s with %s unwrapped nothing", test.algorithm, test.wrapping)
			}
			continue
		}
		if !keywrap.Fits(test.wrapping, test.algorithm, len(blob)) {
			t.Errorf("%s with %s: %d octets do not fit", test.algorithm, test.wrapping, len(blob))
		}
		got, err := keywrap.Unwrap(test.algorithm, test.wrapping, k, blob)
		if err != nil || !bytes.Equal(got.Expose(), test.material) {
			t.Errorf("%s with %s: %v", test.algorithm, test.wrapping, err)
		}
		for _, at := range []int{0, len(blob) / 2, len(blob) - 1} {
			blob[at] ^= 1
			if _, err := keywrap.Unwrap(test.algorithm, test.wrapping, k, blob); !errors.Is(err, keywrap.ErrUnwrap) {
				t.Errorf("%s with octet %d altered: %v", test.algorithm, at, err)
			}
			blob[at] ^= 1
		}
		for _, size := range []int{0, 1, len(blob) - 1, len(blob) - 8} {
			if _, err := keywrap.Unwrap(test.algorithm, test.wrapping, k, blob[:size]); !errors.Is(err, keywrap.ErrUnwrap) {
				t.Errorf("%d octets of %s: %v", size, test.algorithm, err)
			}
		}
		if _, err := keywrap.Unwrap(test.algorithm, test.wrapping, generate(t, test.wrapping), blob); !errors.Is(err, keywrap.ErrUnwrap) {
			t.Errorf("%s with another key: %v", test.algorithm, err)
		}
	}
}

// The AES key of RSA_AES_KEY_WRAP is one of AES-256.
func TestShortAESKeys(t *testing.T) {
	k := generate(t, keyspec.RSA2048)
	for size, want := range map[int]error{16: keywrap.ErrUnwrap, 24: keywrap.ErrUnwrap, 32: nil, 33: keywrap.ErrUnwrap} {
		aesKey := make([]byte, size)
		encrypted, err := keywrap.Wrap(keywrap.OAEPSHA256, k.Public(), aesKey)
		if err != nil {
			t.Fatal(err)
		}
		block, err := aes.NewCipher(aesKey[:min(size, 32)])
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := keywrap.WrapKWP(block, []byte("material"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keywrap.Unwrap(keywrap.AESWrapSHA256, keyspec.RSA2048, k, append(encrypted, wrapped...)); !errors.Is(err, want) {
			t.Errorf("an AES key of %d octets: %v", size, err)
		}
	}
}

func TestFits(t *testing.T) {
	tests := []struct {
		wrapping  key.Spec
		algorithm string
		size      int
		want      bool
	}{
		{keyspec.RSA2048, keywrap.OAEPSHA256, 256, true},
		{keyspec.RSA2048, keywrap.OAEPSHA256, 255, false},
		{keyspec.RSA3072, keywrap.OAEPSHA1, 384, true},
		{keyspec.RSA2048, keywrap.AESWrapSHA256, 256, false},
		{keyspec.RSA2048, keywrap.AESWrapSHA256, 256 + 8, false},
		{keyspec.RSA2048, keywrap.AESWrapSHA256, 256 + 16, true},
		{keyspec.RSA2048, keywrap.AESWrapSHA256, 256 + 17, false},
		{keyspec.RSA2048, keywrap.SM2PKE, 256, false},
		{keyspec.SM2, keywrap.SM2PKE, 140, true},
		{keyspec.SM2, keywrap.OAEPSHA256, 256, false},
		{keyspec.P256, keywrap.OAEPSHA256, 256, false},
		{keyspec.RSA2048, "OTHER", 256, false},
	}
	for _, test := range tests {
		if got := keywrap.Fits(test.wrapping, test.algorithm, test.size); got != test.want {
			t.Errorf("%s, %s, %d octets: %v", test.wrapping, test.algorithm, test.size, got)
		}
	}
	for _, r := range keyspec.All() {
		if got := len(keywrap.Algorithms(r.Spec)); (got > 0) != r.Wrapping {
			t.Errorf("%s has %d wrapping algorithms", r.Spec, got)
		}
	}
	if keywrap.Algorithms("OTHER") != nil {
		t.Error("algorithms of a spec that is none")
	}
}

// The two vectors of RFC 5649, section 6.
func TestRFC5649(t *testing.T) {
	const kek = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"
	for _, v := range []struct{ key, wrapped string }{
		{"c37b7e6492584340bed12207808941155068f738", "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{"466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		block, err := aes.NewCipher(unhex(t, kek))
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := keywrap.WrapKWP(block, unhex(t, v.key))
		if err != nil || hex.EncodeToString(wrapped) != v.wrapped {
			t.Errorf("wrapping %s: %x, %v", v.key, wrapped, err)
		}
		got, err := keywrap.UnwrapKWP(block, unhex(t, v.wrapped))
		if err != nil || hex.EncodeToString(got.Expose()) != v.key {
			t.Errorf("unwrapping %s: %v", v.wrapped, err)
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func FuzzUnwrap(f *testing.F) {
	k := generate(f, keyspec.RSA2048)
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		f.Fatal(err)
	}
	for _, size := range []int{1, 8, 9, 32, 300} {
		wrapped, err := keywrap.WrapKWP(block, make([]byte, size))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wrapped)
		blob, err := keywrap.Wrap(keywrap.AESWrapSHA256, k.Public(), make([]byte, size))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(blob)
	}
	f.Fuzz(func(t *testing.T, blob []byte) {
		if got, err := keywrap.UnwrapKWP(block, blob); err == nil {
			again, err := keywrap.WrapKWP(block, got.Expose())
			if err != nil || !bytes.Equal(again, blob) {
				t.Errorf("%x unwraps to what wraps to %x", blob, again)
			}
		}
		for _, algorithm := range keywrap.Algorithms(keyspec.RSA2048) {
			if _, err := keywrap.Unwrap(algorithm, keyspec.RSA2048, k, blob); err != nil && !errors.Is(err, keywrap.ErrUnwrap) {
				t.Errorf("%s: %v", algorithm, err)
			}
		}
	})
}
