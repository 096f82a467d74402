package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/wire"
)

// TestCommittedFilesAreCurrent writes every package again, in memory, and wants the committed octets.
func TestCommittedFilesAreCurrent(t *testing.T) {
	for _, name := range packages {
		pkg, source, err := generate("..", name)
		if err != nil {
			t.Fatal(err)
		}
		committed, err := os.ReadFile(filepath.Join("..", pkg, fileName))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(source, committed) {
			t.Errorf("%s/%s is not what the model gives; run go generate ./internal/wire/...", pkg, fileName)
		}
	}
}

func TestModelHasNoDocumentation(t *testing.T) {
	for _, name := range packages {
		b, err := os.ReadFile(filepath.Join("..", "model", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("documentation")) || bytes.Contains(b, []byte("<p>")) {
			t.Errorf("%s.json has documentation text in it", name)
		}
	}
}

func TestGoName(t *testing.T) {
	for name, want := range map[string]string{
		"KeyId": "KeyID", "Arn": "ARN", "KeyArn": "KeyARN", "PolicyArns": "PolicyARNs", "GrantId": "GrantID", "UserIds": "UserIDs",
		"XksProxyUriEndpoint": "XksProxyURIEndpoint", "AWSAccountId": "AWSAccountID", "Identity": "Identity", "userNameType": "UserNameType",
		"KeyIdArn": "KeyIDARN", "ValidTo": "ValidTo", "WebIdentityToken": "WebIdentityToken", "ClientIDList": "ClientIDList", "Url": "URL",
	} {
		if got := goName(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestConstName(t *testing.T) {
	for word, want := range map[string]string{
		"RSA_2048": "Rsa2048", "RSASSA_PKCS1_V1_5_SHA_256": "RsassaPkcs1V15Sha256", "Enabled": "Enabled",
		"PendingDeletion": "PendingDeletion", "SM2": "Sm2", "GenerateDataKey": "GenerateDataKey", "string": "String",
	} {
		if got := constName(word); got != want {
			t.Errorf("%s: got %s, want %s", word, got, want)
		}
	}
}

// TestClassesMatchTheirExpressions compares every pattern that became a table with its expression, over all characters.
func TestClassesMatchTheirExpressions(t *testing.T) {
	classes := 0
	for _, name := range packages {
		m, err := load("..", name)
		if err != nil {
			t.Fatal(err)
		}
		for shapeName, s := range m.Shapes {
			if s.Pattern == "" {
				continue
			}
			exprs := expressions(s)
			c, ok, err := classOf(exprs)
			if err != nil {
				t.Errorf("%s: %v", shapeName, err)
			}
			if !ok {
				continue
			}
			classes++
			table := wire.Pattern{Class: &wire.Class{ASCII: c.ascii, High: c.high, Empty: c.empty}}
			slow := regexp.MustCompile(`^(?:` + exprs[0] + `)$`)
			for r := rune(0); r < 0x3000; r++ {
				if text := string(r); table.Match(text) != slow.MatchString(text) {
					t.Fatalf("%s: %U matches %t", shapeName, r, table.Match(text))
				}
			}
			for _, text := range []string{"", "aa", "a b", "\U00010000", "\U0010FFFF", strings.Repeat("a", 300), "a\xff"} {
				if table.Match(text) != slow.MatchString(text) {
					t.Errorf("%s: %.10q matches %t", shapeName, text, table.Match(text))
				}
			}
		}
	}
	if classes < 15 {
		t.Errorf("only %d patterns became tables", classes)
	}
}

func TestPatternsOutsideRE2Stop(t *testing.T) {
	if _, err := (&shape{Pattern: `a(?!b)`}).literal(); err == nil {
		t.Error("a look-ahead went through")
	}
}

func TestSupplementaryCharacters(t *testing.T) {
	got := expressions(&shape{Pattern: `[\uE000-\uFFFD\u10000-\u10FFFF]+`})[0]
	if want := `[\x{E000}-\x{FFFD}\x{10000}-\x{10FFFF}]+`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestUnknownShapesStop(t *testing.T) {
	for _, s := range []map[string]*shape{
		{},
		{"X": {Type: "document"}},
		{"X": {Type: "list", Member: "Y"}, "Y": {Type: "list", Member: "Z"}, "Z": {Type: "string"}},
		{"X": {Type: "map", Value: "Y"}, "Y": {Type: "blob"}},
	} {
		if k, err := (&model{Shapes: s}).kindOf("X"); err == nil {
			t.Errorf("%v became kind %d", s, k)
		}
	}
	loop := &model{Shapes: map[string]*shape{"X": {Type: "structure", Members: []member{{"Again", "X"}}}}}
	if _, err := loop.depth("X", 0); err == nil {
		t.Error("a structure within itself went through")
	}
}
