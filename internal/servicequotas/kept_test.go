package servicequotas_test

import (
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/quotaapi"
)

const day = 24 * time.Hour

// forge changes rows past the store.
func (w *world) forge(statement string, args ...any) {
	w.t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(w.dir, "keywright.db"))
	w.must(err)
	defer func() { w.must(db.Close()) }()
	result, err := db.ExecContext(w.t.Context(), statement, args...)
	w.must(err)
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		w.t.Fatalf("%d rows changed, %v", n, err)
	}
}

// What is not a value that was given does not hold, and keeps nothing else from holding.
func TestLoadPastBadRows(t *testing.T) {
	w := newWorld(t)
	forged, malformed, impossible, good := quota.Of(quota.Keys), quota.Of(quota.AliasesPerKey), quota.Of(quota.GrantsPerKey), create
	w.must(w.service.Set(t.Context(), place, forged.Code, 7))
	w.must(w.service.Set(t.Context(), place, good.Code, 8))
	w.must(w.store.Update(t.Context(), func(tx *store.Tx) error {
		for q, body := range map[*quota.Quota]string{malformed: "\x01{", impossible: "\x01" + `{"value":-1,"since":"2026-01-01T12:00:00Z"}`} {
			if err := tx.PutQuota(&store.Quota{Account: alice, Region: place.Region, Kind: "value", Name: q.Code, Body: []byte(body)}); err != nil {
				return err
			}
		}
		return nil
	}))
	asked := w.ask(create, `,"DesiredValue":9`).ID.V
	w.forge(`UPDATE quotas SET body = CAST(replace(body, '"value":7', '"value":1000000') AS BLOB) WHERE name = ?`, forged.Code)
	w.restart()
	for q, want := range map[*quota.Quota]float64{forged: 100_000, malformed: 50, impossible: 50_000, good: 8} {
		if got := w.value(alice, q); got != want {
			t.Errorf("%s is %g, want %g", q.Name, got, want)
		}
	}
	// Nor does it keep administrators from their work.
	if open, err := w.service.Requests(t.Context(), false); err != nil || len(open) != 1 {
		t.Errorf("%d requests, %v", len(open), err)
	}
	w.must(w.service.Answer(t.Context(), asked, true))
	if got := w.value(alice, create); got != 9 {
		t.Errorf("the approved value is %g", got)
	}
}

// requests returns how many requests are stored.
func (w *world) requests() (n int) {
	w.t.Helper()
	rows, err := w.store.ListQuotas(w.t.Context(), place.Account, place.Region, "request")
	w.must(err)
	return len(rows)
}

// An answered request is kept for 90 days, one that waits for ever.
func TestKept(t *testing.T) {
	w := newWorld(t)
	answered := w.ask(create, `,"DesiredValue":6`).ID.V
	waiting := w.ask(quota.Of(quota.Keys), `,"DesiredValue":200000`).ID.V
	w.clock.Add((30 * day).Milliseconds())
	w.must(w.service.Answer(t.Context(), answered, false))
	get := func(id string) string { return `{"RequestId":"` + id + `"}` }
	w.clock.Add((90 * day).Milliseconds())
	do[wire.Output](w, alice, "GetRequestedServiceQuotaChange", get(answered))
	w.clock.Add(1)
	w.refused("NoSuchResourceException: ", alice, "GetRequestedServiceQuotaChange", get(answered))
	do[wire.Output](w, alice, "GetRequestedServiceQuotaChange", get(waiting))
	if got := do[*quotaapi.ListRequestedServiceQuotaChangeHistoryResponse](w, alice, "ListRequestedServiceQuotaChangeHistory", `{}`).RequestedQuotas; len(got) != 1 || got[0].ID.V != waiting {
		t.Errorf("%+v", got)
	}
	if all, err := w.service.Requests(t.Context(), true); err != nil || len(all) != 1 || all[0].ID != waiting {
		t.Errorf("%+v, %v", all, err)
	}
	// It is removed with the next.
	if n := w.requests(); n != 2 {
		t.Errorf("%d requests are stored", n)
	}
	w.ask(create, `,"DesiredValue":6`)
	if n := w.requests(); n != 2 {
		t.Errorf("%d requests are stored after another", n)
	}
}

// All operations share a rate, which is of the account in the Region, and does nothing for who has no right.
func TestRate(t *testing.T) {
	w := newWorld(t)
	const throttled = "TooManyRequestsException: Due to throttling, the request was denied. Slow down the rate of request calls, or request an increase for this quota."
	for range 20 {
		do[wire.Output](w, alice, "ListRequestedServiceQuotaChangeHistory", `{"MaxResults":1}`)
	}
	for name, input := range map[string]string{"ListServices": `{}`, "GetServiceQuota": named(create, ""), "RequestServiceQuotaIncrease": named(create, `,"DesiredValue":6`)} {
		w.refused(throttled, alice, name, input)
	}
	do[wire.Output](w, bob, "ListServices", `{}`)
	w.clock.Add(1000)
	do[wire.Output](w, alice, "ListServices", `{}`)
}
