package soft_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/keywrap"
)

// importFailures are all that import may say of bad input.
var importFailures = []error{
	custody.ErrImportToken, custody.ErrImportTokenExpired, custody.ErrImportSize, custody.ErrImportUnwrap, custody.ErrImportMaterial,
}

func FuzzImportTokenText(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x01\x9b\x00\x00\x00\x00\x06SM2PKE\x03SM2key"))
	f.Add([]byte("\x01\x00\x00\x01\x9b\x00\x00\x00\x00\x06SM2PKE\x03SM2"))
	f.Add([]byte("\x01\x80\x00\x00\x00\x00\x00\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, octets []byte) {
		if again, ok := soft.ReadImportToken(octets); ok && !bytes.Equal(again, octets) {
			t.Errorf("%x is read as %x", octets, again)
		}
	})
}

// What is sent as a token or as material gives material, or one of the errors that clients may see.
func FuzzImport(f *testing.F) {
	e := soft.New(root(f.Context(), f.Fatal)())
	k := &key.Key{Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}, Spec: keyspec.P256}
	now := time.Now()
	public, token, err := e.WrappingKey(f.Context(), k, custody.Wrapping{Algorithm: "RSA_AES_KEY_WRAP_SHA_256", Spec: keyspec.RSA2048}, now.Add(time.Hour))
	if err != nil {
		f.Fatal(err)
	}
	to, err := keyspec.ParsePublic(keyspec.RSA2048, public)
	if err != nil {
		f.Fatal(err)
	}
	material, err := keyspec.Generate(k.Spec)
	if err != nil {
		f.Fatal(err)
	}
	blob, err := keywrap.Wrap("RSA_AES_KEY_WRAP_SHA_256", to, material.Octets().Expose())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(-1, byte(0), blob)
	f.Add(-1, byte(0), blob[:len(blob)-8])
	f.Add(-1, byte(0), append(bytes.Clone(blob[:256]), make([]byte, 64)...))
	f.Add(10, byte(1), blob)
	f.Fuzz(func(t *testing.T, at int, change byte, encrypted []byte) {
		sent := bytes.Clone(token)
		if at >= 0 {
			sent[at%len(sent)] ^= change
		}
		_, wrapped, _, err := e.OpenImport(k, sent, encrypted, now)
		if err == nil {
			if len(wrapped) == 0 || !bytes.Equal(sent, token) {
				t.Error("imported nothing, or by an altered token")
			}
			return
		}
		for _, known := range importFailures {
			if errors.Is(err, known) {
				return
			}
		}
		t.Error(err)
	})
}
