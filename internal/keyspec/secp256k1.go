package keyspec

import (
	"bytes"
	"encoding/asn1"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/keywright/keywright/internal/secret"
)

// The standard library has neither this curve nor its encodings. The primitive signs with nonces of RFC 6979 and always
// gives the smaller s of the two; it verifies both.
var (
	oidSECP256K1  = asn1.ObjectIdentifier{1, 3, 132, 0, 10} // SEC 2, A.2.1
	secp256k1Type = keyType{algorithm: oidEC, curve: oidSECP256K1}
)

type secp256k1Key struct {
	signing   *secp256k1.PrivateKey
	publicKey *secp256k1Public
}

type secp256k1Public struct {
	verifying *secp256k1.PublicKey
	spki      []byte
}

var secp256k1Family = family{
	generate: func() (Private, error) {
		k, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			return nil, err
		}
		return newSECP256K1(k), nil
	},
	parse: func(octets []byte) (Private, error) {
		scalar, points, err := parseEC(secp256k1Type, secp256k1.PrivKeyBytesLen, octets)
		if err != nil {
			return nil, err
		}
		defer clear(scalar)
		var d secp256k1.ModNScalar
		if d.SetByteSlice(scalar) || d.IsZero() { // the scalar is the order or more
			return nil, ErrMaterial
		}
		k := newSECP256K1(secp256k1.NewPrivateKey(&d))
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

func newSECP256K1(k *secp256k1.PrivateKey) *secp256k1Key {
	public := k.PubKey()
	return &secp256k1Key{k, &secp256k1Public{public, marshalSPKI(secp256k1Type, public.SerializeUncompressed())}}
}

func (k *secp256k1Key) Octets() secret.Bytes {
	scalar := k.signing.Serialize()
	defer clear(scalar)
	return secret.Take(marshalEC(secp256k1Type, scalar, k.publicKey.verifying.SerializeUncompressed()))
}

func (k *secp256k1Key) Public() Public  { return k.publicKey }
func (p *secp256k1Public) SPKI() []byte { return p.spki }

// Sign implements Signer: an Ecdsa-Sig-Value in DER (RFC 3279).
func (k *secp256k1Key) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	if algorithm != AlgorithmECDSA256 {
		return nil, ErrAlgorithm
	}
	_, sum, err := digest(algorithm, kind, message)
	if err != nil {
		return nil, err
	}
	return ecdsa.Sign(k.signing, sum).Serialize(), nil
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
