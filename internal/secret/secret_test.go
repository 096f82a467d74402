package secret_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/secret"
)

const content = "correct-horse-battery-staple"

// holder is what a careless author might print: a secret inside other values.
type holder struct {
	Name   string
	Secret secret.Bytes
	Deep   *struct{ Inner []secret.Bytes }
	hidden secret.Bytes
}

func TestNoVerbPrintsIt(t *testing.T) {
	s := secret.FromString(content)
	h := holder{Name: "n", Secret: s, Deep: &struct{ Inner []secret.Bytes }{[]secret.Bytes{s}}, hidden: s}
	hexed := fmt.Sprintf("%x", content)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%c", "%U", "%t", "%p", "%T"} {
		for _, v := range []any{s, &s, h, &h, struct{ s *secret.Bytes }{&s}, struct{ a any }{s}, []secret.Bytes{s}, map[string]secret.Bytes{"k": s}, any(s)} {
			got := fmt.Sprintf(verb, v)
			for _, leak := range []string{content, hexed, "99 111 114", "[99, 111"} {
				if strings.Contains(strings.ToLower(got), leak) {
					t.Errorf("Sprintf(%q, %T) leaks: %s", verb, v, got)
				}
			}
		}
	}
}

func TestNoEncoderWritesIt(t *testing.T) {
	s := secret.FromString(content)
	var buf bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
		slog.New(h).Info("x", "secret", s, "holder", holder{Secret: s}, slog.Group("g", "s", s))
	}
	if err := json.NewEncoder(&buf).Encode(holder{Secret: s}); err != nil {
		t.Fatal(err)
	}
	if err := xml.NewEncoder(&buf).Encode(s); err != nil {
		t.Fatal(err)
	}
	if err := gob.NewEncoder(&buf).Encode(s); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(buf.String(), content) {
		t.Errorf("an encoder leaks the secret: %s", buf.String())
	}
	if !strings.Contains(buf.String(), secret.Redacted) {
		t.Errorf("nothing says that a value was redacted: %s", buf.String())
	}
}

func TestValues(t *testing.T) {
	src := []byte(content)
	a, b := secret.Copy(src), secret.FromString(content)
	src[0] = 'X'
	if !a.Equal(b) || string(a.Expose()) != content || a.Len() != len(content) {
		t.Error("Copy must not share the caller's octets")
	}
	if a.Equal(secret.FromString("other")) || a.Equal(secret.Bytes{}) {
		t.Error("different secrets are equal")
	}
	if !(secret.Bytes{}).IsZero() || !secret.Copy(nil).IsZero() || secret.Copy([]byte{}).IsZero() {
		t.Error("zero must mean absent, and only that")
	}
	a.Wipe()
	if !bytes.Equal(a.Expose(), make([]byte, len(content))) {
		t.Error("Wipe left octets")
	}
	owned := []byte("o")
	if &secret.Take(owned).Expose()[0] != &owned[0] {
		t.Error("Take copied")
	}
}
