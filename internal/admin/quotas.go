package admin

import (
	"context"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/quota"
)

// The methods about quotas.
const (
	MethodListQuotas          = "ListQuotas"
	MethodListQuotaRequests   = "ListQuotaRequests"
	MethodApproveQuotaRequest = "ApproveQuotaRequest"
	MethodDenyQuotaRequest    = "DenyQuotaRequest"
	MethodSetQuota            = "SetQuota"
)

// ListQuotas asks for the quotas of an account in a Region. The answer is a list of Quota.
type ListQuotas struct {
	Account arn.Account `json:"account"`
	Region  arn.Region  `json:"region"`
}

// Quota is a quota with the value that holds.
type Quota struct {
	Service    string  `json:"service"`
	Code       string  `json:"code"`
	Name       string  `json:"name"`
	Value      float64 `json:"value"`
	Default    float64 `json:"default"` // the configuration's, or that of AWS KMS
	Rate       bool    `json:"rate"`    // requests in a second, rather than a number
	Adjustable bool    `json:"adjustable"`
}

func (a *Admin) listQuotas(_ context.Context, q *ListQuotas) ([]Quota, error) {
	if _, err := arn.ParseAccount(string(q.Account)); err != nil {
		return nil, err
	}
	if _, err := arn.ParseRegion(string(q.Region)); err != nil {
		return nil, err
	}
	all := a.quotas.List(quota.Place{Account: q.Account, Region: q.Region})
	list := make([]Quota, len(all))
	for i, x := range all {
		list[i] = Quota{x.Service, x.Code, x.Name, x.Value, x.ByDefault, x.Rate, x.Adjustable}
	}
	return list, nil
}

// ListQuotaRequests asks for requests for more. The answer is a list of QuotaRequest.
type ListQuotaRequests struct {
	All bool `json:"all"` // those that were answered, too
}

// QuotaRequest is a request for another value of a quota.
type QuotaRequest struct {
	ID      string      `json:"id"`
	Status  string      `json:"status"`
	Account arn.Account `json:"account"`
	Region  arn.Region  `json:"region"`
	Code    string      `json:"code"`
	Name    string      `json:"name"`
	Desired float64     `json:"desired"`
	Created time.Time   `json:"created"`
	By      string      `json:"by"` // ARN of who asked
}

func (a *Admin) listQuotaRequests(ctx context.Context, q *ListQuotaRequests) ([]QuotaRequest, error) {
	all, err := a.quotas.Requests(ctx, q.All)
	if err != nil {
		return nil, err
	}
	list := make([]QuotaRequest, len(all))
	for i, x := range all {
		list[i] = QuotaRequest{x.ID, string(x.Status), x.Account, x.Region, x.Quota, quotaName(x.Quota), x.Desired, x.Created, x.By}
	}
	return list, nil
}

func quotaName(code string) string {
	if q := quota.Find(code); q != nil {
		return q.Name
	}
	return code
}

// AnswerQuotaRequest approves or denies a request.
type AnswerQuotaRequest struct {
	ID string `json:"id"`
}

func (a *Admin) approveQuotaRequest(ctx context.Context, q *AnswerQuotaRequest) (Nothing, error) {
	return Nothing{}, a.answerQuotaRequest(ctx, q.ID, MethodApproveQuotaRequest, true)
}

func (a *Admin) denyQuotaRequest(ctx context.Context, q *AnswerQuotaRequest) (Nothing, error) {
	return Nothing{}, a.answerQuotaRequest(ctx, q.ID, MethodDenyQuotaRequest, false)
}

func (a *Admin) answerQuotaRequest(ctx context.Context, id, method string, approve bool) error {
	asked, err := a.quotas.Request(ctx, id)
	if err != nil {
		return err
	}
	show := func(f *audit.Fields) {
		f.String("requestId", asked.ID)
		showQuotaValue(f, asked.Region, asked.Quota, asked.Desired)
	}
	return a.guard.Administer(method, asked.Account, show, func() error { return a.quotas.Answer(ctx, id, approve) })
}

func showQuotaValue(f *audit.Fields, region arn.Region, code string, value float64) {
	f.String("region", string(region))
	f.String("quotaCode", code)
	f.String("quotaName", quotaName(code))
	f.Float("value", value)
}

// SetQuota gives a quota of an account in a Region another value.
type SetQuota struct {
	Account arn.Account `json:"account"`
	Region  arn.Region  `json:"region"`
	Quota   string      `json:"quota"` // name or code
	Value   float64     `json:"value"`
}

func (a *Admin) setQuota(ctx context.Context, q *SetQuota) (Nothing, error) {
	place := quota.Place{Account: q.Account, Region: q.Region}
	row, err := a.quotas.CheckSet(ctx, place, q.Quota, q.Value)
	if err != nil {
		return Nothing{}, err
	}
	show := func(f *audit.Fields) { showQuotaValue(f, q.Region, row.Code, q.Value) }
	return Nothing{}, a.guard.Administer(MethodSetQuota, q.Account, show, func() error { return a.quotas.Set(ctx, place, q.Quota, q.Value) })
}
