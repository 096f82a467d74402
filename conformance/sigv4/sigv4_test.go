// Package sigv4_test compares our verifier of Signature Version 4 with the signer of the AWS SDK for Go: what that signs,
// ours accepts, and not after any one change.
package sigv4_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// rounds is how many random requests each test signs; every one is also changed in changes ways.
const (
	rounds  = 300
	changes = 20
)

var at = time.Date(2026, 11, 23, 4, 0, 30, 0, time.UTC)

func TestSDKSignsWeVerify(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2)) // a fixed seed: a failure must come back
	signer := v4.NewSigner()
	var verified, refused int
	for i := range rounds {
		cred := aws.Credentials{AccessKeyID: word(rng), SecretAccessKey: text(rng, 40)}
		if i%3 == 0 {
			cred.SessionToken = text(rng, 100)
		}
		body := []byte(text(rng, 1+rng.IntN(300)))
		hash := sha256.Sum256(body)
		req := randomRequest(t, rng, body)
		presign := i%2 == 1
		if presign {
			q := req.URL.Query()
			q.Set("X-Amz-Expires", strconv.Itoa(1+rng.IntN(604800)))
			req.URL.RawQuery = q.Encode()
			link, _, err := signer.PresignHTTP(context.Background(), cred, req, hex.EncodeToString(hash[:]), "kms", "eu-west-1", at)
			if err != nil {
				t.Fatal(err)
			}
			if req.URL, err = url.Parse(link); err != nil {
				t.Fatal(err)
			}
		} else if err := signer.SignHTTP(context.Background(), cred, req, hex.EncodeToString(hash[:]), "kms", "eu-west-1", at); err != nil {
			t.Fatal(err)
		}
		wire := overTheWire(t, req, body)
		if err := verify(wire, cred); err != nil {
			t.Fatalf("presign %v: %v\n%+v", presign, err, wire)
		}
		verified++
		for range changes {
			changed, what := change(rng, wire)
			if changed == nil {
				continue
			}
			if err := verify(changed, cred); err == nil {
				t.Fatalf("accepted after a change of %s:\n%+v\nwas\n%+v", what, changed, wire)
			}
			refused++
		}
		cred.SecretAccessKey += "x"
		if err := verify(wire, cred); err == nil {
			t.Fatal("accepted with another secret")
		}
	}
	t.Logf("%d requests verified, %d changed ones refused", verified, refused)
	if verified != rounds || refused < rounds*changes/2 {
		t.Error("too few cases were tried")
	}
}

func verify(r *sigv4.Request, cred aws.Credentials) error {
	auth, err := sigv4.Parse(r)
	if err == nil {
		err = auth.Check("kms", at)
	}
	if err == nil && (auth.AccessKeyID != cred.AccessKeyID || auth.Token != cred.SessionToken) {
		err = sigv4.ErrUnknownCredential()
	}
	if err == nil {
		err = auth.Verify(r, sigv4.Derive(secret.FromString(cred.SecretAccessKey), auth.Scope))
	}
	if err != nil {
		return err
	}
	return nil
}

func randomRequest(t *testing.T, rng *rand.Rand, body []byte) *http.Request {
	t.Helper()
	u := url.URL{Scheme: "http", Host: word(rng) + ".example:" + strconv.Itoa(1+rng.IntN(65535)), Path: "/"}
	if rng.IntN(3) == 0 {
		u.Path += word(rng) + "/" + strings.NewReplacer("/", "_", ".", "_").Replace(text(rng, 5))
	}
	q := url.Values{}
	for range rng.IntN(4) {
		name := word(rng)
		for range 1 + rng.IntN(2) {
			q.Add(name, text(rng, rng.IntN(6)))
		}
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequest(http.MethodPost, u.String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "TrentService."+word(rng))
	req.Header.Set("Amz-Sdk-Invocation-Id", word(rng))
	req.Header.Set("Amz-Sdk-Request", "attempt=1;  max=3")
	for range rng.IntN(3) {
		req.Header.Add("My-"+word(rng), "  "+word(rng)+"   "+word(rng))
		req.Header.Add("My-Repeated", word(rng))
	}
	return req
}

// overTheWire writes the request as a client does and reads it as a server does.
func overTheWire(t *testing.T, req *http.Request, body []byte) *sigv4.Request {
	t.Helper()
	req.Body = io.NopCloser(bytes.NewReader(body))
	var wire bytes.Buffer
	if err := req.Write(&wire); err != nil {
		t.Fatal(err)
	}
	got, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatal(err)
	}
	read, err := io.ReadAll(got.Body)
	if err != nil || !bytes.Equal(read, body) {
		t.Fatalf("body: %v", err)
	}
	path, query, _ := strings.Cut(got.RequestURI, "?")
	return &sigv4.Request{
		Method: got.Method, Path: path, RawQuery: query, Host: got.Host,
		Header: sigv4.AppendFields(nil, got.Header), Body: read,
	}
}

// change returns a copy of r with one octet or line changed, or nil if the draw changed nothing that a signature covers.
func change(rng *rand.Rand, r *sigv4.Request) (*sigv4.Request, string) {
	c := *r
	c.Header, c.Body = slices.Clone(r.Header), bytes.Clone(r.Body)
	switch rng.IntN(8) {
	case 0:
		c.Method = mutate(rng, c.Method)
		return differs(&c, c.Method != r.Method), "the method"
	case 1:
		c.Path = "/" + mutate(rng, c.Path[1:])
		return differs(&c, !strings.EqualFold(c.Path, r.Path)), "the path" // %c3 is %C3
	case 2:
		c.RawQuery = mutate(rng, c.RawQuery)
		return differs(&c, !strings.EqualFold(c.RawQuery, r.RawQuery)), "the query"
	case 3:
		c.RawQuery += "&" + word(rng) + "="
		return &c, "the query's end"
	case 4:
		c.Host = mutate(rng, c.Host)
		return differs(&c, c.Host != r.Host), "the host"
	case 5:
		i := rng.IntN(len(c.Body))
		c.Body[i] ^= 1 << rng.IntN(8)
		return &c, "the body"
	case 6:
		i := rng.IntN(len(c.Header))
		f := &c.Header[i]
		f.Value = mutate(rng, f.Value)
		folded := strings.Join(strings.Fields(f.Value), " ") != strings.Join(strings.Fields(r.Header[i].Value), " ")
		return differs(&c, folded && f.Name != "User-Agent"), "header " + f.Name
	default:
		c.Header = append(c.Header, sigv4.Field{Name: "X-Amz-" + word(rng), Value: word(rng)})
		return &c, "the set of headers"
	}
}

func differs(c *sigv4.Request, yes bool) *sigv4.Request {
	if yes {
		return c
	}
	return nil
}

// mutate replaces one octet of s by a letter or digit.
func mutate(rng *rand.Rand, s string) string {
	if s == "" {
		return s
	}
	i := rng.IntN(len(s))
	return s[:i] + word(rng)[:1] + s[i+1:]
}

func word(rng *rand.Rand) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	b := make([]byte, 3+rng.IntN(10))
	for i := range b {
		b[i] = letters[rng.IntN(len(letters))]
	}
	return string(b)
}

// text returns printable characters of all sorts, some beyond ASCII.
func text(rng *rand.Rand, n int) string {
	alphabet := []rune("abcXYZ019-._~ !\"#$%&'()*+,/:;<=>?@[]^`{|}éßሴ€")
	b := make([]rune, n)
	for i := range b {
		b[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return strings.TrimSpace(string(b)) + "."
}
