package servicequotas

// DecodeChange and Encode are for the tests.
var (
	DecodeChange = decodeChange
	Encode       = encode
)
