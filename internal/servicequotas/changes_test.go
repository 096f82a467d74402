package servicequotas_test

import (
	"testing"

	"github.com/keywright/keywright/internal/servicequotas"
	"github.com/keywright/keywright/internal/store"
)

// What is read can be written, and is read as the same again.
func FuzzDecodeChange(f *testing.F) {
	f.Add([]byte("\x01" + `{"quota":"L-5EF278FC","desired":7.5,"status":"PENDING","created":"2026-01-01T12:00:00Z","updated":"2026-01-01T12:00:00Z","by":"arn:aws:iam::111122223333:root"}`))
	f.Add([]byte("\x01{}"))
	f.Add([]byte("\x02{}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		row := &store.Quota{Account: "111122223333", Region: "us-east-1", Kind: "request", Name: "id", Body: body}
		c, err := servicequotas.DecodeChange(row)
		if err != nil {
			return
		}
		if row.Body, err = servicequotas.Encode(c); err != nil {
			t.Skip() // a year that RFC 3339 cannot write
		}
		again, err := servicequotas.DecodeChange(row)
		if err != nil || again.Quota != c.Quota || again.Desired != c.Desired || again.Status != c.Status || !again.Created.Equal(c.Created) || again.ID != "id" {
			t.Errorf("%+v became %+v, %v", c, again, err)
		}
	})
}
