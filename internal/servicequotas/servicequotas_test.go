package servicequotas_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/servicequotas"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/quotaapi"
)

const (
	alice arn.Account = "111122223333"
	bob   arn.Account = "444455556666"
)

var (
	place  = quota.Place{Account: alice, Region: "us-east-1"}
	create = quota.Of(quota.Own("kms", "CreateKey"))
)

// world is a service on a store.
type world struct {
	t       *testing.T
	dir     string
	store   *store.Store
	barrier *seal.Barrier
	guard   *guard.Guard
	audit   *audit.Memory
	clock   atomic.Int64 // Unix milliseconds
	book    *quota.Book
	service *servicequotas.Service
	rows    map[string]guard.Operation
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, dir: t.TempDir(), audit: audit.NewMemory(100)}
	w.clock.Store(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	db, err := store.Open(ctx, store.Options{Dir: w.dir})
	w.must(err)
	t.Cleanup(func() { _ = db.Close() })
	barrier, sealed, err := seal.Initialize(ctx, w.now(), seal.KeyFile("test", secret.Take(make([]byte, 32))))
	w.must(err)
	w.must(db.Initialize(ctx, sealed))
	w.store, err = db.Unseal(ctx, barrier)
	w.must(err)
	w.must(w.store.Update(ctx, func(tx *store.Tx) error {
		return errors.Join(tx.PutAccount(&store.Account{ID: alice, CreatedAt: w.now()}), tx.PutAccount(&store.Account{ID: bob, CreatedAt: w.now()}))
	}))
	w.barrier, w.guard = barrier, guard.New(guard.Config{Recorder: w.audit, Now: w.now})
	w.restart()
	return w
}

// restart makes the service anew, over what is stored.
func (w *world) restart() {
	w.t.Helper()
	w.book = quota.New(quota.Settings{}, w.now)
	w.service = servicequotas.New(servicequotas.Config{Store: w.store, Barrier: w.barrier, Book: w.book, Now: w.now})
	w.must(w.service.Load(w.t.Context()))
	w.rows = map[string]guard.Operation{}
	for _, op := range w.service.Operations() {
		w.rows[op.Name] = op
	}
}

func (w *world) now() time.Time { return time.UnixMilli(w.clock.Load()).UTC() }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// call makes a call as the root user of an account.
func (w *world) call(a arn.Account, name, input string) (wire.Output, *wire.Error) {
	return w.callAs(&guard.Caller{Type: policy.AccountRoot, Account: a, PrincipalID: string(a), ARN: a.Root("aws")}, name, input)
}

func (w *world) callAs(who *guard.Caller, name, input string) (wire.Output, *wire.Error) {
	w.t.Helper()
	op := w.rows[name]
	in := op.New()
	if failure := wire.DecodeJSON([]byte(input), in.(wire.JSONInput)); failure != nil {
		w.t.Fatal(failure)
	}
	return w.guard.Answer(guard.Meta{RequestID: arn.NewUUID(), Time: w.now(), SourceIP: "127.0.0.1"}, func(c *guard.Call) (wire.Output, error) {
		c.Service, c.Name, c.Operation, c.Input = "servicequotas", name, &op, in
		c.Identify(who, place.Region)
		if err := wire.Validate(in); err != nil {
			return nil, err
		}
		return op.Do(context.Background(), c, in)
	})
}

func do[Out wire.Output](w *world, a arn.Account, name, input string) Out {
	w.t.Helper()
	out, failure := w.call(a, name, input)
	if failure != nil {
		w.t.Fatalf("%s(%s): %v", name, input, failure)
	}
	return out.(Out)
}

func (w *world) refused(want string, a arn.Account, name, input string) {
	w.t.Helper()
	_, failure := w.call(a, name, input)
	if failure == nil || !strings.HasPrefix(failure.Error(), want) {
		w.t.Errorf("%s(%s): %v, want %s", name, input, failure, want)
	}
}

// named returns an input that names a quota of KMS.
func named(q *quota.Quota, more string) string {
	return `{"ServiceCode":"kms","QuotaCode":"` + q.Code + `"` + more + `}`
}

func (w *world) value(a arn.Account, q *quota.Quota) float64 {
	return do[*quotaapi.GetServiceQuotaResponse](w, a, "GetServiceQuota", named(q, "")).Quota.Value.V
}

func (w *world) ask(q *quota.Quota, more string) *quotaapi.RequestedServiceQuotaChange {
	return do[*quotaapi.RequestServiceQuotaIncreaseResponse](w, alice, "RequestServiceQuotaIncrease", named(q, more)).RequestedQuota
}

func TestApproval(t *testing.T) {
	w := newWorld(t)
	asked := w.ask(create, `,"DesiredValue":7.5`)
	if asked.Status.V != "PENDING" || asked.DesiredValue.V != 7.5 || asked.QuotaARN.V != "arn:aws:servicequotas:us-east-1:111122223333:kms/"+create.Code ||
		asked.Requester.V != `{"accountId":"111122223333","callerArn":"arn:aws:iam::111122223333:root"}` {
		t.Errorf("%s", asked.AppendJSON(nil))
	}
	if v := w.value(alice, create); v != 5 {
		t.Errorf("value %g before the approval", v)
	}
	w.refused("ResourceAlreadyExistsException: ", alice, "RequestServiceQuotaIncrease", named(create, `,"DesiredValue":8`))
	open, err := w.service.Requests(t.Context(), false)
	if err != nil || len(open) != 1 || open[0].ID != asked.ID.V {
		t.Fatalf("%+v, %v", open, err)
	}
	w.clock.Add(1000)
	w.must(w.service.Answer(t.Context(), asked.ID.V, true))
	if v := w.value(alice, create); v != 7.5 {
		t.Errorf("value %g after the approval", v)
	}
	if v := w.value(bob, create); v != 5 {
		t.Errorf("another account has %g", v)
	}
	if err := w.service.Answer(t.Context(), asked.ID.V, false); !errors.Is(err, servicequotas.ErrAnswered) {
		t.Errorf("answered again: %v", err)
	}
	w.restart()
	if v := w.value(alice, create); v != 7.5 {
		t.Errorf("value %g after a restart", v)
	}
	got := do[*quotaapi.GetRequestedServiceQuotaChangeResponse](w, alice, "GetRequestedServiceQuotaChange", `{"RequestId":"`+asked.ID.V+`"}`).RequestedQuota
	if got.Status.V != "APPROVED" || got.LastUpdated.V.Sub(got.Created.V) != time.Second {
		t.Errorf("%s", got.AppendJSON(nil))
	}
	w.refused("NoSuchResourceException: ", bob, "GetRequestedServiceQuotaChange", `{"RequestId":"`+asked.ID.V+`"}`)
	if v := do[*quotaapi.GetAWSDefaultServiceQuotaResponse](w, alice, "GetAWSDefaultServiceQuota", named(create, "")).Quota; v.Value.V != 5 || v.QuotaARN.V != "arn:aws:servicequotas:us-east-1::kms/"+create.Code {
		t.Errorf("%s", v.AppendJSON(nil))
	}
}

func TestDenial(t *testing.T) {
	w := newWorld(t)
	asked := w.ask(create, `,"DesiredValue":7,"SupportCaseAllowed":true`)
	if asked.Status.V != "CASE_OPENED" || asked.CaseID.V == "" {
		t.Errorf("%s", asked.AppendJSON(nil))
	}
	w.must(w.service.Answer(t.Context(), asked.ID.V, false))
	if v := w.value(alice, create); v != 5 {
		t.Errorf("value %g", v)
	}
	w.ask(create, `,"DesiredValue":6`) // there is room for the next
	if err := w.service.Answer(t.Context(), "nothing", true); !errors.Is(err, servicequotas.ErrNoRequest) {
		t.Errorf("%v", err)
	}
}

func TestSet(t *testing.T) {
	w := newWorld(t)
	w.must(w.service.Set(t.Context(), place, create.Name, 2))
	w.must(w.service.Set(t.Context(), place, create.Code, 3))
	if v := w.value(alice, create); v != 3 {
		t.Errorf("value %g", v)
	}
	for want, try := range map[error]func() error{
		servicequotas.ErrNoQuota: func() error { return w.service.Set(t.Context(), place, "nothing", 3) },
		servicequotas.ErrNoAccount: func() error {
			return w.service.Set(t.Context(), quota.Place{Account: "777788889999", Region: "us-east-1"}, create.Name, 3)
		},
	} {
		if err := try(); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if err := w.service.Set(t.Context(), quota.Place{Account: alice, Region: "Europe"}, create.Name, 3); err == nil {
		t.Error("a Region of another form is taken")
	}
	if err := w.service.Set(t.Context(), place, create.Name, -1); err == nil {
		t.Error("a negative value is taken")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	rotations := quota.Of(quota.OnDemandRotations)
	for _, c := range []struct{ want, name, input string }{
		{"NoSuchResourceException: The service ec2 ", "ListServiceQuotas", `{"ServiceCode":"ec2"}`},
		{"NoSuchResourceException: The service ec2 ", "ListAWSDefaultServiceQuotas", `{"ServiceCode":"ec2"}`},
		{"NoSuchResourceException: The service ec2 ", "ListRequestedServiceQuotaChangeHistory", `{"ServiceCode":"ec2"}`},
		{"NoSuchResourceException: The quota L-00000000 ", "GetServiceQuota", `{"ServiceCode":"kms","QuotaCode":"L-00000000"}`},
		{"NoSuchResourceException: The quota L-00000000 ", "ListRequestedServiceQuotaChangeHistoryByQuota", `{"ServiceCode":"kms","QuotaCode":"L-00000000"}`},
		{"NoSuchResourceException: The quota " + create.Code, "GetServiceQuota", `{"ServiceCode":"cloudtrail","QuotaCode":"` + create.Code + `"}`},
		{"ValidationException: ", "GetServiceQuota", `{"ServiceCode":"kms"}`},
		{"IllegalArgumentException: ", "GetServiceQuota", named(create, `,"ContextId":"arn:aws:kms:us-east-1:111122223333:key/a"`)},
		{"IllegalArgumentException: The quota On-demand", "RequestServiceQuotaIncrease", named(rotations, `,"DesiredValue":26`)},
		{"IllegalArgumentException: You must provide", "RequestServiceQuotaIncrease", named(create, `,"DesiredValue":5`)},
		{"IllegalArgumentException: ", "RequestServiceQuotaIncrease", named(create, `,"DesiredValue":-5`)},
		{"ValidationException: ", "RequestServiceQuotaIncrease", named(create, "")},
		{"InvalidPaginationTokenException: ", "ListServiceQuotas", `{"ServiceCode":"kms","NextToken":"AAAA"}`},
		{"NoSuchResourceException: ", "GetRequestedServiceQuotaChange", `{"RequestId":"0a"}`},
	} {
		w.refused(c.want, alice, c.name, c.input)
	}
}

// One account cannot have more than so many requests wait.
func TestOpenRequests(t *testing.T) {
	w := newWorld(t)
	n := 0
	for i := range quota.All() {
		w.clock.Add(100)
		q := &quota.All()[i]
		if q.Service != "kms" || !q.Adjustable || n > 20 {
			continue
		}
		if n++; n == 21 {
			w.refused("QuotaExceededException: ", alice, "RequestServiceQuotaIncrease", named(q, `,"DesiredValue":1000000`))
			continue
		}
		w.ask(q, `,"DesiredValue":1000000`)
	}
	do[wire.Output](w, bob, "RequestServiceQuotaIncrease", named(create, `,"DesiredValue":6`))
}

func TestLists(t *testing.T) {
	w := newWorld(t)
	if got := do[*quotaapi.ListServicesResponse](w, alice, "ListServices", `{}`).Services; len(got) != 3 || got[1].ServiceCode.V != "kms" {
		t.Errorf("%+v", got)
	}
	seen := map[string]bool{}
	for token := ""; ; {
		input := `{"ServiceCode":"kms","MaxResults":7` + token + `}`
		out := do[*quotaapi.ListServiceQuotasResponse](w, alice, "ListServiceQuotas", input)
		for _, q := range out.Quotas {
			if seen[q.QuotaCode.V] {
				t.Errorf("%s is listed twice", q.QuotaName.V)
			}
			seen[q.QuotaCode.V] = true
		}
		if !out.NextToken.Set {
			break
		}
		token = `,"NextToken":"` + out.NextToken.V + `"`
		w.refused("InvalidPaginationTokenException: ", bob, "ListServiceQuotas", `{"ServiceCode":"kms"`+token+`}`)
	}
	if want := len(quota.All()) - 2; len(seen) != want { // but those of CloudTrail and of Service Quotas
		t.Errorf("%d quotas, want %d", len(seen), want)
	}
	if got := do[*quotaapi.ListServiceQuotasResponse](w, alice, "ListServiceQuotas", `{"ServiceCode":"kms","QuotaAppliedAtLevel":"RESOURCE"}`).Quotas; len(got) > 0 {
		t.Errorf("%d quotas of resources", len(got))
	}
	if got := do[*quotaapi.ListServiceQuotasResponse](w, alice, "ListServiceQuotas", named(create, "")).Quotas; len(got) != 1 || got[0].Period.PeriodUnit.V != "SECOND" {
		t.Errorf("%+v", got)
	}
	if got := do[*quotaapi.ListAWSDefaultServiceQuotasResponse](w, alice, "ListAWSDefaultServiceQuotas", `{"ServiceCode":"cloudtrail"}`).Quotas; len(got) != 1 || got[0].Value.V != 2 {
		t.Errorf("%+v", got)
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t)
	keys := quota.Of(quota.Keys)
	one := w.ask(create, `,"DesiredValue":6`).ID.V
	w.clock.Add(10)
	w.must(w.service.Answer(t.Context(), one, true))
	two := w.ask(create, `,"DesiredValue":7`).ID.V
	w.clock.Add(10)
	three := w.ask(keys, `,"DesiredValue":200000`).ID.V
	ids := func(name, input string) string {
		var list []quotaapi.RequestedServiceQuotaChange
		var next wire.Opt[string]
		switch out := do[wire.Output](w, alice, name, input).(type) {
		case *quotaapi.ListRequestedServiceQuotaChangeHistoryResponse:
			list, next = out.RequestedQuotas, out.NextToken
		case *quotaapi.ListRequestedServiceQuotaChangeHistoryByQuotaResponse:
			list, next = out.RequestedQuotas, out.NextToken
		}
		var text []string
		for _, c := range list {
			text = append(text, c.ID.V)
		}
		if next.Set {
			text = append(text, "more")
		}
		return strings.Join(text, " ")
	}
	for _, c := range []struct{ name, input, want string }{
		{"ListRequestedServiceQuotaChangeHistory", `{}`, three + " " + two + " " + one},
		{"ListRequestedServiceQuotaChangeHistory", `{"MaxResults":2}`, three + " " + two + " more"},
		{"ListRequestedServiceQuotaChangeHistory", `{"Status":"APPROVED"}`, one},
		{"ListRequestedServiceQuotaChangeHistory", `{"ServiceCode":"cloudtrail"}`, ""},
		{"ListRequestedServiceQuotaChangeHistory", `{"QuotaRequestedAtLevel":"RESOURCE"}`, ""},
		{"ListRequestedServiceQuotaChangeHistoryByQuota", named(create, ""), two + " " + one},
		{"ListRequestedServiceQuotaChangeHistoryByQuota", named(create, `,"Status":"PENDING"`), two},
	} {
		if got := ids(c.name, c.input); got != c.want {
			t.Errorf("%s(%s): %s, want %s", c.name, c.input, got, c.want)
		}
	}
}

// Whoever has no right gets none, and the record of a request says what was asked for.
func TestRights(t *testing.T) {
	w := newWorld(t)
	doc, err := policy.Parse(policy.IdentityPolicy, []byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"servicequotas:Get*","Resource":"*"},
		{"Effect":"Allow","Action":"servicequotas:RequestServiceQuotaIncrease","Resource":"arn:aws:servicequotas:*:*:kms/`+create.Code+`","Condition":{"StringEquals":{"servicequotas:service":"kms"}}}]}`))
	w.must(err)
	eve := &guard.Caller{
		Type: policy.User, Account: alice, Name: "eve", PrincipalID: "AIDAEVE", ARN: "arn:aws:iam::111122223333:user/eve",
		UniqueID: "AIDAEVE", Rights: &guard.Rights{Identity: []guard.Policy{{Name: "some", Document: doc}}},
	}
	for _, c := range []struct{ name, input, want string }{
		{"GetServiceQuota", named(create, ""), ""},
		{"ListServices", `{}`, "AccessDeniedException"},
		{"RequestServiceQuotaIncrease", named(create, `,"DesiredValue":6`), ""},
		{"RequestServiceQuotaIncrease", named(quota.Of(quota.Keys), `,"DesiredValue":200000`), "AccessDeniedException"},
	} {
		_, failure := w.callAs(eve, c.name, c.input)
		if got := ""; failure != nil {
			got = string(failure.Code)
			if got != c.want {
				t.Errorf("%s(%s): %v", c.name, c.input, failure)
			}
		} else if got != c.want {
			t.Errorf("%s(%s) succeeds", c.name, c.input)
		}
	}
	records := w.audit.Records()
	text := string(records[len(records)-2])
	for _, want := range []string{`"eventSource":"servicequotas.amazonaws.com"`, `"desiredValue":6`, `"readOnly":false`, `"status":"PENDING"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestEveryOperationOfTheModel(t *testing.T) {
	w := newWorld(t)
	for _, op := range quotaapi.Service.Operations {
		if _, ok := w.rows[op.Name]; !ok {
			t.Errorf("%s is not built", op.Name)
		}
		if !slices.Contains(quota.Find(quota.ServiceQuotasRate).Operations, op.Name) {
			t.Errorf("%s counts to no rate by the table", op.Name)
		}
	}
}
