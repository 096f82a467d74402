package keywrap_test

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/keywright/keywright/internal/keywrap"
)

// TestVectors runs the vectors of AES-KWP of the Wycheproof project. Its vectors of AES key wrap without padding (RFC 3394) are
// of an algorithm that nothing here has; they must not unwrap.
func TestVectors(t *testing.T) {
	kwp := run(t, "aes_kwp_test.json", func(v *vector, got []byte, err error) bool {
		if v.Result == "acceptable" {
			return true
		}
		return (err == nil) == (v.Result == "valid") && (err != nil || bytes.Equal(got, unhex(t, v.Msg)))
	})
	plain := run(t, "aes_wrap_test.json", func(_ *vector, _ []byte, err error) bool { return err != nil })
	t.Logf("%-26s %5d run", "AES-KWP", kwp)
	t.Logf("%-26s %5d run", "AES-KW, to be refused", plain)
	if kwp != 254 || plain != 165 {
		t.Error("other counts than before")
	}
}

type vector struct{ Key, Msg, Ct, Result string }

func run(t *testing.T, name string, good func(v *vector, got []byte, err error) bool) (count int) {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ TestGroups []struct{ Tests []*vector } }
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.TestGroups {
		for _, v := range g.Tests {
			block, err := aes.NewCipher(unhex(t, v.Key))
			if err != nil {
				t.Fatal(err)
			}
			got, err := keywrap.UnwrapKWP(block, unhex(t, v.Ct))
			if !good(v, got.Expose(), err) {
				t.Errorf("%s: unwrapping %s: %v, and it is %s", name, v.Ct, err, v.Result)
			}
			if err == nil && v.Result == "valid" {
				if again, err := keywrap.WrapKWP(block, got.Expose()); err != nil || hex.EncodeToString(again) != v.Ct {
					t.Errorf("%s: wrapping %s: %x, %v", name, v.Msg, again, err)
				}
			}
			count++
		}
	}
	return count
}
