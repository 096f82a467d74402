package attest_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/veraison/go-cose"

	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/attest/attesttest"
)

var now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func verifier(t testing.TB, e *attesttest.Enclave) *attest.Verifier {
	t.Helper()
	v, err := attest.NewVerifier(e.Roots())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	e := attesttest.New(t, now)
	v := verifier(t, e)
	document := e.Document(nil)
	for name, form := range map[string][]byte{"untagged": document, "tagged": append([]byte{0xd2}, document...)} {
		d, err := v.Verify(form, now)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d.ModuleID != e.ModuleID || !d.Time.Equal(now) || !maps.EqualFunc(d.PCRs, e.PCRs, bytes.Equal) || d.NitroTPMPCRs != nil ||
			!d.PublicKey.Equal(e.Recipient.Public()) || string(d.UserData) != "data" || string(d.Nonce) != "nonce" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	tpm := map[int][]byte{4: make([]byte, 48), 23: make([]byte, 32)}
	d, err := v.Verify(e.Document(map[string]any{"pcrs": nil, "nitrotpm_pcrs": tpm}), now)
	if err != nil || d.PCRs != nil || !maps.EqualFunc(d.NitroTPMPCRs, tpm, bytes.Equal) {
		t.Errorf("NitroTPM: %+v, %v", d, err)
	}
	for name, changes := range map[string]map[string]any{
		"PKCS #1":          {"public_key": x509.MarshalPKCS1PublicKey(&e.Recipient.PublicKey)},
		"nothing optional": {"user_data": nil, "nonce": nil},
		"another member":   {"more": map[string]int{"a": 1}},
		"almost too old":   {"timestamp": now.Add(-attest.MaxAge).UnixMilli()},
		"a fast clock":     {"timestamp": now.Add(attest.MaxAge).UnixMilli()},
		"longest":          {"user_data": make([]byte, 512), "nonce": make([]byte, 512)},
	} {
		if _, err := v.Verify(e.Document(changes), now); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Another implementation of COSE signs what we take, and verifies what our helper signs.
func TestCOSE(t *testing.T) {
	e := attesttest.New(t, now)
	own := e.Chain[2].Key
	signer, err := cose.NewSigner(cose.AlgorithmES384, own)
	if err != nil {
		t.Fatal(err)
	}
	m := cose.NewSign1Message()
	m.Headers.Protected.SetAlgorithm(cose.AlgorithmES384)
	m.Payload = attesttest.Encode(t, e.Payload(nil))
	if err := m.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	document, err := m.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier(t, e).Verify(document, now); err != nil {
		t.Errorf("theirs: %v", err)
	}
	check, err := cose.NewVerifier(cose.AlgorithmES384, own.Public())
	if err != nil {
		t.Fatal(err)
	}
	var theirs cose.Sign1Message
	if err := theirs.UnmarshalCBOR(append([]byte{0xd2}, e.Document(nil)...)); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Verify(nil, check); err != nil {
		t.Errorf("ours: %v", err)
	}
}

func TestRefusedPayloads(t *testing.T) {
	e := attesttest.New(t, now)
	v := verifier(t, e)
	small := rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2046, 1), E: 65537}
	ec, err := x509.MarshalPKIXPublicKey(e.Chain[0].Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	spki := e.Payload(nil)["public_key"].([]byte)
	root, zone := e.Chain[0].X509.Raw, e.Chain[1].X509.Raw
	cube := e.Recipient.PublicKey
	cube.E = 3
	for name, changes := range map[string]map[string]any{
		"no module_id": {"module_id": nil}, "empty module_id": {"module_id": ""}, "module_id of octets": {"module_id": []byte("i")},
		"digest": {"digest": "SHA256"}, "no digest": {"digest": nil}, "no timestamp": {"timestamp": nil}, "timestamp 0": {"timestamp": 0},
		"huge timestamp": {"timestamp": uint64(1) << 63}, "negative timestamp": {"timestamp": -1},
		"old": {"timestamp": now.Add(-attest.MaxAge - time.Millisecond).UnixMilli()}, "of the future": {"timestamp": now.Add(attest.MaxAge + time.Millisecond).UnixMilli()},
		"no pcrs": {"pcrs": nil}, "empty pcrs": {"pcrs": map[int][]byte{}}, "PCR 32": {"pcrs": map[int][]byte{32: make([]byte, 48)}},
		"PCR -1": {"pcrs": map[int][]byte{-1: make([]byte, 48)}}, "short PCR": {"pcrs": map[int][]byte{0: make([]byte, 47)}}, "null PCR": {"pcrs": map[int][]byte{0: nil}},
		"PCR of numbers": {"pcrs": map[int][]int{0: make([]int, 48)}}, "both kinds": {"nitrotpm_pcrs": e.PCRs},
		"NitroTPM PCR 24": {"pcrs": nil, "nitrotpm_pcrs": map[int][]byte{24: make([]byte, 48)}},
		"no certificate":  {"certificate": nil}, "empty certificate": {"certificate": []byte{}}, "long certificate": {"certificate": make([]byte, 1025)},
		"malformed certificate": {"certificate": []byte{1}}, "another certificate": {"certificate": zone},
		"no cabundle": {"cabundle": nil}, "empty cabundle": {"cabundle": [][]byte{}}, "empty CA": {"cabundle": [][]byte{root, {}}}, "malformed CA": {"cabundle": [][]byte{root, {1}}},
		"bundle without the root": {"cabundle": [][]byte{zone}}, "bundle without the middle": {"cabundle": [][]byte{root}}, "the root last": {"cabundle": [][]byte{zone, root}},
		"the root twice": {"cabundle": [][]byte{root, root, zone}}, "too many": {"cabundle": slices.Repeat([][]byte{root}, 17)},
		"no public_key": {"public_key": nil}, "empty public_key": {"public_key": []byte{}}, "long public_key": {"public_key": make([]byte, 1025)},
		"malformed public_key": {"public_key": spki[:len(spki)-1]}, "public_key and more": {"public_key": append(slices.Clone(spki), 0)},
		"elliptic public_key": {"public_key": ec}, "small public_key": {"public_key": x509.MarshalPKCS1PublicKey(&small)},
		"exponent 3": {"public_key": x509.MarshalPKCS1PublicKey(&cube)},
		"user_data":  {"user_data": make([]byte, 513)}, "nonce": {"nonce": make([]byte, 513)}, "nonce of text": {"nonce": "text"},
		"long payload": {"more": make([]byte, 16<<10)}, "deep": {"more": []any{[]any{[]any{[]any{[]any{}}}}}},
	} {
		if d, err := v.Verify(e.Document(changes), now); !errors.Is(err, attest.ErrDocument) || d != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusedEnvelopes(t *testing.T) {
	e := attesttest.New(t, now)
	v := verifier(t, e)
	payload := attesttest.Encode(t, e.Payload(nil))
	good := e.Sign(attesttest.Protected, payload)
	twice := append([]byte{payload[0] + 1}, payload[1:]...) // one member more
	twice = append(twice, attesttest.Encode(t, "digest")...)
	twice = append(twice, attesttest.Encode(t, "SHA384")...)
	endless := append([]byte{0xbf}, payload[1:]...)
	endless = append(endless, 0xff)
	signature := good[len(good)-96:]
	for name, document := range map[string][]byte{
		"nothing": nil, "a tag only": {0xd2}, "two tags": append([]byte{0xd2, 0xd2}, good...), "another tag": append([]byte{0xd1}, good...), "not CBOR": []byte("garbage"),
		"cut off": good[:len(good)-1], "trailing": append(slices.Clone(good), 0), "endless list": append(append([]byte{0x9f}, good[1:]...), 0xff),
		"ES256": e.Sign([]byte{0xa1, 0x01, 0x26}, payload), "no algorithm": e.Sign([]byte{0xa0}, payload), "empty header": e.Sign([]byte{}, payload),
		"longer header": e.Sign([]byte{0xa2, 0x01, 0x38, 0x22, 0x04, 0x40}, payload), "another writing of the header": e.Sign([]byte{0xa1, 0x01, 0x39, 0x00, 0x22}, payload),
		"unprotected": attesttest.Encode(t, []any{attesttest.Protected, map[int]int{1: -35}, payload, signature}),
		"no list":     attesttest.Encode(t, map[int]any{0: attesttest.Protected}), "five members": attesttest.Encode(t, []any{attesttest.Protected, map[int]int{}, payload, signature, 1}),
		"no payload": attesttest.Encode(t, []any{attesttest.Protected, map[int]int{}, nil, signature}), "empty payload": e.Sign(attesttest.Protected, []byte{}),
		"payload and more": e.Sign(attesttest.Protected, append(slices.Clone(payload), 0)), "a member twice": e.Sign(attesttest.Protected, twice), "endless map": e.Sign(attesttest.Protected, endless),
		"no signature":   attesttest.Encode(t, []any{attesttest.Protected, map[int]int{}, payload, nil}),
		"long signature": attesttest.Encode(t, []any{attesttest.Protected, map[int]int{}, payload, append([]byte{0}, signature...)}),
		"zeros":          attesttest.Encode(t, []any{attesttest.Protected, map[int]int{}, payload, make([]byte, 96)}),
		"long":           make([]byte, 33<<10),
	} {
		if d, err := v.Verify(document, now); !errors.Is(err, attest.ErrDocument) || d != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := v.Verify(good, now); err != nil {
		t.Error(err)
	}
}

// No octet of a document can change. The chain cache does not help.
func TestEveryOctetCounts(t *testing.T) {
	e := attesttest.New(t, now)
	v := verifier(t, e)
	good := e.Document(nil)
	if _, err := v.Verify(good, now); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		changed := slices.Clone(good)
		changed[i] ^= 1 << (i % 8)
		if _, err := v.Verify(changed, now); !errors.Is(err, attest.ErrDocument) {
			t.Errorf("octet %d of %d: %v", i, len(good), err)
		}
		if _, err := v.Verify(good[:i], now); !errors.Is(err, attest.ErrDocument) {
			t.Errorf("cut off at %d: %v", i, err)
		}
	}
}

func TestRefusedChains(t *testing.T) {
	const root, zone, leaf = 0, 1, 2
	at := func(place int, change func(c *x509.Certificate)) func(int, *x509.Certificate) {
		return func(p int, c *x509.Certificate) {
			if p == place {
				change(c)
			}
		}
	}
	for name, hook := range map[string]func(int, *x509.Certificate){
		"expired":             at(leaf, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }),
		"not yet valid":       at(leaf, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }),
		"expired CA":          at(zone, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }),
		"expired root":        at(root, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }),
		"no CA":               at(zone, func(c *x509.Certificate) { c.IsCA = false }),
		"CA not for signing":  at(zone, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }),
		"CA without a usage":  at(zone, func(c *x509.Certificate) { c.KeyUsage = 0 }),
		"path length":         at(root, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }),
		"a CA as the enclave": at(leaf, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageDigitalSignature }),
		"not for signatures":  at(leaf, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
		"a critical extension": at(zone, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}),
		"SHA-256": at(leaf, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA256 }),
	} {
		e := attesttest.New(t, now, hook)
		if _, err := verifier(t, e).Verify(e.Document(nil), now); !errors.Is(err, attest.ErrDocument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e, other := attesttest.New(t, now), attesttest.New(t, now)
	if _, err := verifier(t, other).Verify(e.Document(nil), now); !errors.Is(err, attest.ErrDocument) {
		t.Errorf("another root: %v", err)
	}
	// Both roots are trusted, but the bundle names the one that did not sign.
	v, err := attest.NewVerifier(append(e.Roots(), other.Roots()...))
	if err != nil {
		t.Fatal(err)
	}
	mixed := e.Document(map[string]any{"cabundle": [][]byte{other.Chain[0].X509.Raw, e.Chain[1].X509.Raw}})
	if _, err := v.Verify(mixed, now); !errors.Is(err, attest.ErrDocument) {
		t.Errorf("mixed roots: %v", err)
	}
}

// A remembered chain is no longer good when one of its certificates has expired.
func TestRememberedChain(t *testing.T) {
	e := attesttest.New(t, now)
	v := verifier(t, e)
	for _, c := range []struct {
		at    time.Time
		valid bool
	}{{now, true}, {now, true}, {now.Add(3 * time.Hour), true}, {now.Add(3*time.Hour + time.Second), false}, {now.Add(-2 * time.Hour), false}, {now, true}} {
		_, err := v.Verify(e.Document(map[string]any{"timestamp": c.at.UnixMilli()}), c.at)
		if (err == nil) != c.valid {
			t.Errorf("at %v: %v", c.at, err)
		}
	}
}

func TestRoots(t *testing.T) {
	e := attesttest.New(t, now)
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Chain[2].X509.Raw})
	for name, roots := range map[string]string{
		"none": "", "blank": "\n", "garbage": "garbage", "no CA": string(leaf), "a key": strings.ReplaceAll(string(e.Roots()), "CERTIFICATE", "PUBLIC KEY"),
		"trailing": string(e.Roots()) + "garbage", "malformed": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})),
	} {
		if _, err := attest.NewVerifier([]byte(roots)); !errors.Is(err, attest.ErrRoots) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := attest.NewVerifier(slices.Concat([]byte("\n"), e.Roots(), []byte("\n\n"), e.Roots(), []byte("\n"))); err != nil {
		t.Error(err)
	}
}

func FuzzVerify(f *testing.F) {
	e := attesttest.New(f, now)
	v := verifier(f, e)
	good := e.Document(nil)
	f.Add(good)
	f.Add(append([]byte{0xd2}, good...))
	f.Add(e.Document(map[string]any{"pcrs": nil, "nitrotpm_pcrs": map[int][]byte{4: make([]byte, 48)}}))
	f.Fuzz(func(t *testing.T, document []byte) {
		d, err := v.Verify(document, now)
		if (d == nil) == (err == nil) || err != nil && !errors.Is(err, attest.ErrDocument) {
			t.Fatalf("%v, %v", d, err)
		}
	})
}

// FuzzUnsigned reaches what is behind the signature: everything in it is signed well.
func FuzzUnsigned(f *testing.F) {
	e := attesttest.New(f, now)
	v := verifier(f, e)
	f.Add(attesttest.Encode(f, e.Payload(nil)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		d, err := v.Verify(e.In(t).Sign(attesttest.Protected, payload), now)
		if (d == nil) == (err == nil) || err != nil && !errors.Is(err, attest.ErrDocument) {
			t.Fatalf("%v, %v", d, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	e := attesttest.New(b, now)
	document := e.Document(nil)
	b.Run("known chain", func(b *testing.B) {
		v := verifier(b, e)
		for b.Loop() {
			if _, err := v.Verify(document, now); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("new chain", func(b *testing.B) {
		for b.Loop() {
			if _, err := verifier(b, e).Verify(document, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
