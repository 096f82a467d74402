package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// kinds are the measured cases. The floors are of the empty server's rate; where it is the primitive that costs, of the bare
// primitive's.
var kinds = []kind{
	{"Encrypt64", 16, 0.60, encryptRequests(64), nil, 0, ""},
	{"Encrypt64 of 64", 64, 0.60, encryptRequests(64), nil, 0, ""},
	{"Encrypt64 synced", 64, 0.50, encryptRequests(64), nil, 0, synced},
	{"Decrypt64", 16, 0.60, decryptRequests(64), nil, 0, ""},
	{"Encrypt4096", 16, 0.45, encryptRequests(4096), nil, 0, ""},
	{"Decrypt4096", 16, 0.45, decryptRequests(4096), nil, 0, ""},
	{"GenerateDataKey", 16, 0.60, dataKeyRequests, nil, 0, ""},
	{"DescribeKey", 16, 0.60, describeRequests, nil, 0, ""},
	{"CreateKey", 64, 0.10, createRequests, nil, 0, ""},
	{"SignRSA2048", 16, 0, signRequests(rsa2048), bareRSA, 0.90, ""},
	{"SignP256", 16, 0, signRequests(p256), bareP256, 0.60, ""},
	{"SignEd25519", 16, 0, signRequests(ed25519), nil, 0, ""},
	{"SignMLDSA65", 16, 0, signRequests(mldsa65), nil, 0, ""},
	{"VerifyRSA2048", 16, 0, verifyRequests(rsa2048), nil, 0, ""},
	{"VerifyP256", 16, 0, verifyRequests(p256), nil, 0, ""},
	{"VerifyEd25519", 16, 0, verifyRequests(ed25519), nil, 0, ""},
	{"VerifyMLDSA65", 16, 0, verifyRequests(mldsa65), nil, 0, ""},
	{"GenerateMac", 16, 0.60, macRequests, nil, 0, ""},
	{"GenerateRandom", 16, 0.60, randomRequests, nil, 0, ""},
	{"DeriveSharedSecret", 16, 0, agreeRequests, nil, 0, ""},
}

// variants is how many different requests a case sends in turn.
const variants = 64

// userAgent is what aws-sdk-go-v2 calls itself.
const userAgent = "aws-sdk-go-v2/1.47.7 ua/2.1 os/linux lang/go#1.26.8 md/GOOS#linux md/GOARCH#amd64 api/kms#1.62.4 m/g,h"

// object is a JSON object of the API.
type object map[string]any

// sign returns the octets of a signed request to the target.
func (t *target) sign(operation string, body object) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	// The header lines, and which of them are signed, are those of aws-sdk-go-v2.
	r := sigv4.Request{Method: http.MethodPost, Path: "/", Host: t.addr, Body: text, Header: []sigv4.Field{
		{Name: "Content-Length", Value: strconv.Itoa(len(text))},
		{Name: "Amz-Sdk-Invocation-Id", Value: "5f0f7e3c-3f6d-4b1e-9f43-6f1f0a3f8a55"},
		{Name: "Amz-Sdk-Request", Value: "attempt=1; max=3"},
		{Name: "Content-Type", Value: "application/x-amz-json-1.1"},
		{Name: "X-Amz-Target", Value: "TrentService." + operation},
	}}
	signature := sigv4.Sign(&r, sigv4.Credential{AccessKeyID: accessKey, Secret: secret.FromString(secretKey)}, region, "kms", time.Now())
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST / HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept-Encoding: gzip\r\n", t.addr, userAgent)
	for _, f := range append(r.Header, signature...) {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	b.WriteString("\r\n")
	b.Write(text)
	return b.Bytes(), nil
}

// call makes one request and returns its answer.
func (t *target) call(operation string, body object) (object, error) {
	raw, err := t.sign(operation, body)
	if err != nil {
		return nil, err
	}
	c, err := dial(t.addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write(raw); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d: %s", operation, resp.StatusCode, text)
	}
	return decode(text)
}

func decode(text []byte) (object, error) {
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("answer %q: %w", text, err)
	}
	return o, nil
}

// newKey makes a symmetric key and returns its ARN.
func (t *target) newKey() (string, error) { return t.createKey(object{}) }

// createKey makes a key and returns its ARN.
func (t *target) createKey(body object) (string, error) {
	out, err := t.call("CreateKey", body)
	if err != nil {
		return "", err
	}
	metadata, ok := out["KeyMetadata"].(map[string]any)
	arn, isText := metadata["Arn"].(string)
	if !ok || !isText {
		return "", fmt.Errorf("CreateKey answered %v", out)
	}
	return arn, nil
}

func plaintext(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	return b
}

// build makes the variants of a case.
func (t *target) build(operation string, one func() (object, func(object) error, error)) ([]request, error) {
	var all []request
	for range variants {
		body, check, err := one()
		if err != nil {
			return nil, err
		}
		raw, err := t.sign(operation, body)
		if err != nil {
			return nil, err
		}
		all = append(all, request{raw: raw, verify: func(text []byte) error {
			out, err := decode(text)
			if err != nil {
				return err
			}
			return check(out)
		}})
	}
	return all, nil
}

func encryptRequests(size int) func(*target) ([]request, error) {
	return func(t *target) ([]request, error) {
		arn, err := t.newKey()
		if err != nil {
			return nil, err
		}
		return t.build("Encrypt", func() (object, func(object) error, error) {
			want := plaintext(size)
			return object{"KeyId": arn, "Plaintext": want}, func(out object) error { return t.decryptsTo(out["CiphertextBlob"], want) }, nil
		})
	}
}

// decryptsTo asks the server to open a ciphertext, and compares.
func (t *target) decryptsTo(blob any, want []byte) error {
	out, err := t.call("Decrypt", object{"CiphertextBlob": blob})
	if err != nil {
		return err
	}
	return same(out["Plaintext"], want)
}

func same(got any, want []byte) error {
	if got != base64.StdEncoding.EncodeToString(want) {
		return fmt.Errorf("plaintext %v, want %x", got, want)
	}
	return nil
}

func decryptRequests(size int) func(*target) ([]request, error) {
	return func(t *target) ([]request, error) {
		arn, err := t.newKey()
		if err != nil {
			return nil, err
		}
		return t.build("Decrypt", func() (object, func(object) error, error) {
			want := plaintext(size)
			out, err := t.call("Encrypt", object{"KeyId": arn, "Plaintext": want})
			if err != nil {
				return nil, nil, err
			}
			return object{"CiphertextBlob": out["CiphertextBlob"]}, func(out object) error { return same(out["Plaintext"], want) }, nil
		})
	}
}

func dataKeyRequests(t *target) ([]request, error) {
	arn, err := t.newKey()
	if err != nil {
		return nil, err
	}
	return t.build("GenerateDataKey", func() (object, func(object) error, error) {
		return object{"KeyId": arn, "KeySpec": "AES_256"}, func(out object) error {
			text, _ := out["Plaintext"].(string)
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil || len(b) != 32 {
				return fmt.Errorf("data key of %d octets", len(b))
			}
			return t.decryptsTo(out["CiphertextBlob"], b)
		}, nil
	})
}

func describeRequests(t *target) ([]request, error) {
	arn, err := t.newKey()
	if err != nil {
		return nil, err
	}
	return t.build("DescribeKey", func() (object, func(object) error, error) {
		return object{"KeyId": arn}, func(out object) error {
			if m, ok := out["KeyMetadata"].(map[string]any); !ok || m["Arn"] != arn || m["KeyState"] != "Enabled" {
				return fmt.Errorf("metadata %v", out)
			}
			return nil
		}, nil
	})
}

func createRequests(t *target) ([]request, error) {
	return t.build("CreateKey", func() (object, func(object) error, error) {
		return object{"Description": "benchmark"}, func(out object) error {
			m, ok := out["KeyMetadata"].(map[string]any)
			if !ok {
				return fmt.Errorf("metadata %v", out)
			}
			again, err := t.call("DescribeKey", object{"KeyId": m["KeyId"]})
			if err != nil {
				return err
			}
			if got, _ := again["KeyMetadata"].(map[string]any); got["Arn"] != m["Arn"] {
				return fmt.Errorf("the new key is not found: %v", again)
			}
			return nil
		}, nil
	})
}
