package keyspec

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"

	"github.com/keywright/keywright/internal/secret"
)

// nistCurve is one of the curves of SP 800-186 that sign with ECDSA (FIPS 186-5) and agree by ECDH (SP 800-56A).
type nistCurve struct {
	curve     elliptic.Curve
	agreement ecdh.Curve
	hash      crypto.Hash
	algorithm string
}

func (c *nistCurve) size() int { return (c.curve.Params().BitSize + 7) / 8 }

func (c *nistCurve) keyType() keyType {
	switch c.hash {
	case crypto.SHA256:
		return keyType{algorithm: oidEC, curve: oidP256}
	case crypto.SHA384:
		return keyType{algorithm: oidEC, curve: oidP384}
	}
	return keyType{algorithm: oidEC, curve: oidP521}
}

// nistKey is a private key of a NIST curve. The key itself is checked when it is made, and has both forms ready.
type nistKey struct {
	*nistCurve
	signing   *ecdsa.PrivateKey
	agreeing  *ecdh.PrivateKey
	publicKey *nistPublic
}

type nistPublic struct {
	*nistCurve
	verifying *ecdsa.PublicKey
	spki      []byte
}

func nistFamily(c *nistCurve) family {
	return family{
		generate: func() (Private, error) {
			k, err := ecdsa.GenerateKey(c.curve, rand.Reader)
			if err != nil {
				return nil, err
			}
			return c.private(k)
		},
		parse: c.parse,
		parsePublic: func(spki []byte) (Public, error) {
			point, ok := parseSPKI(c.keyType(), spki)
			if !ok {
				return nil, ErrPublic
			}
			k, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
			if err != nil {
				return nil, ErrPublic
			}
			return &nistPublic{c, k, bytes.Clone(spki)}, nil
		},
	}
}

func (c *nistCurve) parse(octets []byte) (Private, error) {
	scalar, points, err := parseEC(c.keyType(), c.size(), octets)
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	k, err := ecdsa.ParseRawPrivateKey(c.curve, scalar)
	if err != nil {
		return nil, ErrMaterial
	}
	for _, point := range points {
		given, err := ecdsa.ParseUncompressedPublicKey(c.curve, point)
		if err != nil || !given.Equal(&k.PublicKey) {
			return nil, ErrMaterial
		}
	}
	return c.private(k)
}

func (c *nistCurve) private(k *ecdsa.PrivateKey) (Private, error) {
	agreeing, err := k.ECDH()
	if err != nil {
		return nil, err
	}
	point := agreeing.PublicKey().Bytes()
	return &nistKey{c, k, agreeing, &nistPublic{c, &k.PublicKey, marshalSPKI(c.keyType(), point)}}, nil
}

func (k *nistKey) Octets() secret.Bytes {
	scalar := k.agreeing.Bytes()
	defer clear(scalar)
	return secret.Take(marshalEC(k.keyType(), scalar, k.agreeing.PublicKey().Bytes()))
}

func (k *nistKey) Public() Public  { return k.publicKey }
func (p *nistPublic) SPKI() []byte { return p.spki }

// Sign implements Signer: an Ecdsa-Sig-Value in DER (RFC 3279).
func (k *nistKey) Sign(algorithm string, kind MessageType, message []byte) ([]byte, error) {
	if algorithm != k.algorithm {
		return nil, ErrAlgorithm
	}
	_, sum, err := digest(algorithm, kind, message)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, k.signing, sum)
}

// Verify implements Verifier.
func (p *nistPublic) Verify(algorithm string, kind MessageType, message, signature []byte) bool {
	if algorithm != p.algorithm {
		return false
	}
	_, sum, err := digest(algorithm, kind, message)
	return err == nil && ecdsa.VerifyASN1(p.verifying, sum, signature)
}

// Agree implements Agreer.
func (k *nistKey) Agree(peerSPKI []byte) (secret.Bytes, error) {
	point, ok := parseSPKI(k.keyType(), peerSPKI)
	if !ok {
		return secret.Bytes{}, ErrPeer
	}
	peer, err := k.nistCurve.agreement.NewPublicKey(point) // refuses what is not on the curve, and the point at infinity
	if err != nil {
		return secret.Bytes{}, ErrPeer
	}
	shared, err := k.agreeing.ECDH(peer)
	if err != nil {
		return secret.Bytes{}, ErrPeer
	}
	return secret.Take(shared), nil
}
