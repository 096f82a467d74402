package main

import (
	"regexp"
	"strings"
	"unicode"
)

// initialisms are the words of the API's names that Go writes in capitals. A word ends where a capital or digit follows,
// so that Identity and Archive stay as they are.
var initialisms = regexp.MustCompile(`(Id|Arn|Uri|Url)(s?)([A-Z0-9]|$)`)

// goName turns a name of the API into an exported Go name: KeyId becomes KeyID.
func goName(name string) string {
	r := []rune(name)
	r[0] = unicode.ToUpper(r[0])
	name = string(r)
	for {
		next := initialisms.ReplaceAllStringFunc(name, func(s string) string {
			p := initialisms.FindStringSubmatch(s)
			return strings.ToUpper(p[1]) + p[2] + p[3]
		})
		if next == name {
			return name
		}
		name = next
	}
}

// constName turns a word of an enum into the tail of a Go name: RSA_2048 becomes Rsa2048, Enabled stays.
func constName(word string) string {
	var b strings.Builder
	for _, part := range strings.FieldsFunc(word, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		r := []rune(part)
		r[0] = unicode.ToUpper(r[0])
		if strings.ToUpper(part) == part {
			for i := 1; i < len(r); i++ {
				r[i] = unicode.ToLower(r[i])
			}
		}
		b.WriteString(string(r))
	}
	return b.String()
}

// pathName is the name of a member in messages: the first letter in lower case.
func pathName(name string) string { return strings.ToLower(name[:1]) + name[1:] }
