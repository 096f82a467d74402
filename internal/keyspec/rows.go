package keyspec

import (
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"

	"github.com/keywright/keywright/internal/key"
)

// The algorithms of the API (EncryptionAlgorithmSpec, SigningAlgorithmSpec, MacAlgorithmSpec, KeyAgreementAlgorithmSpec,
// EncapsulationAlgorithmSpec).
const (
	AlgorithmSymmetric   = "SYMMETRIC_DEFAULT"
	AlgorithmOAEPSHA1    = "RSAES_OAEP_SHA_1"
	AlgorithmOAEPSHA256  = "RSAES_OAEP_SHA_256"
	AlgorithmPKCS1SHA256 = "RSASSA_PKCS1_V1_5_SHA_256"
	AlgorithmPKCS1SHA384 = "RSASSA_PKCS1_V1_5_SHA_384"
	AlgorithmPKCS1SHA512 = "RSASSA_PKCS1_V1_5_SHA_512"
	AlgorithmPSSSHA256   = "RSASSA_PSS_SHA_256"
	AlgorithmPSSSHA384   = "RSASSA_PSS_SHA_384"
	AlgorithmPSSSHA512   = "RSASSA_PSS_SHA_512"
	AlgorithmECDSA256    = "ECDSA_SHA_256"
	AlgorithmECDSA384    = "ECDSA_SHA_384"
	AlgorithmECDSA512    = "ECDSA_SHA_512"
	AlgorithmEd25519     = "ED25519_SHA_512"
	AlgorithmEd25519ph   = "ED25519_PH_SHA_512"
	AlgorithmMLDSA       = "ML_DSA_SHAKE_256"
	AlgorithmSM2DSA      = "SM2DSA"
	AlgorithmSM2PKE      = "SM2PKE"
	AlgorithmHMAC224     = "HMAC_SHA_224"
	AlgorithmHMAC256     = "HMAC_SHA_256"
	AlgorithmHMAC384     = "HMAC_SHA_384"
	AlgorithmHMAC512     = "HMAC_SHA_512"
	AlgorithmECDH        = "ECDH"
	AlgorithmMLKEM       = "ML_KEM"
)

var (
	signOnly        = []key.Usage{key.SignVerify}
	signOrAgree     = []key.Usage{key.SignVerify, key.KeyAgreement}
	macOnly         = []key.Usage{key.MACUsage}
	encapsulateOnly = []key.Usage{key.Encapsulation}

	agreement    = []string{AlgorithmECDH}
	mldsaSigning = []string{AlgorithmMLDSA}
	mlkemOnly    = []string{AlgorithmMLKEM}
)

// rows is the table of key specs (KMS developer guide, "Key spec reference"), in the order of the API's enumeration.
// Whether keys of the last three families can be imported is not written down there: those that have one well-known
// encoding can.
var rows = []*Row{
	rsaRow(RSA2048, 2048),
	rsaRow(RSA3072, 3072),
	rsaRow(RSA4096, 4096),
	nistRow(P256, nistCurve{elliptic.P256(), ecdh.P256(), crypto.SHA256, AlgorithmECDSA256}),
	nistRow(P384, nistCurve{elliptic.P384(), ecdh.P384(), crypto.SHA384, AlgorithmECDSA384}),
	nistRow(P521, nistCurve{elliptic.P521(), ecdh.P521(), crypto.SHA512, AlgorithmECDSA512}),
	{
		Spec: P256K1, Usages: signOnly, Signing: []string{AlgorithmECDSA256},
		Pair: true, Importable: true, family: secp256k1Family,
	},
	{
		Spec: key.SymmetricDefault, Usages: []key.Usage{key.EncryptDecrypt}, Encryption: []string{AlgorithmSymmetric},
		Importable: true, FIPS: true, family: symmetricFamily,
	},
	hmacRow(HMACSHA224, AlgorithmHMAC224, crypto.SHA224),
	hmacRow(HMACSHA256, AlgorithmHMAC256, crypto.SHA256),
	hmacRow(HMACSHA384, AlgorithmHMAC384, crypto.SHA384),
	hmacRow(HMACSHA512, AlgorithmHMAC512, crypto.SHA512),
	{
		Spec: SM2, Usages: []key.Usage{key.EncryptDecrypt, key.SignVerify, key.KeyAgreement},
		Encryption: []string{AlgorithmSM2PKE}, Signing: []string{AlgorithmSM2DSA}, Agreement: agreement,
		Pair: true, Importable: true, Wrapping: true, family: sm2Family,
	},
	mldsaRow(MLDSA44, mldsaSet44),
	mldsaRow(MLDSA65, mldsaSet65),
	mldsaRow(MLDSA87, mldsaSet87),
	{
		Spec: Ed25519, Usages: signOnly, Signing: []string{AlgorithmEd25519, AlgorithmEd25519ph},
		Pair: true, Importable: true, FIPS: true, family: ed25519Family,
	},
	mlkemRow(MLKEM512, mlkemSet512, false),
	mlkemRow(MLKEM768, mlkemSet768, true),
	mlkemRow(MLKEM1024, mlkemSet1024, true),
}

func rsaRow(s key.Spec, bits int) *Row {
	return &Row{
		Spec: s, Usages: []key.Usage{key.EncryptDecrypt, key.SignVerify},
		Encryption: []string{AlgorithmOAEPSHA1, AlgorithmOAEPSHA256},
		Signing: []string{
			AlgorithmPKCS1SHA256, AlgorithmPKCS1SHA384, AlgorithmPKCS1SHA512,
			AlgorithmPSSSHA256, AlgorithmPSSSHA384, AlgorithmPSSSHA512,
		},
		Pair: true, Importable: true, Wrapping: true, FIPS: true, family: rsaFamily(bits),
	}
}

func nistRow(s key.Spec, c nistCurve) *Row {
	return &Row{
		Spec: s, Usages: signOrAgree, Signing: []string{c.algorithm}, Agreement: agreement,
		Pair: true, Importable: true, FIPS: true, family: nistFamily(&c),
	}
}

func hmacRow(s key.Spec, algorithm string, h crypto.Hash) *Row {
	return &Row{
		Spec: s, Usages: macOnly, MAC: []string{algorithm},
		Importable: true, FIPS: true, family: hmacFamily(algorithm, h),
	}
}

func mldsaRow(s key.Spec, set *mldsaSet) *Row {
	return &Row{Spec: s, Usages: signOnly, Signing: mldsaSigning, Importable: true, family: mldsaFamily(set)}
}

func mlkemRow(s key.Spec, set *mlkemSet, inModule bool) *Row {
	return &Row{Spec: s, Usages: encapsulateOnly, Encapsulation: mlkemOnly, FIPS: inModule, family: mlkemFamily(set)}
}

// digests has the hash of each algorithm that takes digests, or that hashes for itself.
var digests = map[string]crypto.Hash{
	AlgorithmPKCS1SHA256: crypto.SHA256, AlgorithmPKCS1SHA384: crypto.SHA384, AlgorithmPKCS1SHA512: crypto.SHA512,
	AlgorithmPSSSHA256: crypto.SHA256, AlgorithmPSSSHA384: crypto.SHA384, AlgorithmPSSSHA512: crypto.SHA512,
	AlgorithmECDSA256: crypto.SHA256, AlgorithmECDSA384: crypto.SHA384, AlgorithmECDSA512: crypto.SHA512,
	AlgorithmEd25519ph: crypto.SHA512,
}

// sm3Size is the length of an SM3 digest in octets (GB/T 32905); package crypto does not know the hash.
const sm3Size = 32

// DigestSize returns how many octets a message of the type DIGEST must have for the signing algorithm, 0 if it takes none.
func DigestSize(algorithm string) int {
	if algorithm == AlgorithmSM2DSA {
		return sm3Size
	}
	if h, ok := digests[algorithm]; ok {
		return h.Size()
	}
	return 0
}

// digest returns the digest that an algorithm signs: of the message, or the message itself if that is its kind.
func digest(algorithm string, kind MessageType, message []byte) (crypto.Hash, []byte, error) {
	h, ok := digests[algorithm]
	switch {
	case !ok:
		return 0, nil, ErrAlgorithm
	case kind == Raw:
		hash := h.New()
		hash.Write(message)
		return h, hash.Sum(nil), nil
	case kind != Digest:
		return 0, nil, ErrAlgorithm
	case len(message) != h.Size():
		return 0, nil, ErrSize
	}
	return h, message, nil
}
