package servicequotas

import (
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/quotaapi"
)

// unit is what the values of all quotas here are counted in.
const unit = "None"

// serviceName returns what people call a service; empty for one that has no quotas here.
func serviceName(code string) string {
	for _, s := range quota.Services {
		if s.Code == code {
			return s.Name
		}
	}
	return ""
}

// knownService refuses a service that has no quotas here.
func knownService(code string) error {
	if serviceName(code) == "" {
		return wire.Errorf(quotaapi.CodeNoSuchResourceException, "The service %s does not exist.", code)
	}
	return nil
}

// find returns the quota that an input names.
func find(service, code string) (*quota.Quota, error) {
	if err := knownService(service); err != nil {
		return nil, err
	}
	q := quota.Find(code)
	if q == nil || q.Service != service || q.Code != code {
		return nil, wire.Errorf(quotaapi.CodeNoSuchResourceException, "The quota %s of the service %s does not exist.", code, service)
	}
	return q, nil
}

// noContext refuses the name of a single resource: all quotas here are of the account.
func noContext(id wire.Opt[string]) error {
	if id.Set {
		return wire.Errorf(quotaapi.CodeIllegalArgumentException, "ContextId is not supported: the quota is at account level.")
	}
	return nil
}

// describe describes a quota: with the value that holds for the caller, or the default.
func (r *request) describe(q *quota.Quota, byDefault bool) quotaapi.ServiceQuota {
	place, value := r.place, 0.0
	if byDefault {
		place.Account, value = "", r.book.Default(r.place, q.ID)
	} else {
		value = r.book.Value(r.place, q.ID)
	}
	out := quotaapi.ServiceQuota{
		ServiceCode: wire.Some(q.Service), ServiceName: wire.Some(serviceName(q.Service)), QuotaARN: wire.Some(r.arn(place, q.Service, q.Code)),
		QuotaCode: wire.Some(q.Code), QuotaName: wire.Some(q.Name), Value: wire.Some(value), Unit: wire.Some(unit), Adjustable: wire.Some(q.Adjustable),
		GlobalQuota: wire.Some(false), QuotaAppliedAtLevel: wire.Some(quotaapi.AppliedLevelEnumAccount),
	}
	if q.Rate {
		out.Period = &quotaapi.QuotaPeriod{PeriodValue: wire.Some[int32](1), PeriodUnit: wire.Some(quotaapi.PeriodUnitSecond)}
	}
	return out
}

// describeAll describes the quotas of a service, or one of them, in the order of their names.
func (r *request) describeAll(service, code string, byDefault bool) (list []quotaapi.ServiceQuota, err error) {
	if code != "" {
		q, err := find(service, code)
		if err != nil {
			return nil, err
		}
		return []quotaapi.ServiceQuota{r.describe(q, byDefault)}, nil
	}
	if err := knownService(service); err != nil {
		return nil, err
	}
	for i := range quota.All() {
		if q := &quota.All()[i]; q.Service == service {
			list = append(list, r.describe(q, byDefault))
		}
	}
	slices.SortFunc(list, func(a, b quotaapi.ServiceQuota) int { return strings.Compare(a.QuotaName.V, b.QuotaName.V) })
	return list, nil
}

func nameOf(q *quotaapi.ServiceQuota) string { return q.QuotaName.V }

func getDefault(r *request, in *quotaapi.GetAWSDefaultServiceQuotaRequest) (*quotaapi.GetAWSDefaultServiceQuotaResponse, error) {
	q, err := find(in.ServiceCode.V, in.QuotaCode.V)
	if err != nil {
		return nil, err
	}
	out := r.describe(q, true)
	return &quotaapi.GetAWSDefaultServiceQuotaResponse{Quota: &out}, nil
}

func getQuota(r *request, in *quotaapi.GetServiceQuotaRequest) (*quotaapi.GetServiceQuotaResponse, error) {
	q, err := find(in.ServiceCode.V, in.QuotaCode.V)
	if err == nil {
		err = noContext(in.ContextID)
	}
	if err != nil {
		return nil, err
	}
	out := r.describe(q, false)
	return &quotaapi.GetServiceQuotaResponse{Quota: &out}, nil
}

func listDefaults(r *request, in *quotaapi.ListAWSDefaultServiceQuotasRequest) (*quotaapi.ListAWSDefaultServiceQuotasResponse, error) {
	all, err := r.describeAll(in.ServiceCode.V, "", true)
	if err != nil {
		return nil, err
	}
	list, next, err := page(r, all, nameOf, in.NextToken, in.MaxResults)
	return &quotaapi.ListAWSDefaultServiceQuotasResponse{Quotas: list, NextToken: next}, err
}

func listQuotas(r *request, in *quotaapi.ListServiceQuotasRequest) (*quotaapi.ListServiceQuotasResponse, error) {
	all, err := r.describeAll(in.ServiceCode.V, in.QuotaCode.V, false)
	if err != nil {
		return nil, err
	}
	if ofResources(in.QuotaAppliedAtLevel) {
		all = []quotaapi.ServiceQuota{}
	}
	list, next, err := page(r, all, nameOf, in.NextToken, in.MaxResults)
	return &quotaapi.ListServiceQuotasResponse{Quotas: list, NextToken: next}, err
}

// ofResources reports whether only quotas of single resources are asked for, of which there are none.
func ofResources(level wire.Opt[string]) bool { return level.V == quotaapi.AppliedLevelEnumResource }

func listServices(r *request, in *quotaapi.ListServicesRequest) (*quotaapi.ListServicesResponse, error) {
	all := make([]quotaapi.ServiceInfo, len(quota.Services))
	for i, s := range quota.Services {
		all[i] = quotaapi.ServiceInfo{ServiceCode: wire.Some(s.Code), ServiceName: wire.Some(s.Name)}
	}
	list, next, err := page(r, all, func(s *quotaapi.ServiceInfo) string { return s.ServiceCode.V }, in.NextToken, in.MaxResults)
	return &quotaapi.ListServicesResponse{Services: list, NextToken: next}, err
}

// describeRequest describes a request for a change.
func (r *request) describeRequest(c *Change) quotaapi.RequestedServiceQuotaChange {
	out := quotaapi.RequestedServiceQuotaChange{
		ID: wire.Some(c.ID), Status: wire.Some(string(c.Status)), DesiredValue: wire.Some(c.Desired), Created: wire.Some(c.Created), LastUpdated: wire.Some(c.Updated),
		QuotaCode: wire.Some(c.Quota), GlobalQuota: wire.Some(false), Unit: wire.Some(unit), QuotaRequestedAtLevel: wire.Some(quotaapi.AppliedLevelEnumAccount),
		Requester: wire.Some(requester(c)),
	}
	if c.Case {
		out.CaseID = wire.Some(c.ID)
	}
	if q := quota.Find(c.Quota); q != nil {
		out.QuotaName, out.ServiceCode, out.ServiceName = wire.Some(q.Name), wire.Some(q.Service), wire.Some(serviceName(q.Service))
		out.QuotaARN = wire.Some(r.arn(r.place, q.Service, q.Code))
	}
	return out
}

// requester says who made a request, as the service does: in JSON.
func requester(c *Change) string {
	b := append([]byte(`{"accountId":`), wire.AppendString(nil, string(c.Account))...)
	b = append(append(b, `,"callerArn":`...), wire.AppendString(nil, c.By)...)
	return string(append(b, '}'))
}

// maxOpen is how many requests of an account in a Region may wait for an answer.
const maxOpen = 20

func requestIncrease(r *request, in *quotaapi.RequestServiceQuotaIncreaseRequest) (*quotaapi.RequestServiceQuotaIncreaseResponse, error) {
	q, err := find(in.ServiceCode.V, in.QuotaCode.V)
	if err == nil {
		err = noContext(in.ContextID)
	}
	if err != nil {
		return nil, err
	}
	if !q.Adjustable {
		return nil, wire.Errorf(quotaapi.CodeIllegalArgumentException, "The quota %s cannot be changed.", q.Name)
	}
	if err := q.Check(in.DesiredValue.V); err != nil {
		return nil, wire.Errorf(quotaapi.CodeIllegalArgumentException, "%s", err)
	}
	if err := r.call.Reserve(); err != nil {
		return nil, err
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	if in.DesiredValue.V <= r.book.Value(r.place, q.ID) {
		return nil, wire.Errorf(quotaapi.CodeIllegalArgumentException, "You must provide a quota value that is greater than the current quota value.")
	}
	all, gone, err := r.changes(r.ctx, r.place)
	if err != nil {
		return nil, err
	}
	open := 0
	for i := range all {
		if !all[i].Status.Open() {
			continue
		}
		if open++; all[i].Quota == q.Code {
			return nil, wire.Errorf(quotaapi.CodeResourceAlreadyExistsException, "Only one open service quota increase request is allowed per quota.")
		}
	}
	if open >= maxOpen {
		return nil, wire.Errorf(quotaapi.CodeQuotaExceededException, "There are %d open service quota increase requests in this Region, which is the limit.", open)
	}
	c := r.newChange(q, in)
	if err := r.store.Update(r.ctx, func(tx *store.Tx) error {
		if err := forget(tx, gone); err != nil {
			return err
		}
		return putChange(tx, c)
	}); err != nil {
		return nil, err
	}
	made := r.describeRequest(c)
	return &quotaapi.RequestServiceQuotaIncreaseResponse{RequestedQuota: &made}, nil
}

func getRequest(r *request, in *quotaapi.GetRequestedServiceQuotaChangeRequest) (*quotaapi.GetRequestedServiceQuotaChangeResponse, error) {
	none := wire.Errorf(quotaapi.CodeNoSuchResourceException, "The request %s does not exist.", in.RequestID.V)
	row, err := r.store.GetQuota(r.ctx, r.place.Account, r.place.Region, kindChange, in.RequestID.V)
	if errors.Is(err, store.ErrNotFound) {
		return nil, none
	}
	if err != nil {
		return nil, err
	}
	c, err := decodeChange(row)
	if err != nil {
		return nil, err
	}
	if c.gone(r.now()) {
		return nil, none
	}
	out := r.describeRequest(c)
	return &quotaapi.GetRequestedServiceQuotaChangeResponse{RequestedQuota: &out}, nil
}

// history returns the requests of the caller's account in the Region that fit, newest first.
func (r *request) history(service, code, status, level wire.Opt[string]) ([]quotaapi.RequestedServiceQuotaChange, error) {
	list := []quotaapi.RequestedServiceQuotaChange{}
	all, _, err := r.changes(r.ctx, r.place)
	if err != nil || ofResources(level) {
		return list, err
	}
	slices.SortFunc(all, func(a, b Change) int { return strings.Compare(age(&a), age(&b)) })
	for i := range all {
		c := &all[i]
		out := r.describeRequest(c)
		if (!service.Set || out.ServiceCode.V == service.V) && (!code.Set || c.Quota == code.V) && (!status.Set || string(c.Status) == status.V) {
			list = append(list, out)
		}
	}
	return list, nil
}

func ageOf(c *quotaapi.RequestedServiceQuotaChange) string {
	return age(&Change{ID: c.ID.V, Created: c.Created.V})
}

func listRequests(r *request, in *quotaapi.ListRequestedServiceQuotaChangeHistoryRequest) (*quotaapi.ListRequestedServiceQuotaChangeHistoryResponse, error) {
	if in.ServiceCode.Set {
		if err := knownService(in.ServiceCode.V); err != nil {
			return nil, err
		}
	}
	all, err := r.history(in.ServiceCode, wire.Opt[string]{}, in.Status, in.QuotaRequestedAtLevel)
	if err != nil {
		return nil, err
	}
	list, next, err := page(r, all, ageOf, in.NextToken, in.MaxResults)
	return &quotaapi.ListRequestedServiceQuotaChangeHistoryResponse{RequestedQuotas: list, NextToken: next}, err
}

func listRequestsByQuota(r *request, in *quotaapi.ListRequestedServiceQuotaChangeHistoryByQuotaRequest) (*quotaapi.ListRequestedServiceQuotaChangeHistoryByQuotaResponse, error) {
	if _, err := find(in.ServiceCode.V, in.QuotaCode.V); err != nil {
		return nil, err
	}
	all, err := r.history(in.ServiceCode, in.QuotaCode, in.Status, in.QuotaRequestedAtLevel)
	if err != nil {
		return nil, err
	}
	list, next, err := page(r, all, ageOf, in.NextToken, in.MaxResults)
	return &quotaapi.ListRequestedServiceQuotaChangeHistoryByQuotaResponse{RequestedQuotas: list, NextToken: next}, err
}
