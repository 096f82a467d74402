package server

import (
	"cmp"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/fresh"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
)

// Filled returns the configuration with defaults in place of zeros: what a server really does. What has no default but nothing, and
// what follows from the data directory (the places of the administrators' socket and of the audit log), stays as it is.
// packaging/keywright.yaml shows all of it.
func (c Config) Filled() Config {
	set := func(d *time.Duration, zero time.Duration) { *d = cmp.Or(*d, zero) }
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	set(&c.Drain, 25*time.Second)
	set(&c.Schedule, time.Second)
	set(&c.Store.Timeout, store.DefaultTimeout)
	set(&c.Store.Patience, store.DefaultPatience)
	set(&c.Store.MaxStaleness, fresh.DefaultMaxStaleness)
	c.Store.Connections = cmp.Or(c.Store.Connections, store.DefaultReaders)
	c.Audit.Durability = cmp.Or(c.Audit.Durability, defaultDurability)
	set(&c.Audit.FlushEvery, time.Second)
	set(&c.Audit.CheckpointEvery, time.Second)
	c.Log.Format = cmp.Or(c.Log.Format, "text")
	c.Log.Level = cmp.Or(c.Log.Level, "info")
	if len(c.Regions) == 0 {
		c.Regions = []string{arn.PublishedRegions}
	}
	c.Quotas.Enforce = cmp.Or(c.Quotas.Enforce, quota.EnforceAWS)
	c.Audit.SegmentSize = cmp.Or(c.Audit.SegmentSize, 64<<20)
	l := &c.Limits
	set(&l.ReadTimeout, 20*time.Second)
	set(&l.HeaderTimeout, l.ReadTimeout)
	set(&l.WriteTimeout, time.Minute)
	set(&l.IdleTimeout, 5*time.Minute)
	l.CachedKeys = cmp.Or(l.CachedKeys, 10_000)
	if c.TLS != nil {
		files := *c.TLS
		set(&files.Reload, 10*time.Second)
		c.TLS = &files
	}
	return c
}
