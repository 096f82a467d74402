package keyspec

import (
	"bytes"
	"encoding/asn1"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/keywright/keywright/internal/secret"
)

// The standard library has neither this curve nor its encodings. The module's arithmetic modulo the order takes constant time,
// but its multiplication of points and its inversion do not. What is secret is therefore blinded with a random number before it gets
// there: the time then depends on numbers that are used once. Verification has no secrets and is the module's own.
var (
	oidSECP256K1  = asn1.ObjectIdentifier{1, 3, 132, 0, 10} // SEC 2, A.2.1
	secp256k1Type = keyType{algorithm: oidEC, curve: oidSECP256K1}
)

type secp256k1Key struct {
	scalar    secp256k1.ModNScalar
	publicKey *secp256k1Public
}

type secp256k1Public struct {
	verifying *secp256k1.PublicKey
	spki      []byte
}

var secp256k1Family = family{
	generate: func() (Private, error) {
		d, err := randomScalar()
		if err != nil {
			return nil, err
		}
		defer d.Zero() // the key has its own copy
		return newSECP256K1(d)
	},
	parse: func(octets []byte) (Private, error) {
		scalar, points, err := parseEC(secp256k1Type, secp256k1.PrivKeyBytesLen, octets)
		if err != nil {
			return nil, err
		}
		defer clear(scalar)
		var d secp256k1.ModNScalar
		defer d.Zero()
		if d.SetByteSlice(scalar) || d.IsZero() { // the scalar is the order or more
			return nil, ErrMaterial
		}
		k, err := newSECP256K1(&d)
		if err != nil {
			return nil, err
		}
		for _, point := range points {
			given, err := parseSECP256K1(point)
			if err != nil || !given.IsEqual(k.publicKey.verifying) {
				return nil, ErrMaterial
			}
		}
		return k, nil
	},
	parsePublic: func(spki []byte) (Public, error) {
		point, ok := parseSPKI(secp256k1Type, spki)
		if !ok {
			return nil, ErrPublic
		}
		k, err := parseSECP256K1(point)
		if err != nil {
			return nil, ErrPublic
		}
		return &secp256k1Public{k, bytes.Clone(spki)}, nil
	},
}

// parseSECP256K1 reads an uncompressed point, as those of the other curves. The module would also take compressed and hybrid ones.
func parseSECP256K1(point []byte) (*secp256k1.PublicKey, error) {
	if len(point) != secp256k1.PubKeyBytesLenUncompressed || point[0] != secp256k1.PubKeyFormatUncompressed {
		return nil, ErrPublic
	}
	return secp256k1.ParsePubKey(point)
}

func newSECP256K1(d *secp256k1.ModNScalar) (*secp256k1Key, error) {
	p, err := multipleOfG(d)
	if err != nil {
		return nil, err
	}
	public := secp256k1.NewPublicKey(&p.X, &p.Y)
	return &secp256k1Key{*d, &secp256k1Public{public, marshalSPKI(secp256k1Type, public.SerializeUncompressed())}}, nil
}

// randomScalar returns a number from 1 to the order less 1.
func randomScalar() (*secp256k1.ModNScalar, error) {
	k, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	return &k.Key, nil
}

// multipleOfG returns kG in affine coordinates, as the sum of (k-b)G and bG.
func multipleOfG(k *secp256k1.ModNScalar) (*secp256k1.JacobianPoint, error) {
	b, err := randomScalar()
	if err != nil {
		return nil, err
	}
	defer b.Zero()
	var rest secp256k1.ModNScalar
	defer rest.Zero()
	rest.NegateVal(b).Add(k)
	var first, second, sum secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(&rest, &first)
	secp256k1.ScalarBaseMultNonConst(b, &second)
	secp256k1.AddNonConst(&first, &second, &sum)
	sum.ToAffine()
	return &sum, nil
}

// inverse returns the inverse of k, as that of kb times b.
func inverse(k *secp256k1.ModNScalar) (*secp256k1.ModNScalar, error) {
	b, err := randomScalar()
	if err != nil {
		return nil, err
	}
	defer b.Zero()
	var blinded secp256k1.ModNScalar
	defer blinded.Zero()
	blinded.Mul2(k, b)
	return new(secp256k1.ModNScalar).InverseValNonConst(&blinded).Mul(b), nil
}

func (k *secp256k1Key) Octets() secret.Bytes {
	scalar := k.scalar.Bytes()
	defer clear(scalar[:])
	return secret.Take(marshalEC(secp256k1Type, scalar[:], k.publicKey.verifying.SerializeUncompressed()))
}

func (k *secp256k1Key) wipe()           { k.scalar.Zero() }
func (k *secp256k1Key) Public() Public  { return k.publicKey }
func (p *secp256k1Public) SPKI() []byte { return p.spki }

// Sign implements Signer: an Ecdsa-Sig-Value in DER (RFC 3279), with the smaller s of the two.
func (k *secp256k1Key) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	if algorithm != AlgorithmECDSA256 {
		return nil, ErrAlgorithm
	}
	_, sum, err := digest(algorithm, kind, message)
	if err != nil {
		return nil, err
	}
	for {
		signature, err := k.sign(sum)
		if signature != nil || err != nil {
			return signature, err
		}
	}
}

// sign is ECDSA (FIPS 186-5, 6.4.1) with a random nonce. It returns nil for one that does not do, which nobody will see.
func (k *secp256k1Key) sign(sum []byte) ([]byte, error) {
	nonce, err := randomScalar()
	if err != nil {
		return nil, err
	}
	defer nonce.Zero()
	point, err := multipleOfG(nonce)
	if err != nil {
		return nil, err
	}
	inverted, err := inverse(nonce)
	if err != nil {
		return nil, err
	}
	defer inverted.Zero() // it gives the private key away as the nonce does
	var r, s, e secp256k1.ModNScalar
	r.SetBytes(point.X.Bytes()) // reduces what is over the order
	e.SetByteSlice(sum)         // likewise
	s.Mul2(&r, &k.scalar).Add(&e).Mul(inverted)
	if r.IsZero() || s.IsZero() {
		return nil, nil
	}
	return ecdsa.NewSignature(&r, &s).Serialize(), nil
}

// Verify implements Verifier.
func (p *secp256k1Public) Verify(algorithm string, kind MessageType, message, signature []byte) bool {
	if algorithm != AlgorithmECDSA256 {
		return false
	}
	_, sum, err := digest(algorithm, kind, message)
	if err != nil {
		return false
	}
	sig, err := ecdsa.ParseDERSignature(signature)
	return err == nil && sig.Verify(sum, p.verifying)
}
