package keywrap

// The algorithm inside RSA_AES_KEY_WRAP, for its published vectors.
var (
	WrapKWP   = wrapKWP
	UnwrapKWP = unwrapKWP
)
