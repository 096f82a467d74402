package iam

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// place is where a statement starts or ends in a document. Lines and columns count from one.
type place struct{ line, column int32 }

func (p place) show() *iamapi.Position {
	return &iamapi.Position{Line: wire.Some(p.line), Column: wire.Some(p.column)}
}

// statementPlaces returns where each statement of a document starts and ends, which must be one that was parsed as a policy.
// It returns none for what is not.
func statementPlaces(text string) (list [][2]place) {
	for _, span := range statementSpans(text) {
		list = append(list, [2]place{placeAt(text, span[0]), placeAt(text, span[1])})
	}
	return list
}

// statementSpans is statementPlaces in octets from the start.
func statementSpans(text string) [][2]int {
	d := json.NewDecoder(strings.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil
		}
		if name == "Statement" {
			return spans(value, int(d.InputOffset())-len(value))
		}
	}
	return nil
}

// spans takes the value of the element Statement apart, which starts at an offset: one statement or a list.
func spans(value json.RawMessage, at int) (list [][2]int) {
	if value[0] != '[' {
		return [][2]int{{at, at + len(value)}}
	}
	d := json.NewDecoder(bytes.NewReader(value))
	if _, err := d.Token(); err != nil {
		return nil
	}
	for d.More() {
		var one json.RawMessage
		if d.Decode(&one) != nil {
			return nil
		}
		end := at + int(d.InputOffset())
		list = append(list, [2]int{end - len(one), end})
	}
	return list
}

func placeAt(text string, offset int) place {
	before := text[:offset]
	return place{int32(strings.Count(before, "\n") + 1), int32(offset - strings.LastIndexByte(before, '\n'))}
}
