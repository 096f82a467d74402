package kbkdf_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/kbkdf"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCAVP runs NIST's own vectors: CAVS 14.4, counter mode, HMAC-SHA-256, 32-bit counter before the fixed input data.
func TestCAVP(t *testing.T) {
	f, err := os.Open("testdata/cavp-kdfctr-hmac-sha256.rsp")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var key, fixed []byte
	var length, done int
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " = ")
		switch name {
		case "L":
			bits, err := strconv.Atoi(value)
			if err != nil || bits%8 != 0 {
				t.Fatalf("length %q", value)
			}
			length = bits / 8
		case "KI":
			key = unhex(t, value)
		case "FixedInputData":
			fixed = unhex(t, value)
		case "KO":
			if got := kbkdf.ExpandFixed(key, fixed, length); !bytes.Equal(got, unhex(t, value)) {
				t.Errorf("vector %d: got %x, want %s", done, got, value)
			}
			done++
		}
	}
	if done != 40 {
		t.Errorf("ran %d vectors, want 40", done)
	}
}

// TestLabelAndContext runs vectors whose fixed input data has the standard's form, made with pyca/cryptography and
// checked with OpenSSL by scripts/kbkdf-vectors.py.
func TestLabelAndContext(t *testing.T) {
	text, err := os.ReadFile("testdata/label-context.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			Key, Label, Context, Output string
			Length                      int
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) < 20 {
		t.Fatalf("only %d vectors", len(file.Vectors))
	}
	for i, v := range file.Vectors {
		key, context, want := unhex(t, v.Key), unhex(t, v.Context), unhex(t, v.Output)
		if got := kbkdf.Key(key, v.Label, context, v.Length); !bytes.Equal(got, want) {
			t.Errorf("vector %d: got %x, want %x", i, got, want)
		}
		if v.Length != kbkdf.Size {
			continue
		}
		d := kbkdf.NewDeriver(key, v.Label)
		for range 3 { // the first use of a pooled state differs from the later ones
			if got := d.Derive(context); !bytes.Equal(got[:], want) {
				t.Errorf("vector %d: Derive gave %x, want %x", i, got, want)
			}
		}
	}
}

func TestDeriverKeepsItsKey(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	d := kbkdf.NewDeriver(key, "label")
	want := kbkdf.Key(key, "label", []byte("c"), kbkdf.Size)
	clear(key)
	if got := d.Derive([]byte("c")); !bytes.Equal(got[:], want) {
		t.Error("the Deriver follows a change of the caller's key")
	}
}

func TestDeriverConcurrent(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	d := kbkdf.NewDeriver(key, "concurrent")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				context := []byte{byte(g), byte(i)}
				if got := d.Derive(context); !bytes.Equal(got[:], kbkdf.Key(key, "concurrent", context, kbkdf.Size)) {
					t.Errorf("context %x: wrong key", context)
				}
			}
		})
	}
	wg.Wait()
}

func TestPanicsOnMistakes(t *testing.T) {
	for name, f := range map[string]func(){
		"zero length":         func() { kbkdf.Key(nil, "l", nil, 0) },
		"too long":            func() { kbkdf.Key(nil, "l", nil, 1<<29) },
		"zero octet in label": func() { kbkdf.Key(nil, "l\x00", nil, 32) },
		"deriver":             func() { kbkdf.NewDeriver(nil, "\x00") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func BenchmarkKey(b *testing.B) {
	key, context := make([]byte, 32), make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		kbkdf.Key(key, "keywright message key v1", context, kbkdf.Size)
	}
}

func BenchmarkDerive(b *testing.B) {
	d := kbkdf.NewDeriver(make([]byte, 32), "keywright message key v1")
	context := make([]byte, 16)
	b.ReportAllocs()
	for b.Loop() {
		d.Derive(context)
	}
}
