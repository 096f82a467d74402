package custodytest

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// counting counts what an engine is asked to open.
type counting struct {
	custody.Engine
	opened atomic.Int32
}

func (c *counting) Open(k *key.Key, m *key.Material) (custody.Material, error) {
	c.opened.Add(1)
	return c.Engine.Open(k, m)
}

func (c *counting) WrappingKey(ctx context.Context, k *key.Key, w custody.Wrapping, until time.Time) (public, token []byte, err error) {
	return c.Engine.(custody.Importer).WrappingKey(ctx, k, w, until)
}

func (c *counting) OpenImport(k *key.Key, token, encrypted []byte, now time.Time) (id string, wrapped, public []byte, err error) {
	c.opened.Add(1)
	return c.Engine.(custody.Importer).OpenImport(k, token, encrypted, now)
}

// takeTurns requires that slow keys wait for a turn, for as long as their caller does, that others do not wait, and that no material
// is opened meanwhile.
func takeTurns(t *testing.T, open func(*testing.T) custody.Engine) {
	e := &counting{Engine: open(t)}
	c := custody.New(e)
	signs, fast := made(t, c, keyspec.P384, key.SignVerify), made(t, c, keyspec.P256, key.SignVerify)
	for range runtime.GOMAXPROCS(0) {
		end, waited, err := c.Turn(t.Context(), signs.Account)
		if err != nil || waited {
			t.Fatal(waited, err)
		}
		defer end()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow := map[string]func() error{
		"a use": func() error {
			_, _, err := bind(t, c, signs).Turn(ctx, permit(t, signs.Name, guard.UseSign))
			return err
		},
	}
	if _, ok := e.Engine.(custody.Importer); ok {
		slow["an import"] = func() error {
			k := waiting(keyspec.P256)
			_, err := c.Import(ctx, permit(t, k.Name, guard.UseTakeIn), k, nil, nil, time.Now())
			return err
		}
	}
	for name, use := range slow {
		if err := use(); !errors.Is(err, custody.ErrBusy) || !errors.Is(err, context.Canceled) || e.opened.Load() != 0 {
			t.Errorf("%s while others have all turns: %v, %d opened", name, err, e.opened.Load())
		}
	}
	end, waited, err := bind(t, c, fast).Turn(ctx, permit(t, fast.Name, guard.UseSign))
	if waited || err != nil {
		t.Fatalf("a fast key: waited %v, %v", waited, err)
	}
	end()
	if _, err := bind(t, c, fast).Sign(permit(t, fast.Name, guard.UseSign), "ECDSA_SHA_256", keyspec.Raw, []byte("x")); err != nil {
		t.Errorf("a fast key: %v", err)
	}
}
