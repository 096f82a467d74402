package keyspec

import "github.com/keywright/keywright/internal/key"

// memory is how many octets of memory a key takes: its private key, opened and used, and its public key.
type memory struct{ private, public int }

// memories are measured, and rounded up. Keys of ML-DSA hold their expanded matrix.
var memories = map[key.Spec]memory{
	RSA2048: {5_000, 750}, RSA3072: {6_200, 1_000}, RSA4096: {7_500, 1_300},
	P256: {1_250, 400}, P384: {1_450, 450}, P521: {1_750, 550}, P256K1: {300, 250}, SM2: {1_100, 400}, Ed25519: {550, 150},
	key.SymmetricDefault: {600, 0}, HMACSHA224: {150, 0}, HMACSHA256: {150, 0}, HMACSHA384: {150, 0}, HMACSHA512: {150, 0},
	MLDSA44: {104_000, 4_800}, MLDSA65: {104_000, 5_400}, MLDSA87: {105_000, 6_000},
	MLKEM512: {5_600, 4_400}, MLKEM768: {16_500, 8_000}, MLKEM1024: {26_500, 13_000},
}

// PrivateMemory returns how many octets of memory an opened private or secret key of a spec takes, about.
func PrivateMemory(s key.Spec) int { return memories[s].private }

// PublicMemory is PrivateMemory for a public key.
func PublicMemory(s key.Spec) int { return memories[s].public }
