// Package servicequotas is the Service Quotas API: it shows the quotas of package quota, takes requests for more, and keeps what
// administrators say to them.
//
// It trusts the pipeline for decoded, model-checked inputs and verified callers, and whoever calls the functions for
// administrators to be one. Every operation asks the guard before it looks at what it is about. It must never have a value hold that is
// not stored, and never answer a request with more than an administrator gave.
package servicequotas

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/quotaapi"
)

// Config is what a Service needs. All fields are required.
type Config struct {
	Store   *store.Store
	Barrier *seal.Barrier // seals pagination tokens
	Book    *quota.Book   // where values hold
	Now     func() time.Time
}

// Service answers the operations of Service Quotas, and administrators. It is safe for concurrent use. It is the only one in the
// process that writes values and requests.
type Service struct {
	store    *store.Store
	barrier  *seal.Barrier
	book     *quota.Book
	now      func() time.Time
	changing sync.Mutex // held by changes, which look before they write
}

// New returns a Service. Load is to be called before requests are counted.
func New(c Config) *Service {
	return &Service{store: c.Store, barrier: c.Barrier, book: c.Book, now: c.Now}
}

// operation is a row of the table below. What a caller needs is always the permission of the operation's own name.
type operation struct {
	Name     string
	OnQuota  bool // the permission is needed on the quota that the input names, else on "*"
	ReadOnly bool

	do    func(*request, wire.Input) (wire.Output, error)
	show  func(*audit.Fields, wire.Input)
	reply func(*audit.Fields, *guard.Call, wire.Output)
}

// operations is the table of everything that this service does. What is not in it is answered by an error that says so.
var operations = []operation{
	{Name: "GetAWSDefaultServiceQuota", ReadOnly: true, do: guard.Answers(getDefault), show: show(func(f *audit.Fields, in *quotaapi.GetAWSDefaultServiceQuotaRequest) {
		showQuota(f, in.ServiceCode, in.QuotaCode)
	})},
	{Name: "GetRequestedServiceQuotaChange", ReadOnly: true, do: guard.Answers(getRequest), show: show(func(f *audit.Fields, in *quotaapi.GetRequestedServiceQuotaChangeRequest) {
		f.String("requestId", in.RequestID.V)
	})},
	{Name: "GetServiceQuota", ReadOnly: true, do: guard.Answers(getQuota), show: show(func(f *audit.Fields, in *quotaapi.GetServiceQuotaRequest) {
		showQuota(f, in.ServiceCode, in.QuotaCode)
		text(f, "contextId", in.ContextID)
	})},
	{Name: "ListAWSDefaultServiceQuotas", ReadOnly: true, do: guard.Answers(listDefaults), show: show(func(f *audit.Fields, in *quotaapi.ListAWSDefaultServiceQuotasRequest) {
		text(f, "serviceCode", in.ServiceCode)
		showPage(f, in.MaxResults, in.NextToken)
	})},
	{Name: "ListRequestedServiceQuotaChangeHistory", ReadOnly: true, do: guard.Answers(listRequests), show: show(func(f *audit.Fields, in *quotaapi.ListRequestedServiceQuotaChangeHistoryRequest) {
		text(f, "serviceCode", in.ServiceCode)
		text(f, "status", in.Status)
		showPage(f, in.MaxResults, in.NextToken)
	})},
	{Name: "ListRequestedServiceQuotaChangeHistoryByQuota", ReadOnly: true, do: guard.Answers(listRequestsByQuota), show: show(func(f *audit.Fields, in *quotaapi.ListRequestedServiceQuotaChangeHistoryByQuotaRequest) {
		showQuota(f, in.ServiceCode, in.QuotaCode)
		text(f, "status", in.Status)
		showPage(f, in.MaxResults, in.NextToken)
	})},
	{Name: "ListServiceQuotas", ReadOnly: true, do: guard.Answers(listQuotas), show: show(func(f *audit.Fields, in *quotaapi.ListServiceQuotasRequest) {
		text(f, "serviceCode", in.ServiceCode)
		text(f, "quotaCode", in.QuotaCode)
		showPage(f, in.MaxResults, in.NextToken)
	})},
	{Name: "ListServices", ReadOnly: true, do: guard.Answers(listServices), show: show(func(f *audit.Fields, in *quotaapi.ListServicesRequest) {
		showPage(f, in.MaxResults, in.NextToken)
	})},
	{
		Name: "RequestServiceQuotaIncrease", OnQuota: true, do: guard.Answers(requestIncrease),
		show: show(func(f *audit.Fields, in *quotaapi.RequestServiceQuotaIncreaseRequest) {
			showQuota(f, in.ServiceCode, in.QuotaCode)
			f.Float("desiredValue", in.DesiredValue.V)
			text(f, "contextId", in.ContextID)
			if in.SupportCaseAllowed.Set {
				f.Bool("supportCaseAllowed", in.SupportCaseAllowed.V)
			}
		}),
		reply: func(f *audit.Fields, _ *guard.Call, out wire.Output) {
			made := out.(*quotaapi.RequestServiceQuotaIncreaseResponse).RequestedQuota
			f.Object("requestedQuota", func(f *audit.Fields) {
				text(f, "id", made.ID)
				text(f, "status", made.Status)
				f.Float("desiredValue", made.DesiredValue.V)
				text(f, "quotaArn", made.QuotaARN)
			})
		},
	},
}

// show adapts a function of an operation's input.
func show[In wire.Input](f func(*audit.Fields, In)) func(*audit.Fields, wire.Input) {
	return func(fields *audit.Fields, in wire.Input) { f(fields, in.(In)) }
}

func text(f *audit.Fields, name string, v wire.Opt[string]) {
	if v.Set {
		f.String(name, v.V)
	}
}

func showQuota(f *audit.Fields, service, code wire.Opt[string]) {
	text(f, "serviceCode", service)
	text(f, "quotaCode", code)
}

func showPage(f *audit.Fields, most wire.Opt[int32], token wire.Opt[string]) {
	if most.Set {
		f.Int("maxResults", int64(most.V))
	}
	text(f, "nextToken", token)
}

// request is one call on its way through an operation.
type request struct {
	*Service
	ctx   context.Context //nolint:containedctx // a request lives no longer than its context
	call  *guard.Call
	op    *operation
	place quota.Place
}

// Operations returns the service's operations for the pipeline.
func (s *Service) Operations() []guard.Operation {
	all := make([]guard.Operation, 0, len(operations))
	for i := range operations {
		all = append(all, s.bind(&operations[i]))
	}
	return all
}

// errThrottled is the answer to who asks more often than a quota allows.
var errThrottled = wire.Errorf(quotaapi.CodeTooManyRequestsException, "Due to throttling, the request was denied. Slow down the rate of request calls, or request an increase for this quota.")

// bind makes a row of the table into what the pipeline calls: who may do it is asked before anything else is said.
func (s *Service) bind(op *operation) guard.Operation {
	model, ok := quotaapi.Service.Operation(op.Name)
	if !ok {
		panic("servicequotas: no operation " + op.Name) // found by the first test
	}
	action, rate := guard.NewAction("servicequotas:"+op.Name), quota.Find(quota.ServiceQuotasRate).ID
	return guard.Operation{
		Service: quotaapi.Service.SigningName, Name: op.Name, ReadOnly: op.ReadOnly, New: model.New, Show: op.show, Reply: op.reply,
		Internal: quotaapi.CodeServiceException,
		Do: func(ctx context.Context, call *guard.Call, in wire.Input) (wire.Output, error) {
			r := &request{Service: s, ctx: ctx, call: call, op: op, place: quota.Place{Account: call.Caller.Account, Region: call.Region}}
			resource := guard.Resource{Action: action, ARN: "*", Input: in}
			if op.OnQuota {
				asked := in.(*quotaapi.RequestServiceQuotaIncreaseRequest)
				resource.ARN = r.arn(r.place, asked.ServiceCode.V, asked.QuotaCode.V)
				resource.Facts = func(f *guard.Facts, _ wire.Input) { f.String("servicequotas:service", asked.ServiceCode.V) }
			}
			if _, err := call.Authorize(resource); err != nil {
				return nil, err
			}
			if !s.book.Allow(quota.Request{Place: r.place, Bucket: rate}) {
				return nil, errThrottled
			}
			return op.do(r, in)
		},
	}
}

// arn returns the ARN of a quota in a place.
func (s *Service) arn(p quota.Place, service, code string) string {
	return "arn:" + string(p.Region.Partition()) + ":servicequotas:" + string(p.Region) + ":" + string(p.Account) + ":" + service + "/" + code
}

// defaultPage is how many items a list gives without MaxResults, and the most with it (MaxResults, Service Quotas API).
const defaultPage = 100

// tokenData is the associated data of a pagination token: it holds for the operation, account and Region that made it.
func (r *request) tokenData() []byte {
	return seal.Associate("keywright quotas token v1", r.op.Name, string(r.place.Account), string(r.place.Region))
}

// page returns the items behind the one that a token names, and the token of the next page. The items are in ascending order of
// at, which no two of them share.
func page[T any](r *request, all []T, at func(*T) string, token wire.Opt[string], most wire.Opt[int32]) ([]T, wire.Opt[string], error) {
	var next wire.Opt[string]
	if token.Set {
		last, err := r.openToken(token.V)
		if err != nil {
			return nil, next, err
		}
		all = all[sortedAfter(all, at, last):]
	}
	n := min(len(all), int(most.Or(defaultPage)))
	if n < len(all) {
		blob, err := r.barrier.Encrypt(seal.Token, r.tokenData(), secret.FromString(at(&all[n-1])))
		if err != nil {
			return nil, next, err
		}
		next = wire.Some(base64.StdEncoding.EncodeToString(blob))
	}
	return all[:n], next, nil
}

// sortedAfter returns where in a sorted list the items behind last begin.
func sortedAfter[T any](all []T, at func(*T) string, last string) int {
	from, found := slices.BinarySearchFunc(all, last, func(item T, last string) int { return strings.Compare(at(&item), last) })
	if found {
		from++
	}
	return from
}

func (r *request) openToken(token string) (string, error) {
	blob, err := base64.StdEncoding.DecodeString(token)
	if err == nil {
		var last secret.Bytes
		if last, err = r.barrier.Decrypt(seal.Token, r.tokenData(), blob); err == nil {
			return string(last.Expose()), nil
		}
	}
	return "", wire.Errorf(quotaapi.CodeInvalidPaginationTokenException, "The pagination token is not valid.")
}
