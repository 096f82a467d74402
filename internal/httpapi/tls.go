package httpapi

import (
	"crypto/tls"

	"github.com/keywright/keywright/internal/audit"
)

// describe names the parameters of a TLS connection as CloudTrail prints them ("tlsDetails", CloudTrail user guide).
func describe(s *tls.ConnectionState, host string) *audit.TLS {
	return &audit.TLS{Version: version(s.Version), CipherSuite: suite(s.CipherSuite), KeyExchange: group(s.CurveID), ServerName: host}
}

func version(v uint16) string {
	switch v {
	case tls.VersionTLS13:
		return "TLSv1.3"
	case tls.VersionTLS12:
		return "TLSv1.2"
	}
	return tls.VersionName(v)
}

// olderSuites are the TLS 1.2 suites of Go's defaults by their OpenSSL names, which CloudTrail prints.
var olderSuites = map[uint16]string{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       "ECDHE-ECDSA-AES128-GCM-SHA256",
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       "ECDHE-ECDSA-AES256-GCM-SHA384",
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         "ECDHE-RSA-AES128-GCM-SHA256",
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         "ECDHE-RSA-AES256-GCM-SHA384",
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: "ECDHE-ECDSA-CHACHA20-POLY1305",
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   "ECDHE-RSA-CHACHA20-POLY1305",
}

func suite(id uint16) string {
	if name, ok := olderSuites[id]; ok {
		return name
	}
	return tls.CipherSuiteName(id)
}

// group names a key exchange group. For the NIST curves that is their name of SEC 2.
func group(id tls.CurveID) string {
	switch id {
	case 0:
		return ""
	case tls.CurveP256:
		return "secp256r1"
	case tls.CurveP384:
		return "secp384r1"
	case tls.CurveP521:
		return "secp521r1"
	default: // X25519 and the hybrids are called the same
		return id.String()
	}
}
