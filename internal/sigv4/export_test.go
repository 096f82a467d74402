package sigv4

// KeepPath makes the path of req canonical without resolving dot segments, as the "…-unnormalized" vectors want it.
func KeepPath(req *Request) { req.keepPath = true }

// CanonicalRequest and StringToSign show the intermediate results that published vectors give.
func CanonicalRequest(req *Request, a *Auth) (string, bool) {
	s := new(scratch)
	ok := s.canonicalRequest(req, a.SignedHeaders, a.Presigned)
	return string(s.buf), ok
}

// StringToSign shows the string that is signed.
func StringToSign(req *Request, a *Auth) string {
	s := new(scratch)
	s.canonicalRequest(req, a.SignedHeaders, a.Presigned)
	s.stringToSign(a.stamp, a.Scope)
	return string(s.buf)
}

// Signature shows the claimed signature.
func (a *Auth) Signature() string { return a.signature }
