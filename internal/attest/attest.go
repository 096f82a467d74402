// Package attest verifies the attestation documents with which enclaves show what they run ("Attestation document", AWS Nitro
// Enclaves user guide; "NitroTPM attestation document", EC2 user guide), and encrypts answers so that only the enclave of a
// document can read them.
//
// It trusts the roots that it is given and the time that it is told, and nothing in a document before its signature and its
// chain of certificates are verified. It must never return a Document of which any check failed, nor encrypt for a key that
// was in none.
package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Bounds of a document. Most are those of its definition ("Attestation document specification", Nitro Enclaves NSM API).
const (
	maxDocument    = 32 << 10 // octets; the payload has 16 KiB at most, and its envelope is small
	maxPayload     = 16 << 10
	maxCertificate = 1024 // octets of each certificate
	maxBundle      = 16   // certificates above the enclave's own; AWS has four
	maxPublicKey   = 1024
	maxUserData    = 512
	maxNonce       = 512
	maxPCRs        = 32
	maxPCR         = 31 // highest register number of an enclave
	maxNitroTPMPCR = 23 // and of a NitroTPM

	minRSA = 2048 // bits of the key that answers are encrypted for
)

// MaxAge is how far the timestamp of a document may be from the verifier's clock, into the past and the future. The
// certificate of an enclave is valid for hours, and so would be a stolen document.
const MaxAge = 5 * time.Minute

// ErrDocument is wrapped by every error about a document. Its text, which says what is wrong, holds nothing of the document.
var ErrDocument = errors.New("attestation document")

// ErrRoots is wrapped by errors about roots.
var ErrRoots = errors.New("attestation roots")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDocument}, args...)...)
}

// Document is what an attestation document says, verified.
type Document struct {
	ModuleID string
	Time     time.Time // when the hypervisor made it
	// PCRs are the measurements of an enclave, by the number of the register, 0 to 31; nil if a NitroTPM made the document.
	PCRs map[int][]byte
	// NitroTPMPCRs are the measurements of an instance with a NitroTPM, 0 to 23; nil if it is an enclave.
	NitroTPMPCRs map[int][]byte
	// PublicKey is the key that answers are to be encrypted for, RSA of at least 2048 bits.
	PublicKey *rsa.PublicKey
	// UserData and Nonce are what the enclave had put into the document; nil if it has none. Nothing here gives them a meaning.
	UserData, Nonce []byte
}

// Verifier verifies documents. It is safe for concurrent use.
type Verifier struct {
	roots   *x509.CertPool
	trusted map[string]bool // the same, by their DER
	chains  *chainCache
}

// NewVerifier returns a Verifier that trusts the certificates in roots, PEM, of which there must be one at least. Each must be
// a CA with an ECDSA key on P-384, as the root of AWS is; ErrRoots otherwise.
func NewVerifier(roots []byte) (*Verifier, error) {
	v := &Verifier{roots: x509.NewCertPool(), trusted: map[string]bool{}, chains: newChainCache()}
	n := 0
	for rest := bytes.TrimSpace(roots); len(rest) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: number %d is no certificate in PEM", ErrRoots, n+1)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: number %d: %w", ErrRoots, n+1, err)
		}
		if !c.BasicConstraintsValid || !c.IsCA || p384(c) == nil {
			return nil, fmt.Errorf("%w: number %d is no CA with a key on P-384", ErrRoots, n+1)
		}
		v.roots.AddCert(c)
		v.trusted[string(c.Raw)] = true
		rest = bytes.TrimSpace(rest)
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: there are none", ErrRoots)
	}
	return v, nil
}

// Verify checks a document: its form, the chain of certificates up to a root, the signature, and that it is valid at now. The
// error wraps ErrDocument.
func (v *Verifier) Verify(document []byte, now time.Time) (*Document, error) {
	s, err := parseSign1(document)
	if err != nil {
		return nil, err
	}
	p, err := parsePayload(s.Payload)
	if err != nil {
		return nil, err
	}
	signer, err := v.signer(p, now)
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum384(s.signed())
	r, t := new(big.Int).SetBytes(s.Signature[:signatureSize/2]), new(big.Int).SetBytes(s.Signature[signatureSize/2:])
	if !ecdsa.Verify(signer, digest[:], r, t) {
		return nil, bad("the signature is not of the certificate's key")
	}
	// Before this line nobody has vouched for anything in p.
	made := time.UnixMilli(p.Timestamp)
	if age := now.Sub(made); age > MaxAge || age < -MaxAge {
		return nil, bad("it was not made within %d minutes", int(MaxAge.Minutes()))
	}
	public, err := parsePublicKey(p.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Document{
		ModuleID: p.ModuleID, Time: made, PCRs: p.pcrs(p.PCRs), NitroTPMPCRs: p.pcrs(p.NitroTPMPCRs), PublicKey: public,
		UserData: p.UserData, Nonce: p.Nonce,
	}, nil
}

// parsePublicKey reads an RSA key in one of the two forms that enclaves send: SubjectPublicKeyInfo (RFC 5280) or RSAPublicKey
// (RFC 8017).
func parsePublicKey(der []byte) (*rsa.PublicKey, error) {
	var k *rsa.PublicKey
	if general, err := x509.ParsePKIXPublicKey(der); err == nil {
		k, _ = general.(*rsa.PublicKey)
	} else if k, err = x509.ParsePKCS1PublicKey(der); err != nil {
		return nil, bad("public_key is no public key in DER")
	}
	if k == nil || k.N.BitLen() < minRSA || k.N.Bit(0) == 0 || k.E < 65537 || k.E%2 == 0 {
		return nil, bad("public_key is no RSA key of at least %d bits with an exponent of at least 65537", minRSA)
	}
	return k, nil
}

// p384 returns the key of a certificate if it is of the one kind that documents and their chains are signed with.
func p384(c *x509.Certificate) *ecdsa.PublicKey {
	k, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P384() {
		return nil
	}
	return k
}
