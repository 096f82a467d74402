package steps_test

import (
	"context"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/steps"
)

func TestLog(t *testing.T) {
	l := new(steps.Log)
	ctx := steps.With(context.Background(), l)
	outer := steps.From(ctx).Begin(steps.Custody)
	steps.From(ctx).Begin(steps.StoreWrite).EndWith(errors.New("no"))
	outer.End()
	all := l.Steps()
	if len(all) != 2 || all[0].Name != steps.StoreWrite || !all[0].Failed || all[1].Name != steps.Custody || all[1].Failed {
		t.Fatalf("%+v", all)
	}
	if all[1].Began.After(all[0].Began) || all[1].Ended.Before(all[0].Ended) {
		t.Errorf("the outer step does not enclose the inner one: %+v", all)
	}
	if l.Reset(); len(l.Steps()) != 0 {
		t.Error("there are steps after Reset")
	}
}

func TestBounded(t *testing.T) {
	l := new(steps.Log)
	for range 1000 {
		l.Begin(steps.Authorize).End()
	}
	if n := len(l.Steps()); n == 0 || n > 100 {
		t.Errorf("%d steps", n)
	}
}

func TestNoLogCostsNothing(t *testing.T) {
	ctx := context.Background()
	if n := testing.AllocsPerRun(100, func() { steps.From(ctx).Begin(steps.Custody).End() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
