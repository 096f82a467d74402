package iam

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/store"
)

// useGrain is how exact the time of an access key's last use is. Within it only the first use is noted, so that a busy key
// costs one comparison a request.
const useGrain = time.Minute

// uses has the last uses of access keys that are not yet in the store.
type uses struct {
	mu   sync.Mutex
	last map[string]store.AccessKeyUse
}

// note says that a credential has signed. Temporary credentials are not access keys of anybody.
func (u *uses) note(c *credential, scope sigv4.Scope, now time.Time) {
	grain := now.Unix() / int64(useGrain/time.Second)
	if !c.longTerm || c.used.Swap(grain) == grain {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = map[string]store.AccessKeyUse{}
	}
	u.last[c.id] = store.AccessKeyUse{At: now.UTC().Truncate(time.Second), Region: arn.Region(scope.Region), Service: scope.Service}
}

func (u *uses) of(id string) (store.AccessKeyUse, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	use, ok := u.last[id]
	return use, ok
}

// take returns everything and forgets it.
func (u *uses) take() map[string]store.AccessKeyUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := u.last
	u.last = nil
	return all
}

// giveBack undoes take, but for what has become newer.
func (u *uses) giveBack(all map[string]store.AccessKeyUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, use := range u.last {
		all[id] = use
	}
	u.last = all
}

// FlushUses writes down when access keys were last used.
func (d *Directory) FlushUses(ctx context.Context) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	all := d.uses.take()
	if len(all) == 0 {
		return nil
	}
	err := d.store.PutAccessKeyUses(ctx, all)
	if err != nil {
		d.uses.giveBack(all)
		return err
	}
	return nil
}

// RunUses writes last uses down now and then, until ctx ends, and then once more.
func (d *Directory) RunUses(ctx context.Context) {
	tick := time.NewTicker(useGrain)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		if err := d.FlushUses(context.WithoutCancel(ctx)); err != nil {
			slog.Warn("the last uses of access keys will be written later", "err", err)
		}
		if ctx.Err() != nil {
			return
		}
	}
}
