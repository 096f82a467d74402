package wire

import (
	"time"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/secret"
)

// AppendText appends s as XML character data (XML 1.0, section 2.4), fit for attribute values too. Characters that XML
// cannot carry become U+FFFD.
func AppendText(b []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '"':
			b = append(b, "&#34;"...)
		case r == '\r':
			b = append(b, "&#xD;"...) // a bare one would be read back as a line feed
		case r < 0x20 && r != '\n' && r != '\t', r == 0xFFFE, r == 0xFFFF:
			b = append(b, "\uFFFD"...)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

// AppendElement appends an element with text.
func AppendElement(b []byte, name, text string) []byte {
	b = OpenElement(b, name)
	b = AppendText(b, text)
	return EndElement(b, name)
}

// OpenElement appends a start tag.
func OpenElement(b []byte, name string) []byte {
	b = append(b, '<')
	b = append(b, name...)
	return append(b, '>')
}

// EndElement appends an end tag.
func EndElement(b []byte, name string) []byte {
	b = append(b, '<', '/')
	b = append(b, name...)
	return append(b, '>')
}

// AppendTimeText appends a time as Query answers print it: ISO 8601 in UTC, with milliseconds only if there are any.
func AppendTimeText(b []byte, t time.Time) []byte {
	return t.UTC().Truncate(time.Millisecond).AppendFormat(b, "2006-01-02T15:04:05.999Z")
}

// AppendSecretBlobText appends a secret, to the answer of the caller who may have it, as padded standard base64.
func AppendSecretBlobText(b []byte, s secret.Bytes) []byte { return appendBase64(b, s.Expose()) }

// AppendElements appends a list of texts as member elements within an element.
func AppendElements(b []byte, name string, list []string) []byte {
	b = OpenElement(b, name)
	for _, s := range list {
		b = AppendElement(b, "member", s)
	}
	return EndElement(b, name)
}

// AppendEntries appends a map as entry elements, in no particular order, within an element. value appends one value.
func AppendEntries[V any](b []byte, name string, m map[string]V, value func([]byte, V) []byte) []byte {
	b = OpenElement(b, name)
	for k, v := range m {
		b = OpenElement(b, "entry")
		b = AppendElement(b, "key", k)
		b = OpenElement(b, "value")
		b = value(b, v)
		b = EndElement(b, "value")
		b = EndElement(b, "entry")
	}
	return EndElement(b, name)
}

// AppendAnswer appends the body of a successful answer of the service to op. In Query services the request id is part
// of it. A nil output stands for the missing output shape of op.
func (s *Service) AppendAnswer(b []byte, op *Operation, out Output, requestID string) []byte {
	if s.Protocol != Query {
		return AppendOutput(b, out)
	}
	b = append(b, '<')
	b = append(b, op.Name...)
	b = append(b, `Response xmlns="`...)
	b = AppendText(b, s.Namespace)
	b = append(b, '"', '>')
	if x, ok := out.(XMLOutput); ok && op.HasOutput {
		b = OpenElement(b, op.Wrapper)
		b = x.AppendXML(b)
		b = EndElement(b, op.Wrapper)
	}
	b = append(b, `<ResponseMetadata><RequestId>`...)
	b = AppendText(b, requestID)
	b = append(b, `</RequestId></ResponseMetadata></`...)
	b = append(b, op.Name...)
	return append(b, `Response>`...)
}
