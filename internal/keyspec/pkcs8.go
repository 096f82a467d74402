package keyspec

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The object identifiers of the keys that have an encoding of ours, because the standard library reads or writes them
// less exactly than is needed here, or not at all.
var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // RFC 8017
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // RFC 5480
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}             // RFC 8410

	oidP256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7} // RFC 5480
	oidP384 = asn1.ObjectIdentifier{1, 3, 132, 0, 34}          // RFC 5480
	oidP521 = asn1.ObjectIdentifier{1, 3, 132, 0, 35}          // RFC 5480
)

// keyType is an AlgorithmIdentifier of a key: its algorithm and parameters. A nil curve stands for no parameters.
type keyType struct {
	algorithm, curve asn1.ObjectIdentifier
	null             bool // the parameters are NULL, as RFC 8017 has them
}

// is reports whether the identifier in der, without its header, is exactly t.
func (t keyType) is(der cryptobyte.String) bool {
	var oid, curve asn1.ObjectIdentifier
	if !der.ReadASN1ObjectIdentifier(&oid) || !oid.Equal(t.algorithm) {
		return false
	}
	switch {
	case t.curve != nil:
		return der.ReadASN1ObjectIdentifier(&curve) && curve.Equal(t.curve) && der.Empty()
	case t.null:
		var null cryptobyte.String
		return der.ReadASN1(&null, cbasn1.NULL) && null.Empty() && der.Empty()
	}
	return der.Empty()
}

func (t keyType) append(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(t.algorithm)
		switch {
		case t.curve != nil:
			b.AddASN1ObjectIdentifier(t.curve)
		case t.null:
			b.AddASN1NULL()
		}
	})
}

// Tags of OneAsymmetricKey (RFC 5958) and ECPrivateKey (RFC 5915).
var (
	tagAttributes = cbasn1.Tag(0).Constructed().ContextSpecific()
	tagPublicKey  = cbasn1.Tag(1).ContextSpecific()
	tagParameters = cbasn1.Tag(0).Constructed().ContextSpecific()
	tagECPublic   = cbasn1.Tag(1).Constructed().ContextSpecific()
)

// parsePKCS8 returns the private key octets of a OneAsymmetricKey (RFC 5958) of the key type, and the public key octets
// if they are there. Nothing may follow it.
func parsePKCS8(t keyType, der []byte) (private, public []byte, err error) {
	input := cryptobyte.String(der)
	var outer, id, octets, bits cryptobyte.String
	var version int64
	var hasPublic bool
	switch {
	case !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty(),
		!outer.ReadASN1Integer(&version) || version < 0 || version > 1,
		!outer.ReadASN1(&id, cbasn1.SEQUENCE) || !t.is(id),
		!outer.ReadASN1(&octets, cbasn1.OCTET_STRING),
		!outer.SkipOptionalASN1(tagAttributes),
		!outer.ReadOptionalASN1(&bits, &hasPublic, tagPublicKey) || !outer.Empty():
		return nil, nil, ErrMaterial
	case hasPublic && (version != 1 || len(bits) < 2 || bits[0] != 0):
		return nil, nil, ErrMaterial
	case hasPublic:
		public = bits[1:]
	}
	return octets, public, nil
}

// maxPKCS8 is more octets than any key has in PKCS#8: one of RSA_4096 has fewer than 2,400. A buffer that grew would leave parts
// of the key in the ones before it.
const maxPKCS8 = 2560

// marshalPKCS8 returns the version 1 encoding of a private key without attributes, as the API gives private keys out.
func marshalPKCS8(t keyType, private func(*cryptobyte.Builder)) []byte {
	b := cryptobyte.NewBuilder(make([]byte, 0, maxPKCS8))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		t.append(b)
		b.AddASN1(cbasn1.OCTET_STRING, private)
	})
	return b.BytesOrPanic() // fails for an object identifier that is none only, and all are constants
}

// parseSPKI returns the public key octets of a SubjectPublicKeyInfo (RFC 5280) of the key type. Nothing may follow it.
func parseSPKI(t keyType, der []byte) ([]byte, bool) {
	input := cryptobyte.String(der)
	var outer, id cryptobyte.String
	var public []byte
	ok := input.ReadASN1(&outer, cbasn1.SEQUENCE) && input.Empty() &&
		outer.ReadASN1(&id, cbasn1.SEQUENCE) && t.is(id) &&
		outer.ReadASN1BitStringAsBytes(&public) && outer.Empty()
	return public, ok
}

func marshalSPKI(t keyType, public []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		t.append(b)
		b.AddASN1BitString(public)
	})
	return b.BytesOrPanic() // as above
}

// parseEC returns the scalar of the ECPrivateKey (RFC 5915) in a PKCS#8 key of the curve, at size octets, and the public
// points that came with it: they may be left out, but must not lie.
func parseEC(t keyType, size int, der []byte) (scalar []byte, points [][]byte, err error) {
	private, point, err := parsePKCS8(t, der)
	if err != nil {
		return nil, nil, err
	}
	if point != nil {
		points = append(points, point)
	}
	input := cryptobyte.String(private)
	var outer, octets, parameters, public cryptobyte.String
	var version int64
	var hasParameters, hasPublic bool
	if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1Integer(&version) || version != 1 ||
		!outer.ReadASN1(&octets, cbasn1.OCTET_STRING) ||
		!outer.ReadOptionalASN1(&parameters, &hasParameters, tagParameters) ||
		!outer.ReadOptionalASN1(&public, &hasPublic, tagECPublic) || !outer.Empty() {
		return nil, nil, ErrMaterial
	}
	if hasParameters {
		var curve asn1.ObjectIdentifier
		if !parameters.ReadASN1ObjectIdentifier(&curve) || !parameters.Empty() || !curve.Equal(t.curve) {
			return nil, nil, ErrMaterial
		}
	}
	if hasPublic {
		if !public.ReadASN1BitStringAsBytes(&point) || !public.Empty() {
			return nil, nil, ErrMaterial
		}
		points = append(points, point)
	}
	// RFC 5915 has the scalar at the length of the order; encoders before it dropped leading zeros, or added some.
	for len(octets) > size {
		if octets[0] != 0 {
			return nil, nil, ErrMaterial
		}
		octets = octets[1:]
	}
	scalar = make([]byte, size)
	copy(scalar[size-len(octets):], octets)
	return scalar, points, nil
}

// marshalEC returns the PKCS#8 form of an EC key: with its public point, without its curve, which the key type has.
func marshalEC(t keyType, scalar, point []byte) []byte {
	return marshalPKCS8(t, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddASN1OctetString(scalar)
			b.AddASN1(tagECPublic, func(b *cryptobyte.Builder) { b.AddASN1BitString(point) })
		})
	})
}
