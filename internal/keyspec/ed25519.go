package keyspec

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keywright/keywright/internal/secret"
)

// ed25519Key is a key of RFC 8032. Its encodings are those of RFC 8410.
type ed25519Key struct {
	signing   ed25519.PrivateKey
	publicKey *ed25519Public
}

type ed25519Public struct {
	verifying ed25519.PublicKey
	spki      []byte
}

var ed25519Type = keyType{algorithm: oidEd25519}

// prehashed are the options of Ed25519ph without a context.
var prehashed = &ed25519.Options{Hash: crypto.SHA512}

var ed25519Family = family{
	generate: func() (Private, error) {
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newEd25519(k), nil
	},
	parse: func(octets []byte) (Private, error) {
		private, public, err := parsePKCS8(ed25519Type, octets)
		if err != nil {
			return nil, err
		}
		input := cryptobyte.String(private)
		var seed cryptobyte.String
		if !input.ReadASN1(&seed, cbasn1.OCTET_STRING) || !input.Empty() || len(seed) != ed25519.SeedSize {
			return nil, ErrMaterial
		}
		k := newEd25519(ed25519.NewKeyFromSeed(seed))
		if public != nil && !bytes.Equal(public, k.publicKey.verifying) {
			return nil, ErrMaterial
		}
		return k, nil
	},
	parsePublic: func(spki []byte) (Public, error) {
		public, ok := parseSPKI(ed25519Type, spki)
		if !ok || len(public) != ed25519.PublicKeySize {
			return nil, ErrPublic
		}
		return &ed25519Public{bytes.Clone(public), bytes.Clone(spki)}, nil
	},
}

func newEd25519(k ed25519.PrivateKey) *ed25519Key {
	public := k.Public().(ed25519.PublicKey)
	return &ed25519Key{k, &ed25519Public{public, marshalSPKI(ed25519Type, public)}}
}

func (k *ed25519Key) Octets() secret.Bytes {
	seed := k.signing.Seed() // a copy
	defer clear(seed)
	return secret.Take(marshalPKCS8(ed25519Type, func(b *cryptobyte.Builder) { b.AddASN1OctetString(seed) }))
}

func (k *ed25519Key) wipe()           { clear(k.signing) }
func (k *ed25519Key) Public() Public  { return k.publicKey }
func (p *ed25519Public) SPKI() []byte { return p.spki }

// ed25519Input returns what the primitive is given, and its options: the message of ED25519_SHA_512, or for
// ED25519_PH_SHA_512 the hash of the digest. The API treats the 64 octets that it gets as the message of Ed25519ph, so they
// are hashed once more.
func ed25519Input(algorithm string, kind MessageType, message []byte) ([]byte, *ed25519.Options, error) {
	switch {
	case algorithm == AlgorithmEd25519 && kind == Raw:
		return message, &ed25519.Options{}, nil
	case algorithm == AlgorithmEd25519ph && kind == Digest && len(message) != sha512.Size:
		return nil, nil, ErrSize
	case algorithm == AlgorithmEd25519ph && kind == Digest:
		sum := sha512.Sum512(message)
		return sum[:], prehashed, nil
	}
	return nil, nil, ErrAlgorithm
}

// Sign implements Signer: the 64 octets of RFC 8032.
func (k *ed25519Key) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	input, options, err := ed25519Input(algorithm, kind, message)
	if err != nil {
		return nil, err
	}
	return k.signing.Sign(nil, input, options)
}

// Verify implements Verifier.
func (p *ed25519Public) Verify(algorithm string, kind MessageType, message, signature []byte) bool {
	input, options, err := ed25519Input(algorithm, kind, message)
	return err == nil && ed25519.VerifyWithOptions(p.verifying, input, signature, options) == nil
}
