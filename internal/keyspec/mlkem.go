package keyspec

import (
	"bytes"
	"crypto/mlkem"
	"crypto/rand"
	"encoding/asn1"

	"github.com/cloudflare/circl/kem/mlkem/mlkem512"

	"github.com/keywright/keywright/internal/secret"
)

// The key types of ML-KEM (RFC 9935, 3).
var (
	mlkem512Type  = keyType{algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 1}}
	mlkem768Type  = keyType{algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 2}}
	mlkem1024Type = keyType{algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 3}}
)

// decapsulation and encapsulation are what the implementations of the parameter sets have in common.
type (
	decapsulation interface {
		Bytes() []byte // the seed, d and z of FIPS 203
		Decapsulate(ciphertext []byte) (shared []byte, err error)
	}
	encapsulation interface {
		Bytes() []byte
		Encapsulate() (shared, ciphertext []byte)
	}
)

// mlkemSet is a parameter set of FIPS 203.
type mlkemSet struct {
	keyType        keyType
	ciphertextSize int
	private        func(seed []byte) (decapsulation, encapsulation, error)
	public         func(octets []byte) (encapsulation, error)
}

var (
	mlkemSet512 = &mlkemSet{
		mlkem512Type, mlkem512.CiphertextSize,
		func(seed []byte) (decapsulation, encapsulation, error) {
			public, private := mlkem512.NewKeyFromSeed(seed)
			return &decapsulation512{private, secret.Copy(seed)}, (*encapsulation512)(public), nil
		},
		func(octets []byte) (encapsulation, error) {
			k := new(mlkem512.PublicKey)
			return (*encapsulation512)(k), k.Unpack(octets) // refuses what is not reduced, as FIPS 203, 7.2 says
		},
	}
	mlkemSet768 = &mlkemSet{
		mlkem768Type, mlkem.CiphertextSize768,
		func(seed []byte) (decapsulation, encapsulation, error) {
			k, err := mlkem.NewDecapsulationKey768(seed)
			if err != nil {
				return nil, nil, err
			}
			return k, k.EncapsulationKey(), nil
		},
		func(octets []byte) (encapsulation, error) { return mlkem.NewEncapsulationKey768(octets) },
	}
	mlkemSet1024 = &mlkemSet{
		mlkem1024Type, mlkem.CiphertextSize1024,
		func(seed []byte) (decapsulation, encapsulation, error) {
			k, err := mlkem.NewDecapsulationKey1024(seed)
			if err != nil {
				return nil, nil, err
			}
			return k, k.EncapsulationKey(), nil
		},
		func(octets []byte) (encapsulation, error) { return mlkem.NewEncapsulationKey1024(octets) },
	}
)

// decapsulation512 and encapsulation512 give the module for ML-KEM-512, which the standard library has not, the same shape.
type (
	decapsulation512 struct {
		private *mlkem512.PrivateKey
		seed    secret.Bytes
	}
	encapsulation512 mlkem512.PublicKey
)

func (k *decapsulation512) Bytes() []byte { return bytes.Clone(k.seed.Expose()) }

func (k *decapsulation512) Decapsulate(ciphertext []byte) ([]byte, error) {
	shared := make([]byte, mlkem512.SharedKeySize)
	k.private.DecapsulateTo(shared, ciphertext)
	return shared, nil
}

func (k *encapsulation512) Bytes() []byte {
	octets := make([]byte, mlkem512.PublicKeySize)
	(*mlkem512.PublicKey)(k).Pack(octets)
	return octets
}

func (k *encapsulation512) Encapsulate() (shared, ciphertext []byte) {
	shared, ciphertext = make([]byte, mlkem512.SharedKeySize), make([]byte, mlkem512.CiphertextSize)
	(*mlkem512.PublicKey)(k).EncapsulateTo(ciphertext, shared, nil)
	return shared, ciphertext
}

type mlkemKey struct {
	set           *mlkemSet
	decapsulating decapsulation
	publicKey     *mlkemPublic
}

type mlkemPublic struct {
	encapsulating encapsulation
	spki          []byte
}

func mlkemFamily(set *mlkemSet) family {
	return family{
		generate: func() (Private, error) {
			seed := make([]byte, mlkem.SeedSize)
			_, _ = rand.Read(seed) // never fails: crypto/rand crashes the program instead
			defer clear(seed)
			return set.key(seed)
		},
		parse: func(octets []byte) (Private, error) {
			private, public, err := parsePKCS8(set.keyType, octets)
			if err != nil {
				return nil, err
			}
			seed, expanded, err := parseSeed(private, mlkem.SeedSize)
			if err != nil || expanded != nil { // nothing here writes expanded keys, to compare
				return nil, ErrMaterial
			}
			k, err := set.key(seed)
			if err != nil || public != nil && !bytes.Equal(public, k.publicKey.encapsulating.Bytes()) {
				return nil, ErrMaterial
			}
			return k, nil
		},
		parsePublic: func(spki []byte) (Public, error) {
			public, ok := parseSPKI(set.keyType, spki)
			if !ok {
				return nil, ErrPublic
			}
			k, err := set.public(public)
			if err != nil {
				return nil, ErrPublic
			}
			return &mlkemPublic{k, bytes.Clone(spki)}, nil
		},
	}
}

func (set *mlkemSet) key(seed []byte) (*mlkemKey, error) {
	private, public, err := set.private(seed)
	if err != nil {
		return nil, err
	}
	return &mlkemKey{set, private, &mlkemPublic{public, marshalSPKI(set.keyType, public.Bytes())}}, nil
}

func (k *mlkemKey) Octets() secret.Bytes {
	seed := k.decapsulating.Bytes()
	defer clear(seed)
	return secret.Take(marshalSeed(k.set.keyType, seed))
}

func (k *mlkemKey) Public() Public  { return k.publicKey }
func (p *mlkemPublic) SPKI() []byte { return p.spki }

// Encapsulate implements Encapsulator.
func (p *mlkemPublic) Encapsulate() (shared secret.Bytes, ciphertext []byte, err error) {
	octets, ciphertext := p.encapsulating.Encapsulate()
	return secret.Take(octets), ciphertext, nil
}

// Decapsulate implements Decapsulator.
func (k *mlkemKey) Decapsulate(ciphertext []byte) (secret.Bytes, error) {
	if len(ciphertext) != k.set.ciphertextSize {
		return secret.Bytes{}, ErrCiphertextSize
	}
	shared, err := k.decapsulating.Decapsulate(ciphertext)
	if err != nil {
		return secret.Bytes{}, ErrCiphertextSize // its only error
	}
	return secret.Take(shared), nil
}
