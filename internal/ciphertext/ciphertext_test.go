package ciphertext_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/ciphertext"
)

func header(multi bool) ciphertext.Header {
	h := ciphertext.Header{Account: "000022223333", Key: "1234abcd-12ab-34cd-56ef-1234567890ab"}
	if multi {
		h.Key = "mrk-1234abcd12ab34cd56ef1234567890ab"
	}
	for i := range h.Material {
		h.Material[i] = byte(i)
	}
	for i := range h.Nonce {
		h.Nonce[i] = byte(0xf0 + i)
	}
	return h
}

// The octets of the header, written out by hand from the table in the package: a change of the format must change the
// version.
const headerHex = "4b57" + "01" + "00" + "00000000015319e5" + "1234abcd12ab34cd56ef1234567890ab" +
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" + "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"

func TestHeaderKnownAnswer(t *testing.T) {
	for _, multi := range []bool{false, true} {
		h := header(multi)
		want := headerHex
		if multi {
			want = strings.Replace(want, "4b570100", "4b570101", 1)
		}
		got := h.Append(nil)
		if hex.EncodeToString(got) != want {
			t.Errorf("header\n got %x\nwant %s", got, want)
		}
		sealed := bytes.Repeat([]byte{7}, ciphertext.SealOverhead+1)
		back, rest, err := ciphertext.Parse(append(got, sealed...))
		if err != nil || back != h || !bytes.Equal(rest, sealed) {
			t.Errorf("Parse = %+v, %x, %v", back, rest, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	h := header(false)
	good := append(h.Append(nil), make([]byte, ciphertext.SealOverhead+1)...)
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for name, blob := range map[string][]byte{
		"empty": nil, "no plaintext": good[:len(good)-1], "header only": good[:ciphertext.HeaderSize],
		"magic": change(0, 'k'), "version": change(2, 2), "flags": change(3, 2), "account": change(4, 1),
		"a real service's blob": append([]byte{1, 2, 2, 0, 0x78}, good...),
	} {
		if _, _, err := ciphertext.Parse(blob); !errors.Is(err, ciphertext.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestContextKnownAnswers(t *testing.T) {
	for _, c := range []struct {
		context map[string]string
		want    string
	}{
		{nil, "00000000"},
		{map[string]string{}, "00000000"},
		{map[string]string{"a": ""}, "00000001" + "0000000161" + "00000000"},
		{map[string]string{"b": "2", "a": "1", "Z": "é"}, "00000003" + "000000015a" + "00000002c3a9" + "0000000161" + "0000000131" + "0000000162" + "0000000132"},
	} {
		if got := hex.EncodeToString(ciphertext.AppendContext(nil, c.context)); got != c.want {
			t.Errorf("%v\n got %s\nwant %s", c.context, got, c.want)
		}
	}
	h := header(false)
	raw := h.Append(nil)
	want := "keywright ciphertext v1\x00" + string(raw) + "\x00\x00\x00\x00"
	if got := ciphertext.AppendAssociatedData(nil, raw, nil); string(got) != want {
		t.Errorf("associated data %q", got)
	}
}

// parseContext reads the canonical form back, which shows that nothing is lost in it.
func parseContext(t *testing.T, b []byte) map[string]string {
	t.Helper()
	number := func() int {
		n := int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		b = b[4:]
		return n
	}
	text := func() string {
		n := number()
		s := string(b[:n])
		b = b[n:]
		return s
	}
	m := map[string]string{}
	for range number() {
		k := text()
		m[k] = text()
	}
	if len(b) != 0 {
		t.Fatalf("%d octets left over", len(b))
	}
	return m
}

func FuzzContext(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("", "ab", "a", "b")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		m := map[string]string{k1: v1, k2: v2}
		got := parseContext(t, ciphertext.AppendContext(nil, m))
		if len(got) != len(m) || got[k1] != m[k1] || got[k2] != m[k2] {
			t.Errorf("%q became %q", m, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	h := header(true)
	f.Add(append(h.Append(nil), make([]byte, 40)...))
	f.Add([]byte("KW"))
	f.Fuzz(func(t *testing.T, blob []byte) {
		h, sealed, err := ciphertext.Parse(blob)
		if err != nil {
			return
		}
		if again := append(h.Append(nil), sealed...); !bytes.Equal(again, blob) {
			t.Errorf("%x parses, but as %x", blob, again)
		}
		if _, err := arn.ParseAccount(string(h.Account)); err != nil {
			t.Error(err)
		}
	})
}
