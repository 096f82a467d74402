package keyspec

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"encoding/asn1"

	"github.com/emmansun/gmsm/ecdh"
	"github.com/emmansun/gmsm/sm2"

	"github.com/keywright/keywright/internal/secret"
)

var (
	oidSM2  = asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301} // GM/T 0006
	sm2Type = keyType{algorithm: oidEC, curve: oidSM2}
)

// sm2MostPlaintext is how many octets SM2PKE encrypts at most: a limit of the API (reference of Encrypt), not of GB/T 32918.4.
const sm2MostPlaintext = 1024

// sm2Size is the length of a scalar and of a coordinate in octets.
const sm2Size = 32

// sm2Key is a key of GB/T 32918, which signs, encrypts or agrees.
type sm2Key struct {
	signing   *sm2.PrivateKey
	agreeing  *ecdh.PrivateKey
	publicKey *sm2Public
}

type sm2Public struct {
	verifying *ecdsa.PublicKey
	spki      []byte
}

var sm2Family = family{
	generate: func() (Private, error) {
		k, err := sm2.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return newSM2(k)
	},
	parse: func(octets []byte) (Private, error) {
		scalar, points, err := parseEC(sm2Type, sm2Size, octets)
		if err != nil {
			return nil, err
		}
		defer clear(scalar)
		k, err := sm2.NewPrivateKey(scalar)
		if err != nil {
			return nil, ErrMaterial
		}
		for _, point := range points {
			given, err := sm2.NewPublicKey(point)
			if err != nil || !given.Equal(&k.PublicKey) {
				return nil, ErrMaterial
			}
		}
		return newSM2(k)
	},
	parsePublic: func(spki []byte) (Public, error) {
		point, ok := parseSPKI(sm2Type, spki)
		if !ok {
			return nil, ErrPublic
		}
		k, err := sm2.NewPublicKey(point)
		if err != nil {
			return nil, ErrPublic
		}
		return &sm2Public{k, bytes.Clone(spki)}, nil
	},
}

func newSM2(k *sm2.PrivateKey) (Private, error) {
	agreeing, err := k.ECDH()
	if err != nil {
		return nil, err
	}
	return &sm2Key{k, agreeing, &sm2Public{&k.PublicKey, marshalSPKI(sm2Type, agreeing.PublicKey().Bytes())}}, nil
}

func (k *sm2Key) Octets() secret.Bytes {
	scalar := k.agreeing.Bytes()
	defer clear(scalar)
	return secret.Take(marshalEC(sm2Type, scalar, k.agreeing.PublicKey().Bytes()))
}

func (k *sm2Key) Public() Public  { return k.publicKey }
func (p *sm2Public) SPKI() []byte { return p.spki }

// sm2Digest returns the digest that SM2DSA signs: SM3 over the hash of the signer's identity, which is the default
// "1234567812345678", and the message (GM/T 0009, 8.1), or the message if it is that digest.
func sm2Digest(public *ecdsa.PublicKey, algorithm string, kind MessageType, message []byte) ([]byte, error) {
	switch {
	case algorithm != AlgorithmSM2DSA:
		return nil, ErrAlgorithm
	case kind == Raw:
		return sm2.CalculateSM2Hash(public, message, nil)
	case kind != Digest:
		return nil, ErrAlgorithm
	case len(message) != sm3Size:
		return nil, ErrSize
	}
	return message, nil
}

// Sign implements Signer: r and s in DER.
func (k *sm2Key) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	sum, err := sm2Digest(&k.signing.PublicKey, algorithm, kind, message)
	if err != nil {
		return nil, err
	}
	return sm2.SignASN1(rand.Reader, k.signing, sum, nil)
}

// Verify implements Verifier.
func (p *sm2Public) Verify(algorithm string, kind MessageType, message, signature []byte) bool {
	sum, err := sm2Digest(p.verifying, algorithm, kind, message)
	return err == nil && sm2.VerifyASN1(p.verifying, sum, signature)
}

// Encrypt implements Encrypter: the ciphertext of GM/T 0009 in DER.
//
// A short plaintext meets two faults of the library, each in one ciphertext of 256 for a single octet. If the key stream is zeros
// alone it begins again, as GB/T 32918.4 (6.1, A5) says, but with a public key that it has overwritten. And it decrypts no
// plaintext that became zeros alone: it looks for them there, and not in the key stream (7.1, B4). So what it makes of a second
// draw is thrown away, and what became zeros is made again.
func (p *sm2Public) Encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	switch {
	case algorithm != AlgorithmSM2PKE:
		return nil, ErrAlgorithm
	case len(plaintext) > sm2MostPlaintext:
		return nil, ErrSize
	}
	for {
		var draws counter
		blob, err := sm2.EncryptASN1(&draws, p.verifying, plaintext)
		if err != nil || len(plaintext) == 0 {
			return blob, err
		}
		made := blob[len(blob)-len(plaintext):] // it ends with what the plaintext became
		if draws == 1 && bytes.Count(made, []byte{0}) < len(made) {
			return blob, nil
		}
	}
}

// counter is the randomness of the system, and counts how often somebody took from it.
type counter int

// Read implements io.Reader.
func (c *counter) Read(b []byte) (int, error) {
	*c++
	return rand.Read(b)
}

// Decrypt implements Decrypter.
func (k *sm2Key) Decrypt(algorithm string, ciphertext []byte) (secret.Bytes, error) {
	if algorithm != AlgorithmSM2PKE {
		return secret.Bytes{}, ErrAlgorithm
	}
	plaintext, err := k.signing.Decrypt(nil, ciphertext, sm2.ASN1DecrypterOpts)
	if err != nil {
		return secret.Bytes{}, ErrDecrypt
	}
	return secret.Take(plaintext), nil
}

// Agree implements Agreer, by plain ECDH and not by the key exchange of GB/T 32918.3.
func (k *sm2Key) Agree(peerSPKI []byte) (secret.Bytes, error) {
	point, ok := parseSPKI(sm2Type, peerSPKI)
	if !ok {
		return secret.Bytes{}, ErrPeer
	}
	peer, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return secret.Bytes{}, ErrPeer
	}
	shared, err := k.agreeing.ECDH(peer)
	if err != nil {
		return secret.Bytes{}, ErrPeer
	}
	return secret.Take(shared), nil
}
