package wire

import (
	"encoding/base64"
	"encoding/binary"
)

// Blobs are most of the octets of a request, and the standard library's coder, made for every alphabet, takes most of
// the time of decoding one. These loops do the bulk with tables; the standard library does the padded end and defines
// what is right.

var base64Strict = base64.StdEncoding.Strict()

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

// badChar marks an octet outside the alphabet: it sets bits below the 24 that four characters fill.
const badChar = 0xFF

var (
	// fromBase64[i][c] is what character c contributes to a big-endian word at place i of a group of four.
	fromBase64 [4][256]uint32
	// toBase64[v] is the two characters of a 12-bit value, the first one in the low octet.
	toBase64 [4096]uint16
)

func init() {
	for i := range fromBase64 {
		for c := range fromBase64[i] {
			fromBase64[i][c] = badChar
		}
		for v, c := range []byte(base64Alphabet) {
			fromBase64[i][c] = uint32(v) << (26 - 6*i)
		}
	}
	for v := range toBase64 {
		toBase64[v] = uint16(base64Alphabet[v>>6]) | uint16(base64Alphabet[v&63])<<8
	}
}

// decodeBase64 returns the octets of padded standard base64 (RFC 4648, section 4) without white space and without stray
// bits in the last character, in memory of exactly their size.
func decodeBase64(text []byte) ([]byte, bool) {
	if len(text) == 0 {
		return []byte{}, true
	}
	if len(text)%4 != 0 {
		return nil, false
	}
	size := len(text) / 4 * 3
	for pad := 0; pad < 2 && text[len(text)-1-pad] == '='; pad++ {
		size--
	}
	out := make([]byte, size)
	rest := out
	for len(text) > 8 {
		t, r := text[:8], rest[:7]
		one := fromBase64[0][t[0]] | fromBase64[1][t[1]] | fromBase64[2][t[2]] | fromBase64[3][t[3]]
		two := fromBase64[0][t[4]] | fromBase64[1][t[5]] | fromBase64[2][t[6]] | fromBase64[3][t[7]]
		if (one|two)&badChar != 0 {
			clear(out)
			return nil, false
		}
		binary.BigEndian.PutUint32(r, one)
		binary.BigEndian.PutUint32(r[3:], two)
		text, rest = text[8:], rest[6:]
	}
	for len(text) > 4 {
		word := fromBase64[0][text[0]] | fromBase64[1][text[1]] | fromBase64[2][text[2]] | fromBase64[3][text[3]]
		if word&badChar != 0 {
			clear(out)
			return nil, false
		}
		// Four octets are written for three: the last group, of at least one octet, is still to come.
		binary.BigEndian.PutUint32(rest, word)
		text, rest = text[4:], rest[3:]
	}
	if n, err := base64Strict.Decode(rest, text); err != nil || n != len(rest) {
		clear(out)
		return nil, false
	}
	return out, true
}

// appendBase64 appends the padded standard base64 of octets.
func appendBase64(b, octets []byte) []byte {
	start, size := len(b), base64.StdEncoding.EncodedLen(len(octets))
	b = append(b, make([]byte, size)...)
	rest := b[start:]
	for len(octets) >= 4 && len(rest) >= 4 {
		word := binary.BigEndian.Uint32(octets)
		binary.LittleEndian.PutUint32(rest, uint32(toBase64[word>>20])|uint32(toBase64[word>>8&0xFFF])<<16)
		octets, rest = octets[3:], rest[4:]
	}
	base64.StdEncoding.Encode(rest, octets)
	return b
}
