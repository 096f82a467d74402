package kbkdf

import (
	"crypto/hmac"
	"crypto/sha256"
)

// ExpandFixed lets the tests feed the fixed input data of the published vectors.
func ExpandFixed(hmacKey, fixed []byte, length int) []byte {
	return expand(hmac.New(sha256.New, hmacKey), fixed, length)
}
