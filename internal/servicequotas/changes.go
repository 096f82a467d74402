package servicequotas

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire/quotaapi"
)

// The kinds of rows. A value's row has the quota's code as its name, a request's its id.
const (
	kindValue  = "value"
	kindChange = "request"
)

// Status is the RequestStatus of the Service Quotas API. The zero value is invalid.
type Status string

// The statuses of a request.
const (
	Pending    Status = quotaapi.RequestStatusPending    // nobody has answered
	CaseOpened Status = quotaapi.RequestStatusCaseOpened // likewise, of a client that allowed for a support case
	Approved   Status = quotaapi.RequestStatusApproved   // its value holds
	Denied     Status = quotaapi.RequestStatusDenied     // it changed nothing
)

// Open reports whether a request waits for an answer.
func (s Status) Open() bool { return s == Pending || s == CaseOpened }

// Change is a request for another value of a quota.
type Change struct {
	ID      string      `json:"-"`
	Account arn.Account `json:"-"`
	Region  arn.Region  `json:"-"`

	Quota   string    `json:"quota"` // code
	Desired float64   `json:"desired"`
	Status  Status    `json:"status"`
	Case    bool      `json:"case,omitempty"` // the client allowed for a support case
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	By      string    `json:"by"` // ARN of who asked
}

// value is a value that an administrator gave.
type value struct {
	Value float64   `json:"value"`
	Since time.Time `json:"since"`
}

// bodyVersion is the first octet of every body; JSON follows. A field that only adds needs no new version.
const bodyVersion = 1

var errBody = errors.New("malformed body")

func encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a quota: %w", err)
	}
	return append([]byte{bodyVersion}, text...), nil
}

// decode reads a body. Unknown fields are refused: they come from a newer program.
func decode(body []byte, into any) error {
	if len(body) == 0 || body[0] != bodyVersion {
		return errBody
	}
	d := json.NewDecoder(bytes.NewReader(body[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errBody, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errBody
	}
	return nil
}

// decodeChange reads a request.
func decodeChange(row *store.Quota) (*Change, error) {
	c := &Change{ID: row.Name, Account: row.Account, Region: row.Region}
	if err := decode(row.Body, c); err != nil {
		return nil, fmt.Errorf("reading the request %s: %w", row.Name, err)
	}
	switch c.Status {
	case Pending, CaseOpened, Approved, Denied:
		return c, nil
	}
	return nil, fmt.Errorf("reading the request %s: %w", row.Name, errBody)
}

func putChange(tx *store.Tx, c *Change) error {
	body, err := encode(c)
	if err != nil {
		return err
	}
	return tx.PutQuota(&store.Quota{Account: c.Account, Region: c.Region, Kind: kindChange, Name: c.ID, Body: body})
}

func putValue(tx *store.Tx, p quota.Place, q *quota.Quota, v value) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	return tx.PutQuota(&store.Quota{Account: p.Account, Region: p.Region, Kind: kindValue, Name: q.Code, Body: body})
}

// newChange returns the request that an input asks for.
func (r *request) newChange(q *quota.Quota, in *quotaapi.RequestServiceQuotaIncreaseRequest) *Change {
	now := r.moment()
	c := &Change{
		ID: strings.ReplaceAll(arn.NewUUID(), "-", ""), Account: r.place.Account, Region: r.place.Region, Quota: q.Code, Desired: in.DesiredValue.V,
		Status: Pending, Created: now, Updated: now, By: r.call.Caller.ARN,
	}
	if in.SupportCaseAllowed.V {
		c.Status, c.Case = CaseOpened, true
	}
	return c
}

// kept is how long a request is kept once it was answered.
const kept = 90 * 24 * time.Hour

// gone reports whether a request was answered so long ago that it is not there any more, removed or not.
func (c *Change) gone(now time.Time) bool { return !c.Status.Open() && now.Sub(c.Updated) > kept }

// changes returns the requests of a place, with those that are gone apart.
func (s *Service) changes(ctx context.Context, p quota.Place) (list, gone []Change, err error) {
	rows, err := s.store.ListQuotas(ctx, p.Account, p.Region, kindChange)
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		c, err := decodeChange(row)
		if err != nil {
			return nil, nil, err
		}
		if c.gone(s.now()) {
			gone = append(gone, *c)
		} else {
			list = append(list, *c)
		}
	}
	return list, gone, nil
}

// forget removes requests that are gone, unless they are removed already.
func forget(tx *store.Tx, gone []Change) error {
	for i := range gone {
		c := &gone[i]
		err := tx.DeleteQuota(c.Account, c.Region, kindChange, c.ID)
		if err != nil && !errors.Is(err, store.ErrNotFound) { // somebody else was quicker
			return err
		}
	}
	return nil
}

// age is what requests are sorted by: the newest first.
func age(c *Change) string {
	return fmt.Sprintf("%020d/%s", math.MaxInt64-c.Created.UnixMilli(), c.ID)
}
