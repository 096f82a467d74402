// Package attesttest makes attestation documents under a root of its own, for tests of what asks for some.
//
// Nothing outside of tests may use it: whoever trusts its roots trusts everybody.
package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Protected is the protected header of documents, {1: -35}.
var Protected = []byte{0xa1, 0x01, 0x38, 0x22}

// Enclave is an enclave with the certificates above it.
type Enclave struct {
	t         testing.TB
	now       time.Time
	Chain     []*Certificate // the root first, the enclave's own last
	Recipient *rsa.PrivateKey
	PCRs      map[int][]byte
	ModuleID  string
}

// Certificate is a certificate and its key.
type Certificate struct {
	Key  *ecdsa.PrivateKey
	X509 *x509.Certificate
}

// New makes an enclave whose certificates are valid from an hour before now until three hours after it. The hooks change the
// templates of certificates before they are signed, with their place below the root: 0 is the root, 2 the enclave.
func New(t testing.TB, now time.Time, hooks ...func(place int, c *x509.Certificate)) *Enclave {
	t.Helper()
	e := &Enclave{t: t, now: now, ModuleID: "i-0123456789abcdef0-enc0123456789abcdef", PCRs: map[int][]byte{}}
	for _, n := range []int{0, 1, 2, 3, 4, 8} {
		e.PCRs[n] = slices.Repeat([]byte{byte(0xa0 + n)}, 48)
	}
	for place, name := range []string{"root", "zone", "enclave"} {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(place + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(3 * time.Hour),
			BasicConstraintsValid: true, IsCA: place < 2, KeyUsage: x509.KeyUsageCertSign, SignatureAlgorithm: x509.ECDSAWithSHA384,
		}
		if !template.IsCA {
			template.KeyUsage = x509.KeyUsageDigitalSignature
		}
		for _, hook := range hooks {
			hook(place, template)
		}
		e.Chain = append(e.Chain, e.issue(template))
	}
	var err error
	if e.Recipient, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	return e
}

func (e *Enclave) issue(template *x509.Certificate) *Certificate {
	e.t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		e.t.Fatal(err)
	}
	parent, signer := template, own
	if len(e.Chain) > 0 {
		above := e.Chain[len(e.Chain)-1]
		parent, signer = above.X509, above.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, own.Public(), signer)
	if err != nil {
		e.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		e.t.Fatal(err)
	}
	return &Certificate{own, c}
}

// In returns the same enclave for another test, such as one case of a fuzz test.
func (e *Enclave) In(t testing.TB) *Enclave {
	own := *e
	own.t = t
	return &own
}

// Roots returns the root as PEM.
func (e *Enclave) Roots() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Chain[0].X509.Raw})
}

// Payload returns the members of a document of the time that New was given. Changes replace members; nil takes one away.
func (e *Enclave) Payload(changes map[string]any) map[string]any {
	e.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(e.Recipient.Public())
	if err != nil {
		e.t.Fatal(err)
	}
	var bundle [][]byte
	for _, c := range e.Chain[:len(e.Chain)-1] {
		bundle = append(bundle, c.X509.Raw)
	}
	all := map[string]any{
		"module_id": e.ModuleID, "digest": "SHA384", "timestamp": e.now.UnixMilli(), "pcrs": e.PCRs,
		"certificate": e.Chain[len(e.Chain)-1].X509.Raw, "cabundle": bundle, "public_key": spki, "user_data": []byte("data"), "nonce": []byte("nonce"),
	}
	for name, value := range changes {
		all[name] = value
		if value == nil {
			delete(all, name)
		}
	}
	return all
}

// Document returns a document with those changes, untagged.
func (e *Enclave) Document(changes map[string]any) []byte {
	e.t.Helper()
	return e.Sign(Protected, Encode(e.t, e.Payload(changes)))
}

// Sign makes the COSE_Sign1 (RFC 9052) of a payload.
func (e *Enclave) Sign(protected, payload []byte) []byte {
	e.t.Helper()
	digest := sha512.Sum384(Encode(e.t, []any{"Signature1", protected, []byte{}, payload}))
	r, s, err := ecdsa.Sign(rand.Reader, e.Chain[len(e.Chain)-1].Key, digest[:])
	if err != nil {
		e.t.Fatal(err)
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	return Encode(e.t, []any{protected, map[int]int{}, payload, signature})
}

// Encode encodes a value in CBOR.
func Encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
