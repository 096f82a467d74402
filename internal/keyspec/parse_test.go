package keyspec_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// pkcs1Key and pkcs8Key are the encodings of RFC 8017 and RFC 5958, to write wrong ones.
type (
	pkcs1Key struct {
		Version                     int
		N, E, D, P, Q, DP, DQ, QInv *big.Int
	}
	ecPrivate struct {
		Version    int
		Scalar     []byte
		Parameters asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		Public     asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
	pkcs8Key struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Private    []byte
		Attributes asn1.RawValue `asn1:"optional"`
	}
)

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func inPKCS8(t testing.TB, algorithm asn1.ObjectIdentifier, parameters any, private []byte) []byte {
	t.Helper()
	return der(t, pkcs8Key{0, pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.RawValue{FullBytes: der(t, parameters)}}, private, asn1.RawValue{}})
}

var (
	oidRSA  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidPSS  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEC   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384 = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
)

func TestRSAKeysOfOtherForms(t *testing.T) {
	k, err := keyspec.Generate(keyspec.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	octets := k.Octets().Expose()
	private, err := x509.ParsePKCS8PrivateKey(octets)
	if err != nil {
		t.Fatal(err)
	}
	r := private.(*rsa.PrivateKey)
	p, q, one := r.Primes[0], r.Primes[1], big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	long := new(big.Int).ModInverse(big.NewInt(65537), phi)
	good := func() *pkcs1Key {
		return &pkcs1Key{0, r.N, big.NewInt(65537), r.D, p, q, r.Precomputed.Dp, r.Precomputed.Dq, r.Precomputed.Qinv}
	}
	changed := func(change func(*pkcs1Key)) []byte {
		g := good()
		change(g)
		return inPKCS8(t, oidRSA, asn1.NullRawValue, der(t, *g))
	}
	for name, form := range map[string][]byte{
		"as it was":               changed(func(*pkcs1Key) {}),
		"the exponent modulo phi": changed(func(g *pkcs1Key) { g.D = long }),
		"the primes changed about": changed(func(g *pkcs1Key) {
			g.P, g.Q, g.DP, g.DQ, g.QInv = q, p, g.DQ, g.DP, new(big.Int).ModInverse(p, q)
		}),
	} {
		got, err := keyspec.Parse(keyspec.RSA2048, form)
		if err != nil || !bytes.Equal(got.Octets().Expose(), octets) {
			t.Errorf("%s: %v, or other octets", name, err)
		}
	}
	three, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 2048) //nolint:staticcheck // deprecated, and what is refused here
	if err != nil {
		t.Fatal(err)
	}
	plus := func(n *big.Int) *big.Int { return new(big.Int).Add(n, big.NewInt(2)) }
	for name, form := range map[string][]byte{
		"another n":        changed(func(g *pkcs1Key) { g.N = plus(g.N) }),
		"another d":        changed(func(g *pkcs1Key) { g.D = plus(g.D) }),
		"another e":        changed(func(g *pkcs1Key) { g.E = big.NewInt(65539) }),
		"another p":        changed(func(g *pkcs1Key) { g.P = plus(g.P) }),
		"another dP":       changed(func(g *pkcs1Key) { g.DP = plus(g.DP) }),
		"another dQ":       changed(func(g *pkcs1Key) { g.DQ = plus(g.DQ) }),
		"another qInv":     changed(func(g *pkcs1Key) { g.QInv = plus(g.QInv) }),
		"p and q are 1, n": changed(func(g *pkcs1Key) { g.P, g.Q = one, g.N }),
		"negative":         changed(func(g *pkcs1Key) { g.D = new(big.Int).Neg(g.D) }),
		"e of 3":           small(t, 3),
		"not prime":        composite(t),
		"three primes":     mustPKCS8(t, three),
		"for PSS":          inPKCS8(t, oidPSS, asn1.NullRawValue, der(t, *good())),
		"no parameters":    der(t, pkcs8Key{0, pkix.AlgorithmIdentifier{Algorithm: oidRSA}, der(t, *good()), asn1.RawValue{}}),
		"more behind it":   inPKCS8(t, oidRSA, asn1.NullRawValue, append(der(t, *good()), 0)),
		"PKCS#1":           der(t, *good()),
		"SEC 1":            der(t, ecPrivate{Version: 1, Scalar: make([]byte, 32)}),
	} {
		if _, err := keyspec.Parse(keyspec.RSA2048, form); !errors.Is(err, keyspec.ErrMaterial) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func mustPKCS8(t testing.TB, k any) []byte {
	t.Helper()
	form, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return form
}

// small returns a good key of another public exponent.
func small(t testing.TB, e int64) []byte {
	t.Helper()
	for {
		p, err := rand.Prime(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		q, err := rand.Prime(rand.Reader, 1024)
		if err != nil {
			t.Fatal(err)
		}
		if form, ok := rsaOf(t, p, q, e); ok {
			return form
		}
	}
}

// composite returns a key that agrees with itself, but has a p that is the product of two primes.
func composite(t testing.TB) []byte {
	t.Helper()
	for {
		var parts [3]*big.Int
		for i, bits := range []int{512, 512, 1024} {
			n, err := rand.Prime(rand.Reader, bits)
			if err != nil {
				t.Fatal(err)
			}
			parts[i] = n
		}
		if form, ok := rsaOf(t, new(big.Int).Mul(parts[0], parts[1]), parts[2], 65537); ok {
			return form
		}
	}
}

func rsaOf(t testing.TB, p, q *big.Int, exponent int64) ([]byte, bool) {
	t.Helper()
	one, e := big.NewInt(1), big.NewInt(exponent)
	p1, q1, n := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one), new(big.Int).Mul(p, q)
	d := new(big.Int).ModInverse(e, new(big.Int).Mul(p1, q1))
	if d == nil || n.BitLen() != 2048 {
		return nil, false
	}
	k := pkcs1Key{0, n, e, d, p, q, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1), new(big.Int).ModInverse(q, p)}
	return inPKCS8(t, oidRSA, asn1.NullRawValue, der(t, k)), true
}

func TestECKeysOfOtherForms(t *testing.T) {
	private, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for private.Bytes()[0] != 0 { // a scalar that some encoders write shorter
		if private, err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	other, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	octets := mustPKCS8(t, private)
	scalar := private.Bytes()
	bits := func(k *ecdh.PrivateKey) asn1.BitString {
		b := k.PublicKey().Bytes()
		return asn1.BitString{Bytes: b, BitLength: 8 * len(b)}
	}
	in := func(p ecPrivate) []byte { return inPKCS8(t, oidEC, oidP256, der(t, p)) }
	for name, form := range map[string][]byte{
		"as it was":          octets,
		"no public key":      in(ecPrivate{Version: 1, Scalar: scalar}),
		"its curve again":    in(ecPrivate{Version: 1, Scalar: scalar, Parameters: oidP256, Public: bits(private)}),
		"no leading zero":    in(ecPrivate{Version: 1, Scalar: scalar[1:]}),
		"more leading zeros": in(ecPrivate{Version: 1, Scalar: append([]byte{0, 0}, scalar...)}),
		"attributes": der(t, pkcs8Key{
			0,
			pkix.AlgorithmIdentifier{Algorithm: oidEC, Parameters: asn1.RawValue{FullBytes: der(t, oidP256)}},
			der(t, ecPrivate{Version: 1, Scalar: scalar}),
			asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true},
		}),
	} {
		got, err := keyspec.Parse(keyspec.P256, form)
		if err != nil || !bytes.Equal(got.Octets().Expose(), octets) {
			t.Errorf("%s: %v, or other octets", name, err)
		}
	}
	order := elliptic.P256().Params().N.Bytes()
	for name, form := range map[string][]byte{
		"another public key": in(ecPrivate{Version: 1, Scalar: scalar, Public: bits(other)}),
		"another curve":      in(ecPrivate{Version: 1, Scalar: scalar, Parameters: oidP384}),
		"of another curve":   inPKCS8(t, oidEC, oidP384, der(t, ecPrivate{Version: 1, Scalar: scalar})),
		"another version":    in(ecPrivate{Version: 2, Scalar: scalar}),
		"zero":               in(ecPrivate{Version: 1, Scalar: make([]byte, 32)}),
		"the order":          in(ecPrivate{Version: 1, Scalar: order}),
		"too long":           in(ecPrivate{Version: 1, Scalar: append([]byte{1}, scalar...)}),
		"more behind it":     inPKCS8(t, oidEC, oidP256, append(der(t, ecPrivate{Version: 1, Scalar: scalar}), 0)),
		"SEC 1":              der(t, ecPrivate{Version: 1, Scalar: scalar, Parameters: oidP256}),
	} {
		if _, err := keyspec.Parse(keyspec.P256, form); !errors.Is(err, keyspec.ErrMaterial) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The curves with encodings of ours refuse the same.
func TestOtherCurvesRefuseWhatLies(t *testing.T) {
	for s, curve := range map[key.Spec]asn1.ObjectIdentifier{keyspec.P256K1: {1, 3, 132, 0, 10}, keyspec.SM2: {1, 2, 156, 10197, 1, 301}} {
		k, err := keyspec.Generate(s)
		if err != nil {
			t.Fatal(err)
		}
		spki := k.Public().SPKI()
		point := spki[len(spki)-65:]
		in := func(scalar, point []byte) []byte {
			return inPKCS8(t, oidEC, curve, der(t, ecPrivate{Version: 1, Scalar: scalar, Public: asn1.BitString{Bytes: point, BitLength: 8 * len(point)}}))
		}
		for name, form := range map[string][]byte{
			"another public key": in(bytes.Repeat([]byte{1}, 32), point),
			"zero":               in(make([]byte, 32), point),
			"over the order":     in(bytes.Repeat([]byte{0xff}, 32), point),
		} {
			if _, err := keyspec.Parse(s, form); !errors.Is(err, keyspec.ErrMaterial) {
				t.Errorf("%s, %s: %v", s, name, err)
			}
		}
		compressed := slices.Clone(spki[:len(spki)-65])
		compressed[1] -= 32 // the length of all, and of the BIT STRING
		compressed[len(compressed)-2] -= 32
		compressed = append(append(compressed, 2+point[64]&1), point[1:33]...)
		hybrid := slices.Clone(spki)
		hybrid[len(hybrid)-65] = 6 + point[64]&1
		for _, bad := range [][]byte{compressed, hybrid} {
			if _, err := keyspec.ParsePublic(s, bad); !errors.Is(err, keyspec.ErrPublic) {
				t.Errorf("%s, another form of the point: %v", s, err)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range keyspec.All() {
		k := generated(f, r.Spec)
		f.Add(k.Octets().Expose())
		if k.Public() != nil {
			f.Add(k.Public().SPKI())
		}
	}
	f.Fuzz(func(t *testing.T, octets []byte) {
		for _, r := range keyspec.All() {
			switch k, err := keyspec.Parse(r.Spec, octets); {
			case err == nil:
				canonical := k.Octets()
				again, err := keyspec.Parse(r.Spec, canonical.Expose())
				if err != nil || !again.Octets().Equal(canonical) {
					t.Errorf("%s: the canonical octets do not parse to themselves: %v", r.Spec, err)
				}
			case !errors.Is(err, keyspec.ErrMaterial):
				t.Errorf("%s: %v", r.Spec, err)
			}
			switch p, err := keyspec.ParsePublic(r.Spec, octets); {
			case err == nil:
				if !bytes.Equal(p.SPKI(), octets) {
					t.Errorf("%s: another SPKI", r.Spec)
				}
			case !errors.Is(err, keyspec.ErrPublic):
				t.Errorf("%s: %v", r.Spec, err)
			}
		}
	})
}

func FuzzVerify(f *testing.F) {
	type signed struct {
		row        *keyspec.Row
		verifier   keyspec.Verifier
		message    []byte
		signatures map[string][]byte
	}
	var all []signed
	for _, r := range keyspec.All() {
		if len(r.Signing) == 0 || r.Spec == keyspec.RSA3072 || r.Spec == keyspec.RSA4096 {
			continue
		}
		k := generated(f, r.Spec)
		s := signed{r, k.Public().(keyspec.Verifier), make([]byte, 64), map[string][]byte{}}
		for _, algorithm := range r.Signing {
			kind := keyspec.Raw
			if algorithm == "ED25519_PH_SHA_512" {
				kind = keyspec.Digest
			}
			signature, err := k.(keyspec.Signer).Sign(algorithm, kind, s.message)
			if err != nil {
				f.Fatal(err)
			}
			s.signatures[algorithm] = signature
			f.Add(signature)
		}
		all = append(all, s)
	}
	f.Fuzz(func(t *testing.T, signature []byte) {
		for _, s := range all {
			for _, algorithm := range s.row.Signing {
				if s.verifier.Verify(algorithm, keyspec.Raw, s.message, signature) && !bytes.Equal(signature, s.signatures[algorithm]) {
					t.Errorf("%s verifies %x", algorithm, signature)
				}
				s.verifier.Verify(algorithm, keyspec.ExternalMu, s.message, signature)
				s.verifier.Verify(algorithm, keyspec.Digest, s.message, signature)
			}
		}
	})
}
