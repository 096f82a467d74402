package metrics

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Facts are what the rooms tell when somebody asks for the metrics. A nil function means that there is no such room. They
// are called from several goroutines, a few times a minute.
type Facts struct {
	Now         func() time.Time       // the server's clock, which decides what expires; required
	Server      func() Server          // what a probe of it found lately
	Certificate func() time.Time       // until when the API's certificate is valid; the zero time for none
	Connections func() int             // that clients have open
	Audit       func() Audit           // how the audit log stands
	Sinks       func() []Sink          // where its records go besides
	Caches      func() []Cache         // of ready keys and the like
	Quotas      func(report Usage)     // calls report for every rate that is in use
	Census      func() (Census, bool)  // of the keys; false before the first
	Cluster     func() (Cluster, bool) // how the server stands among others; false if it has its store for itself
}

// Cluster says how the server stands among those that share its store.
type Cluster struct {
	Staleness   time.Duration // how old what is remembered of the store can be
	Live        int           // servers that live, this one included
	Leads       bool          // this one does the scheduled work of all
	ClockOffset time.Duration // how far its clock is ahead of the database's, at least
}

// Server says what a probe of the server found. It comes from memory: a disk that hangs must not cost the metrics.
type Server struct {
	Ready       bool
	Seals       int   // how many seals open the installation; 0 for unknown
	StoreOctets int64 // of the database and what lies beside it
	AuditOctets int64 // of the audit log
}

// Audit says how the audit log stands.
type Audit struct {
	First, Next  uint64 // numbers of the oldest record that is kept and of the next one
	Durable      uint64 // all records below are on disk
	Checkpointed uint64 // all records below are covered by a signed checkpoint
	Checkpoint   time.Time
	Waiting      time.Duration // of the oldest record that is not on disk; 0 for none
	Segments     int
	Postponed    int // segments that could not be compressed, and wait for the next try
}

// Sink is a place to which audit records are delivered.
type Sink struct {
	Name      string
	Lag       uint64 // records that are not yet delivered
	Failing   bool   // the last attempt failed
	Delivered uint64 // records since the start; some may have been delivered twice
	Missed    uint64 // records that were gone before they could be delivered, since the start
}

// Cache is one of the caches of the hot path.
type Cache struct {
	Name         string
	Hits, Misses uint64
	Entries      int
}

// Usage takes how much of a rate an account uses in a Region, and how much it may, both in units per second.
type Usage = func(account, region, bucket string, used, limit float64)

// Census is what was counted of the keys.
type Census struct {
	At                       time.Time
	States                   map[string]int64
	Refused                  int64     // rows that do not verify
	NextDeletion, NextExpiry time.Time // zero for none
}

// TopQuotas is how many rates are reported: those whose limits are nearest.
const TopQuotas = 50

// facts is the Collector of what Facts tell.
type facts struct {
	current atomic.Pointer[Facts]

	ready, sealed, seals, certificate, connections                            *prometheus.Desc
	records, unsynced, waiting, unchecked, checkpointed, segments, postponed  *prometheus.Desc
	auditOctets, sinkLag, sinkFailing, sinkDelivered, sinkMissed, storeOctets *prometheus.Desc
	hits, misses, entries, quotaUsed, quotaLimit                              *prometheus.Desc
	keys, refused, nextDeletion, nextExpiry, counted                          *prometheus.Desc
	staleness, live, leads, offset                                            *prometheus.Desc
}

// Watch has the metrics tell facts from now on.
func (m *Metrics) Watch(f Facts) { m.facts.current.Store(&f) }

// describe makes the descriptions.
func (x *facts) describe(m *Metrics) {
	add := func(name, kind, help string, labels ...string) *prometheus.Desc {
		m.all = append(m.all, Description{name, kind, labels, help})
		return prometheus.NewDesc(name, help, labels, nil)
	}
	x.ready = add("keywright_ready", "gauge", "1 if a request could be answered now. Where several servers share a store, /readyz says so for as long as changes wait for it.")
	x.sealed = add("keywright_sealed", "gauge", "0 while the root key is open. A server that is sealed does not serve, so a missing series means it may be.")
	x.seals = add("keywright_seals", "gauge", "Seals that open the installation, each of them alone.")
	x.certificate = add("keywright_certificate_expiry_days", "gauge", "Days until the API's certificate is not valid any more.")
	x.connections = add("keywright_connections", "gauge", "Connections that clients have open.")
	x.records = add("keywright_audit_kept_records", "gauge", "Audit records that are kept here.")
	x.unsynced = add("keywright_audit_unsynced_records", "gauge", "Audit records that are written and not yet known to be on disk.")
	x.waiting = add("keywright_audit_unsynced_age_seconds", "gauge", "How long the oldest audit record has waited for the disk; 0 if none waits.")
	x.unchecked = add("keywright_audit_unchecked_records", "gauge", "Audit records that no signed checkpoint covers yet.")
	x.checkpointed = add("keywright_audit_checkpoint_age_seconds", "gauge", "Age of the newest signed checkpoint.")
	x.segments = add("keywright_audit_segments", "gauge", "Segments of the audit log.")
	x.postponed = add("keywright_audit_postponed_segments", "gauge", "Segments of the audit log that could not be compressed, and wait for the next try.")
	x.auditOctets = add("keywright_audit_bytes", "gauge", "Size of the audit log.")
	x.sinkLag = add("keywright_sink_lag_records", "gauge", "Audit records that a sink has not taken yet.", "sink")
	x.sinkFailing = add("keywright_sink_failing", "gauge", "1 if the last delivery to a sink failed.", "sink")
	x.sinkDelivered = add("keywright_sink_delivered_records_total", "counter", "Audit records that a sink has taken; some may have been delivered twice.", "sink")
	x.sinkMissed = add("keywright_sink_missed_records_total", "counter", "Audit records that were removed before a sink could take them.", "sink")
	x.storeOctets = add("keywright_store_bytes", "gauge", "Size of the store.")
	x.hits = add("keywright_cache_hits_total", "counter", "Look-ups that found what they wanted in memory.", "cache")
	x.misses = add("keywright_cache_misses_total", "counter", "Look-ups that had to ask the store.", "cache")
	x.entries = add("keywright_cache_entries", "gauge", "What is in memory.", "cache")
	x.quotaUsed = add("keywright_quota_used", "gauge", "How much of a request quota is used, per second, at this server, for the 50 that are nearest to their limits.", "account", "region", "bucket")
	x.quotaLimit = add("keywright_quota_limit", "gauge", "The limits of these: of a quota that several servers share, this one's share.", "account", "region", "bucket")
	x.keys = add("keywright_keys", "gauge", "Keys by their state.", "state")
	x.refused = add("keywright_store_refused_rows", "gauge", "Rows of keys that were changed outside Keywright and are refused.")
	x.nextDeletion = add("keywright_key_deletion_days", "gauge", "Days until the next key is deleted, if one is scheduled.")
	x.nextExpiry = add("keywright_material_expiry_days", "gauge", "Days until the next imported key material expires, if any does.")
	x.staleness = add("keywright_store_staleness_seconds", "gauge", "How old what the server remembers of a store that others change can be: all that they changed before is known.")
	x.live = add("keywright_cluster_nodes", "gauge", "Servers that share the store and live, as this one knows.")
	x.leads = add("keywright_cluster_leads", "gauge", "1 if this server does the scheduled work of all that share the store.")
	x.offset = add("keywright_clock_offset_seconds", "gauge", "How far the server's clock is ahead of that of the database that it shares, at least; negative if it is behind.")
	x.counted = add("keywright_keys_counted_age_seconds", "gauge", "How long ago the keys were counted.")
}

// Describe implements prometheus.Collector.
func (x *facts) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(x, ch) }

// Collect implements prometheus.Collector.
func (x *facts) Collect(ch chan<- prometheus.Metric) {
	f := x.current.Load()
	if f == nil {
		return
	}
	r := reporter{ch, f.Now()}
	x.server(f, &r)
	x.audit(f, &r)
	x.store(f, &r)
	x.cluster(f, &r)
	if f.Quotas != nil {
		for _, u := range nearest(f.Quotas) {
			r.gauge(x.quotaUsed, u.used, u.account, u.region, u.bucket)
			r.gauge(x.quotaLimit, u.limit, u.account, u.region, u.bucket)
		}
	}
	if f.Census == nil {
		return
	}
	if c, ok := f.Census(); ok {
		for state, n := range c.States {
			r.gauge(x.keys, float64(n), state)
		}
		r.gauge(x.refused, float64(c.Refused))
		r.days(x.nextDeletion, c.NextDeletion)
		r.days(x.nextExpiry, c.NextExpiry)
		r.gauge(x.counted, r.now.Sub(c.At).Seconds())
	}
}

func (x *facts) server(f *Facts, r *reporter) {
	if f.Server != nil {
		s := f.Server()
		r.gauge(x.ready, truth(s.Ready))
		r.gauge(x.sealed, 0)
		if s.Seals > 0 {
			r.gauge(x.seals, float64(s.Seals))
		}
		r.gauge(x.storeOctets, float64(s.StoreOctets))
		r.gauge(x.auditOctets, float64(s.AuditOctets))
	}
	if f.Certificate != nil {
		r.days(x.certificate, f.Certificate())
	}
	if f.Connections != nil {
		r.gauge(x.connections, float64(f.Connections()))
	}
}

func (x *facts) audit(f *Facts, r *reporter) {
	if f.Audit != nil {
		a := f.Audit()
		r.gauge(x.records, float64(a.Next-a.First))
		r.gauge(x.unsynced, float64(a.Next-min(a.Next, a.Durable)))
		r.gauge(x.waiting, a.Waiting.Seconds())
		r.gauge(x.unchecked, float64(a.Next-min(a.Next, a.Checkpointed)))
		if !a.Checkpoint.IsZero() {
			r.gauge(x.checkpointed, r.now.Sub(a.Checkpoint).Seconds())
		}
		r.gauge(x.segments, float64(a.Segments))
		r.gauge(x.postponed, float64(a.Postponed))
	}
	if f.Sinks != nil {
		for _, s := range f.Sinks() {
			r.gauge(x.sinkLag, float64(s.Lag), s.Name)
			r.gauge(x.sinkFailing, truth(s.Failing), s.Name)
			r.counter(x.sinkDelivered, float64(s.Delivered), s.Name)
			r.counter(x.sinkMissed, float64(s.Missed), s.Name)
		}
	}
}

func (x *facts) store(f *Facts, r *reporter) {
	if f.Caches != nil {
		for _, c := range f.Caches() {
			r.counter(x.hits, float64(c.Hits), c.Name)
			r.counter(x.misses, float64(c.Misses), c.Name)
			r.gauge(x.entries, float64(c.Entries), c.Name)
		}
	}
}

func (x *facts) cluster(f *Facts, r *reporter) {
	if f.Cluster == nil {
		return
	}
	if c, ok := f.Cluster(); ok {
		r.gauge(x.staleness, c.Staleness.Seconds())
		r.gauge(x.live, float64(c.Live))
		r.gauge(x.leads, truth(c.Leads))
		r.gauge(x.offset, c.ClockOffset.Seconds())
	}
}

// reporter makes metrics of one moment.
type reporter struct {
	ch  chan<- prometheus.Metric
	now time.Time
}

func (r *reporter) gauge(d *prometheus.Desc, v float64, labels ...string) {
	r.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (r *reporter) counter(d *prometheus.Desc, v float64, labels ...string) {
	r.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}

// days reports how many days a date is away; nothing for the zero time.
func (r *reporter) days(d *prometheus.Desc, at time.Time) {
	if !at.IsZero() {
		r.gauge(d, at.Sub(r.now).Hours()/24)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// rate is a rate in use.
type rate struct {
	account, region, bucket string
	used, limit             float64
}

// nearest returns the rates whose limits are nearest, TopQuotas at most.
func nearest(report func(Usage)) []rate {
	var all []rate
	report(func(account, region, bucket string, used, limit float64) {
		all = append(all, rate{account, region, bucket, used, limit})
	})
	share := func(r rate) float64 { return r.used / max(r.limit, 1e-9) }
	slices.SortFunc(all, func(a, b rate) int {
		return cmp.Or(cmp.Compare(share(b), share(a)), cmp.Compare(a.account, b.account), cmp.Compare(a.region, b.region), cmp.Compare(a.bucket, b.bucket))
	})
	return all[:min(len(all), TopQuotas)]
}
