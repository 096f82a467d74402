package keyspec

import (
	"bytes"
	"encoding/asn1"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
	"github.com/cloudflare/circl/sign"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"github.com/cloudflare/circl/sign/mldsa/mldsa65"
	"github.com/cloudflare/circl/sign/mldsa/mldsa87"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keywright/keywright/internal/secret"
)

// The key types of ML-DSA (RFC 9881, 2).
var (
	mldsa44Type = keyType{algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17}}
	mldsa65Type = keyType{algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}}
	mldsa87Type = keyType{algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}}
)

// MuSize is the length of mu, the message representative of ML-DSA, in octets (FIPS 204, algorithm 7).
const MuSize = 64

// mldsaSet is a parameter set of FIPS 204.
type mldsaSet struct {
	parameters mldsa.Parameters
	keyType    keyType
	expander   sign.Scheme // of another implementation, which can write expanded keys
	shape      *mldsaShape
}

var (
	mldsaSet44 = &mldsaSet{mldsa.MLDSA44(), mldsa44Type, mldsa44.Scheme(), mldsaShape44}
	mldsaSet65 = &mldsaSet{mldsa.MLDSA65(), mldsa65Type, mldsa65.Scheme(), mldsaShape65}
	mldsaSet87 = &mldsaSet{mldsa.MLDSA87(), mldsa87Type, mldsa87.Scheme(), mldsaShape87}
)

// mldsaKey is a key that was expanded from its seed once, when it was made.
type mldsaKey struct {
	set       *mldsaSet
	signing   *mldsa.PrivateKey
	publicKey *mldsaPublic
}

type mldsaPublic struct {
	set       *mldsaSet
	verifying *mldsa.PublicKey
	spki      []byte
}

func mldsaFamily(set *mldsaSet) family {
	return family{
		generate: func() (Private, error) {
			k, err := mldsa.GenerateKey(set.parameters)
			if err != nil {
				return nil, err
			}
			return set.private(k), nil
		},
		parse: set.parse,
		parsePublic: func(spki []byte) (Public, error) {
			public, ok := parseSPKI(set.keyType, spki)
			if !ok {
				return nil, ErrPublic
			}
			k, err := mldsa.NewPublicKey(set.parameters, public)
			if err != nil {
				return nil, ErrPublic
			}
			return &mldsaPublic{set, k, bytes.Clone(spki)}, nil
		},
	}
}

func (set *mldsaSet) private(k *mldsa.PrivateKey) *mldsaKey {
	public := k.PublicKey()
	return &mldsaKey{set, k, &mldsaPublic{set, public, marshalSPKI(set.keyType, public.Bytes())}}
}

// parse reads a key that has its seed, alone or with the expanded key, which must be the seed's then (RFC 9881, 6). One
// without a seed cannot be written in the canonical form and is refused.
func (set *mldsaSet) parse(octets []byte) (Private, error) {
	private, public, err := parsePKCS8(set.keyType, octets)
	if err != nil {
		return nil, err
	}
	seed, expanded, err := parseSeed(private, mldsa.PrivateKeySize)
	if err != nil {
		return nil, err
	}
	if expanded != nil {
		_, k := set.expander.DeriveKey(seed)
		want, err := k.MarshalBinary()
		defer clear(want)
		if err != nil || !bytes.Equal(want, expanded) {
			return nil, ErrMaterial
		}
	}
	k, err := mldsa.NewPrivateKey(set.parameters, seed)
	if err != nil || public != nil && !bytes.Equal(public, k.PublicKey().Bytes()) {
		return nil, ErrMaterial
	}
	return set.private(k), nil
}

// tagSeed marks the seed in the private keys of ML-DSA (RFC 9881, 6) and ML-KEM (RFC 9935, 6).
var tagSeed = cbasn1.Tag(0).ContextSpecific()

// parseSeed reads the choice of a seed alone, or of a seed and an expanded key.
func parseSeed(der []byte, size int) (seed, expanded []byte, err error) {
	input := cryptobyte.String(der)
	var first, second, both cryptobyte.String
	switch {
	case input.PeekASN1Tag(tagSeed) && input.ReadASN1(&first, tagSeed) && input.Empty():
	case input.ReadASN1(&both, cbasn1.SEQUENCE) && input.Empty() &&
		both.ReadASN1(&first, cbasn1.OCTET_STRING) && both.ReadASN1(&second, cbasn1.OCTET_STRING) && both.Empty():
		expanded = second
	default:
		return nil, nil, ErrMaterial
	}
	if len(first) != size {
		return nil, nil, ErrMaterial
	}
	return first, expanded, nil
}

// marshalSeed returns the PKCS#8 form of a seed.
func marshalSeed(t keyType, seed []byte) []byte {
	return marshalPKCS8(t, func(b *cryptobyte.Builder) {
		b.AddASN1(tagSeed, func(b *cryptobyte.Builder) { b.AddBytes(seed) })
	})
}

func (k *mldsaKey) Octets() secret.Bytes {
	seed := k.signing.Bytes()
	defer clear(seed)
	return secret.Take(marshalSeed(k.set.keyType, seed))
}

func (k *mldsaKey) Public() Public  { return k.publicKey }
func (p *mldsaPublic) SPKI() []byte { return p.spki }

func checkMLDSA(algorithm string, kind MessageType, message []byte) error {
	switch {
	case algorithm != AlgorithmMLDSA || kind != Raw && kind != ExternalMu:
		return ErrAlgorithm
	case kind == ExternalMu && len(message) != MuSize:
		return ErrSize
	}
	return nil
}

// Sign implements Signer: the hedged variant of FIPS 204, without pre-hashing and with an empty context.
func (k *mldsaKey) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	if err := checkMLDSA(algorithm, kind, message); err != nil {
		return nil, err
	}
	if kind == ExternalMu {
		return k.signing.Sign(nil, message, mldsacrypto.MLDSAMu)
	}
	return k.signing.Sign(nil, message, nil)
}

// Verify implements Verifier.
func (p *mldsaPublic) Verify(algorithm string, kind MessageType, message, signature []byte) bool {
	if checkMLDSA(algorithm, kind, message) != nil {
		return false
	}
	if kind == ExternalMu {
		return p.set.shape.verify(p.verifying.Bytes(), message, signature)
	}
	return mldsa.Verify(p.verifying, message, signature, nil) == nil
}
