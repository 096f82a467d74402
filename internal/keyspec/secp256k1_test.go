package keyspec_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/keywright/keywright/internal/keyspec"
)

// Blinded arithmetic gives the keys that the module gives, and signatures that it verifies, at the ends of the range too.
func TestBlindedSECP256K1(t *testing.T) {
	last := secp256k1.Params().N.Bytes()
	last[31]--
	for _, scalar := range [][]byte{append(make([]byte, 31), 1), append(make([]byte, 31), 2), bytes.Repeat([]byte{0x7f}, 32), last} {
		form := inPKCS8(t, oidEC, asn1.ObjectIdentifier{1, 3, 132, 0, 10}, der(t, ecPrivate{Version: 1, Scalar: scalar}))
		k := parsed(t, keyspec.P256K1, form)
		public := secp256k1.PrivKeyFromBytes(scalar).PubKey()
		if !bytes.HasSuffix(k.Public().SPKI(), public.SerializeUncompressed()) {
			t.Errorf("%x: another public key", scalar)
		}
		seen := map[string]bool{}
		for i := range 50 {
			signature, err := k.(keyspec.Signer).Sign("ECDSA_SHA_256", keyspec.Raw, []byte{byte(i / 2)})
			if err != nil {
				t.Fatal(err)
			}
			s, err := ecdsa.ParseDERSignature(signature)
			sum := sha256.Sum256([]byte{byte(i / 2)})
			if err != nil || !s.Verify(sum[:], public) {
				t.Errorf("%x: signature %x does not verify: %v", scalar, signature, err)
			}
			seen[string(signature)] = true
		}
		if len(seen) != 50 {
			t.Errorf("%x: a nonce was used twice", scalar)
		}
	}
}
