package keywrap

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"

	"github.com/keywright/keywright/internal/secret"
)

// The constants of RFC 5649 (SP 800-38F, KWP).
const (
	semiblock   = 8          // octets that the algorithm moves at a time
	kwpConstant = 0xa65959a6 // first half of the alternative initial value; the second is the length
	kwSteps     = 6          // rounds over all semiblocks
)

// maxWrapped bounds what is wrapped or unwrapped here, in octets. The API's messages are smaller.
const maxWrapped = 1 << 16

// wrapKWP wraps octets, at least one, with AES key wrap with padding (RFC 5649).
func wrapKWP(block cipher.Block, octets []byte) ([]byte, error) {
	if len(octets) == 0 || len(octets) > maxWrapped {
		return nil, ErrSize
	}
	padded := (len(octets) + semiblock - 1) / semiblock * semiblock
	out := make([]byte, semiblock+padded)
	binary.BigEndian.PutUint32(out, kwpConstant)
	binary.BigEndian.PutUint32(out[4:], uint32(len(octets)))
	copy(out[semiblock:], octets)
	if padded == semiblock {
		block.Encrypt(out, out)
		return out, nil
	}
	var b [aes.BlockSize]byte
	copy(b[:semiblock], out)
	step := uint64(0)
	for range kwSteps {
		for r := out[semiblock:]; len(r) > 0; r = r[semiblock:] {
			step++
			copy(b[semiblock:], r)
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^step)
			copy(r, b[semiblock:])
		}
	}
	copy(out, b[:semiblock])
	return out, nil
}

// unwrapKWP is the inverse. The time it takes after the cipher depends on the lengths alone; every failure is ErrUnwrap.
func unwrapKWP(block cipher.Block, wrapped []byte) (secret.Bytes, error) {
	if len(wrapped) < 2*semiblock || len(wrapped)%semiblock != 0 || len(wrapped) > maxWrapped {
		return secret.Bytes{}, ErrUnwrap
	}
	out := make([]byte, len(wrapped))
	copy(out, wrapped)
	if len(out) == aes.BlockSize {
		block.Decrypt(out, out)
	} else {
		unwrapSteps(block, out)
	}
	padded := len(out) - semiblock
	given := binary.BigEndian.Uint32(out[4:])
	size := int(given &^ (1 << 31)) // the comparisons below are of 31 bits
	good := subtle.ConstantTimeEq(int32(binary.BigEndian.Uint32(out)^kwpConstant), 0) & subtle.ConstantTimeEq(int32(given>>31), 0)
	good &= subtle.ConstantTimeLessOrEq(size, padded) & subtle.ConstantTimeLessOrEq(padded-semiblock+1, size)
	var padding byte
	for i, octet := range out[len(out)-semiblock:] {
		beyond := subtle.ConstantTimeLessOrEq(size, padded-semiblock+i)
		padding |= octet & byte(-beyond)
	}
	good &= subtle.ConstantTimeByteEq(padding, 0)
	if good != 1 {
		clear(out)
		return secret.Bytes{}, ErrUnwrap
	}
	return secret.Take(out[semiblock : semiblock+size : semiblock+size]), nil
}

func unwrapSteps(block cipher.Block, out []byte) {
	var b [aes.BlockSize]byte
	copy(b[:semiblock], out)
	step := uint64(kwSteps * (len(out)/semiblock - 1))
	for range kwSteps {
		for at := len(out) - semiblock; at >= semiblock; at -= semiblock {
			binary.BigEndian.PutUint64(b[:], binary.BigEndian.Uint64(b[:])^step)
			copy(b[semiblock:], out[at:])
			block.Decrypt(b[:], b[:])
			copy(out[at:], b[semiblock:])
			step--
		}
	}
	copy(out, b[:semiblock])
	clear(b[:])
}
