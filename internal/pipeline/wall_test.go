package pipeline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/stsapi"
)

// meddler cuts what it is told to, and counts.
type meddler struct {
	begun, ended, done int
	cut                bool
	err                error
}

func (m *meddler) Begin() func() {
	m.begun++
	return func() { m.ended++ }
}

func (m *meddler) Do(_ context.Context, _ *guard.Call, _ func() error, do func() (wire.Output, error)) (wire.Output, bool, error) {
	m.done++
	if m.err != nil {
		return nil, m.cut, m.err
	}
	out, err := do()
	return out, m.cut, err
}

// The clock of signatures can be another than that of records, and what is put between is asked for genuine requests only.
func TestWallAndMeddler(t *testing.T) {
	w := newWorld(t)
	wall := w.now().AddDate(-3, 0, 0)
	m := &meddler{}
	g := guard.New(guard.Config{Recorder: &w.audit, Now: w.now})
	w.pipeline = pipeline.New(pipeline.Config{
		Guard: g, Directory: w.directory, Now: w.now, Wall: func() time.Time { return wall }, Meddler: m,
		Services: []pipeline.Service{{Model: &stsapi.Service, Operations: w.directory.STS()}},
	})
	who := func(at time.Time) answer {
		return w.serve(signAt(formRequest("Action=GetCallerIdentity&Version=2011-06-15"), aliceRoot, region, "sts", at))
	}
	if a := who(wall); a.Status != 200 || a.Cut {
		t.Errorf("signed by the clock of signatures: %d %s", a.Status, a.body)
	}
	if at := w.lastRecord()["eventTime"]; at != w.now().Format(time.RFC3339) {
		t.Errorf("the record is of %v", at)
	}
	if a := who(w.now()); a.Status != 403 {
		t.Errorf("signed by the other clock: %d %s", a.Status, a.body)
	}
	if m.begun != 2 || m.ended != 2 || m.done != 1 {
		t.Errorf("%+v", m)
	}
	m.cut = true
	if a := who(wall); !a.Cut || a.Status != 200 {
		t.Errorf("%+v", a)
	}
	m.cut, m.err = false, wire.Errorf(wire.CodeThrottling, "Rate exceeded")
	if a := who(wall); a.Cut || !strings.Contains(a.body, "<Code>Throttling</Code>") || w.lastRecord()["errorCode"] != "Throttling" && w.lastRecord()["errorCode"] != "ThrottlingException" {
		t.Errorf("%+v %v", a, w.lastRecord())
	}
}
