package attest

import (
	"bytes"
	"math"

	"github.com/fxamacker/cbor/v2"
)

// A document is a COSE_Sign1 (RFC 9052, section 4.2) whose payload is a map.

const (
	sign1Tag      = 0xd2 // tag 18; it may be left out
	signatureSize = 96   // r and s of P-384 (RFC 9053, section 2.1)
	digestName    = "SHA384"
)

// protectedES384 is the only protected header that there is: {1: -35}, the algorithm ES384 (RFC 9053).
var protectedES384 = []byte{0xa1, 0x01, 0x38, 0x22}

// strict decodes what one encoder only could have meant: no member twice, no indefinite lengths, nothing behind the end.
var strict = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive, UTF8: cbor.UTF8RejectInvalid,
		MaxNestedLevels: 4, MaxArrayElements: 64, MaxMapPairs: 64,
	}.DecMode()
	if err != nil {
		panic("attest: " + err.Error()) // the options are constant
	}
	return mode
}()

// octets is a byte string, or nothing: null, or a member that is not there. The decoder alone would take lists of small
// numbers, too.
type octets []byte

// UnmarshalCBOR implements cbor.Unmarshaler.
func (o *octets) UnmarshalCBOR(b []byte) error {
	const null, byteString = 0xf6, 2
	switch {
	case len(b) == 1 && b[0] == null:
		*o = nil
		return nil
	case len(b) == 0 || b[0]>>5 != byteString:
		return bad("there is something else where octets should be")
	}
	return strict.Unmarshal(b, (*[]byte)(o))
}

type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   octets
	Unprotected cbor.RawMessage
	Payload     octets
	Signature   octets
}

func parseSign1(document []byte) (*sign1, error) {
	if len(document) > maxDocument {
		return nil, bad("it is longer than %d bytes", maxDocument)
	}
	if len(document) > 0 && document[0] == sign1Tag {
		document = document[1:]
	}
	var s sign1
	const emptyMap = 0xa0
	switch err := strict.Unmarshal(document, &s); {
	case err != nil:
		return nil, bad("it is no COSE_Sign1")
	case !bytes.Equal(s.Protected, protectedES384):
		return nil, bad("its protected header is not that of ES384")
	case len(s.Unprotected) != 1 || s.Unprotected[0] != emptyMap:
		return nil, bad("it has an unprotected header")
	case len(s.Payload) == 0 || len(s.Payload) > maxPayload:
		return nil, bad("its payload has not 1 to %d bytes", maxPayload)
	case len(s.Signature) != signatureSize:
		return nil, bad("its signature has not %d bytes", signatureSize)
	}
	return &s, nil
}

// signed returns what the signature is over, Sig_structure (RFC 9052, section 4.4).
func (s *sign1) signed() []byte {
	b, err := cbor.Marshal([]any{"Signature1", []byte(s.Protected), []byte{}, []byte(s.Payload)})
	if err != nil {
		panic("attest: " + err.Error()) // octets and a constant have an encoding
	}
	return b
}

// payload has the members of the map. Those that it does not know are left alone: who signed the document may add some.
type payload struct {
	ModuleID     string            `cbor:"module_id"`
	Digest       string            `cbor:"digest"`
	Timestamp    int64             `cbor:"timestamp"` // Unix time in milliseconds
	PCRs         map[uint64]octets `cbor:"pcrs"`
	NitroTPMPCRs map[uint64]octets `cbor:"nitrotpm_pcrs"`
	Certificate  octets            `cbor:"certificate"`
	Bundle       []octets          `cbor:"cabundle"` // the root first
	PublicKey    octets            `cbor:"public_key"`
	UserData     octets            `cbor:"user_data"`
	Nonce        octets            `cbor:"nonce"`
}

func parsePayload(b []byte) (*payload, error) {
	p := payload{Timestamp: math.MinInt64}
	if err := strict.Unmarshal(b, &p); err != nil {
		return nil, bad("its payload is no map of the known form")
	}
	switch {
	case p.ModuleID == "":
		return nil, bad("module_id is missing")
	case p.Digest != digestName:
		return nil, bad("digest is not %s", digestName)
	case p.Timestamp <= 0:
		return nil, bad("timestamp is missing")
	case (p.PCRs == nil) == (p.NitroTPMPCRs == nil):
		return nil, bad("it needs one of pcrs and nitrotpm_pcrs")
	case !validPCRs(p.PCRs, maxPCR) || !validPCRs(p.NitroTPMPCRs, maxNitroTPMPCR):
		return nil, bad("there is a register of a wrong number or length, or none")
	case !validSize(p.Certificate, maxCertificate):
		return nil, bad("certificate has not 1 to %d bytes", maxCertificate)
	case len(p.Bundle) == 0 || len(p.Bundle) > maxBundle:
		return nil, bad("cabundle has not 1 to %d certificates", maxBundle)
	case !validSize(p.PublicKey, maxPublicKey):
		return nil, bad("public_key has not 1 to %d bytes", maxPublicKey)
	case len(p.UserData) > maxUserData || len(p.Nonce) > maxNonce:
		return nil, bad("user_data or nonce is too long")
	}
	for _, c := range p.Bundle {
		if !validSize(c, maxCertificate) {
			return nil, bad("a certificate of cabundle has not 1 to %d bytes", maxCertificate)
		}
	}
	return &p, nil
}

func validSize(b octets, most int) bool { return len(b) > 0 && len(b) <= most }

// validPCRs checks registers, nil being the other kind's. Their lengths are those of SHA-256, SHA-384 and SHA-512.
func validPCRs(m map[uint64]octets, highest uint64) bool {
	if m == nil {
		return true
	}
	for n, value := range m {
		if n > highest || len(value) != 32 && len(value) != 48 && len(value) != 64 {
			return false
		}
	}
	return len(m) > 0 && len(m) <= maxPCRs
}

// pcrs returns checked registers as a Document has them.
func (p *payload) pcrs(m map[uint64]octets) map[int][]byte {
	if m == nil {
		return nil
	}
	all := make(map[int][]byte, len(m))
	for n, value := range m {
		all[int(n)] = value //nolint:gosec // at most 31
	}
	return all
}
