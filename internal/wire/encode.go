package wire

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/keywright/keywright/internal/secret"
)

// The Append functions write one JSON value. Generated code calls them; they allocate nothing beyond the growth of b.

const hexDigits = "0123456789abcdef"

// plain are the ASCII characters that stand for themselves within a JSON string.
var plain = func() (t [256]bool) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendString appends s as a JSON string (RFC 8259, section 7). Octets that are not UTF-8 become U+FFFD.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			b = appendEscape(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\uFFFD"...)
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// AppendBlob appends octets as a JSON string of padded standard base64 (RFC 4648, section 4).
func AppendBlob(b, blob []byte) []byte {
	b = append(b, '"')
	b = appendBase64(b, blob)
	return append(b, '"')
}

// AppendSecretBlob appends a secret to the answer of the caller who may have it, as AppendBlob does.
func AppendSecretBlob(b []byte, s secret.Bytes) []byte { return AppendBlob(b, s.Expose()) }

// AppendSecretString appends a secret text to the answer of the caller who may have it, as AppendString does.
func AppendSecretString(b []byte, s secret.Bytes) []byte { return AppendString(b, string(s.Expose())) }

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte { return strconv.AppendBool(b, v) }

// AppendInt appends a decimal integer.
func AppendInt[T int32 | int64](b []byte, v T) []byte { return strconv.AppendInt(b, int64(v), 10) }

// AppendFloat appends a number; NaN and the infinities, for which JSON has no number, become null.
func AppendFloat(b []byte, v float64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

// AppendTime appends a time as seconds since 1970 with up to three decimals and never an exponent. What is finer than a
// millisecond is cut off.
func AppendTime(b []byte, t time.Time) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	f := ms % 1000
	if f == 0 {
		return b
	}
	b = append(b, '.', byte('0'+f/100), byte('0'+f/10%10), byte('0'+f%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

// CloseObject ends an object whose every member was followed by a comma: the last one becomes the closing brace.
func CloseObject(b []byte) []byte { return closeWith(b, '}') }

// CloseArray ends an array whose every element was followed by a comma.
func CloseArray(b []byte) []byte { return closeWith(b, ']') }

// closeWith relies on no JSON value ending in a comma, so that a trailing one is always a separator.
func closeWith(b []byte, end byte) []byte {
	if n := len(b); n > 0 && b[n-1] == ',' {
		b[n-1] = end
		return b
	}
	return append(b, end)
}

// AppendStrings appends an array of strings.
func AppendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for _, s := range list {
		b = AppendString(b, s)
		b = append(b, ',')
	}
	return CloseArray(b)
}

// AppendStringMap appends an object of strings in no particular order.
func AppendStringMap(b []byte, m map[string]string) []byte {
	b = append(b, '{')
	for k, v := range m {
		b = AppendString(b, k)
		b = append(b, ':')
		b = AppendString(b, v)
		b = append(b, ',')
	}
	return CloseObject(b)
}

// AppendOutput appends the body of a successful answer of a JSON service; a nil output has an empty body.
func AppendOutput(b []byte, out Output) []byte {
	if j, ok := out.(JSONOutput); ok {
		return j.AppendJSON(b)
	}
	return b
}
