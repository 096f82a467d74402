// Package server puts the rooms together: from a configuration it opens the store and its seals, makes the services, and
// runs the listeners; on the way down it drains, flushes and closes in the opposite order.
//
// It trusts its Config. It must never serve plain HTTP to other machines, never start without an audit log, and never
// report itself ready when it could not answer; only a database that several servers share may be away for as long as changes
// wait for it.
package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/attest"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/cluster"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/httpapi"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/metrics"
	"github.com/keywright/keywright/internal/oidc"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/servicequotas"
	"github.com/keywright/keywright/internal/sink"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/tracing"
	"github.com/keywright/keywright/internal/trail"
	"github.com/keywright/keywright/internal/wire/iamapi"
	"github.com/keywright/keywright/internal/wire/kmsapi"
	"github.com/keywright/keywright/internal/wire/quotaapi"
	"github.com/keywright/keywright/internal/wire/stsapi"
	"github.com/keywright/keywright/internal/wire/trailapi"
)

// memoryRecords is how many audit records a server without a data directory keeps.
const memoryRecords = 10_000

// Server is a Keywright that is ready to run.
type Server struct {
	config      Config
	in          *Installation
	directory   *iam.Directory
	guard       *guard.Guard
	kms         *kms.Service
	trail       *trail.Service
	pool        *keyspec.Pool
	quotas      *quota.Book
	quotaAPI    *servicequotas.Service
	attestation *attest.Verifier // nil for no roots
	recorder    guard.Recorder
	closeLog    func() error    // nil without a log on disk
	known       []byte          // what the store remembered of the log when it was opened
	records     audit.Source    // what was recorded
	freshness   *freshness      // nil where nobody else changes the store
	member      *cluster.Member // likewise
	index       *trail.Index
	sinks       []*sink.Sink
	certs       *certificates
	api         *httpapi.Server
	listener    net.Listener
	admin       *http.Server
	adminAt     net.Listener
	health      health
	started     time.Time
	metrics     *metrics.Metrics
	tracer      *tracing.Tracer // nil if nothing is traced
	census      *census

	administration *admin.Admin
	operators      *http.Server
	socket         net.Listener  // nil if there is none
	hurry          chan struct{} // closed when nothing waits for the store any more
	closing        sync.Once
	closeErr       error
}

// plan returns a Server of which nothing is open yet, if its configuration can be right.
func plan(c Config, in *Installation) (*Server, error) {
	s := &Server{config: c.Filled(), in: in, hurry: make(chan struct{})}
	if c.Now == nil {
		s.config.Now = time.Now
	}
	if err := c.check(); err != nil {
		return s, err
	}
	s.quotas = quota.New(c.Quotas, s.config.Now)
	return s, nil
}

// New makes a server over an installation, which it closes with itself, and listens. Nothing is accepted before Run.
func New(c Config, in *Installation) (*Server, error) {
	s, err := plan(c, in)
	s.metrics, s.started = metrics.New(c.Version), s.config.Now()
	if err == nil {
		err = s.readRoots()
	}
	if err == nil {
		err = s.join() // before anything is done under the node's name
	}
	if err == nil {
		err = s.openAudit()
	}
	if err == nil {
		err = s.openSinks()
	}
	if err == nil {
		err = s.openTraces()
	}
	if err == nil {
		err = s.build()
	}
	if err == nil {
		s.doors()
		s.observe()
		err = s.listen()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// readRoots reads what attestation documents are verified with, if anything.
func (s *Server) readRoots() error {
	path := s.config.Attestation.Roots
	if path == "" {
		return nil
	}
	roots, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("attestation: %w", err)
	}
	if s.attestation, err = attest.NewVerifier(roots); err != nil {
		return fmt.Errorf("attestation: %s: %w", path, err)
	}
	return nil
}

// defaultDurability is that of the audit log.
const defaultDurability = "synced"

// openAudit opens the audit log, or keeps records in memory if there is no data directory.
func (s *Server) openAudit() error {
	c := &s.config
	dir := c.AuditDir()
	if dir == "" {
		memory := audit.NewMemory(memoryRecords)
		s.recorder, s.records = memory, memory
		return s.openIndex()
	}
	durability, err := audit.ParseDurability(c.Audit.Durability)
	if err != nil {
		return err
	}
	seed, err := s.in.auditSeed(context.Background(), true)
	if err != nil {
		return err
	}
	known, err := s.in.knownCheckpoint(context.Background())
	if err != nil {
		return err
	}
	log, err := audit.Open(audit.Options{
		Dir: dir, Durability: durability, FlushEvery: c.Audit.FlushEvery, CheckpointEvery: c.Audit.CheckpointEvery, SegmentSize: c.Audit.SegmentSize,
		SegmentAge: c.Audit.SegmentAge, Compress: c.Audit.Compress, Retention: c.Audit.Retention, Seed: seed,
		Known: known, Remember: s.remember, Patience: s.atMost(logWithin),
	})
	if err != nil {
		return err
	}
	s.recorder, s.records, s.closeLog, s.health.auditDir, s.known = log, log, log.Close, dir, known
	return s.openIndex()
}

// readyKeys is how many RSA keys of each size wait for whoever asks for one. Every server makes them when it starts, also that of
// `keywright dev`, which takes about three seconds of one processor; its end waits for the key under way.
var readyKeys = map[key.Spec]int{keyspec.RSA2048: 32, keyspec.RSA3072: 4, keyspec.RSA4096: 2}

// build makes the services.
func (s *Server) build() error {
	c, in := &s.config, s.in
	if err := s.openFreshness(); err != nil {
		return err
	}
	s.directory = iam.New(iam.Config{
		Store: in.Store, Barrier: in.Barrier, Now: c.Now, Tokens: oidc.New(oidc.Config{Now: c.wall(), Loopback: c.LoopbackProviders}),
	})
	s.guard = guard.New(guard.Config{Recorder: s.watched(s.recorder), Directory: s.directory, Now: c.Now, Seal: s.directory.SealMessage, Unknown: func(err error) bool {
		return errors.Is(err, store.ErrUnknown)
	}})
	s.pool = keyspec.NewPool(readyKeys)
	s.kms = kms.New(kms.Config{
		Store: in.Store, Custody: custody.New(soft.NewWithPool(in.Barrier, s.pool)), Barrier: in.Barrier, Guard: s.guard, Now: c.Now, CachedKeys: c.Limits.CachedKeys,
		Principals: s.directory, Attestation: s.attestation, Wall: c.Wall,
		Quotas: s.quotas, Regions: s.regions(),
	})
	s.quotaAPI = servicequotas.New(servicequotas.Config{Store: in.Store, Barrier: in.Barrier, Book: s.quotas, Now: c.Now})
	s.trail = trail.New(trail.Config{Index: s.index, Barrier: in.Barrier, Now: c.Now, Allow: func(a arn.Account, r arn.Region) bool {
		return s.quotas.Allow(quota.Request{Place: quota.Place{Account: a, Region: r}, Bucket: quota.Own("cloudtrail", "LookupEvents")})
	}})
	ask := admin.Config{Guard: s.guard, Directory: s.directory, KMS: s.kms, Quotas: s.quotaAPI, Index: s.index, Now: c.Now}
	if s.metrics != nil { // a server, and not only an open installation
		ask.Status = s.status
		if f := s.fresh(); f != nil {
			ask.Fresh = func(ctx context.Context) error { _, err := f.Check(ctx); return err }
		}
	}
	s.administration = admin.New(ask)
	if err := s.recordBegin(s.known); err != nil {
		return err
	}
	return s.quotaAPI.Load(context.Background())
}

// regions returns which Regions there are.
func (s *Server) regions() func(arn.Region) bool {
	has, err := arn.RegionSet(s.config.Regions)
	if err != nil { // the configuration was checked, or is that of nobody's server
		return func(arn.Region) bool { return false }
	}
	return has
}

// doors makes what the listeners lead to.
func (s *Server) doors() {
	c := &s.config
	p := pipeline.New(pipeline.Config{Guard: s.guard, Directory: s.directory, Now: c.Now, Wall: c.Wall, Meddler: c.Meddler, Fresh: s.fresh(), Regions: s.regions(), Services: []pipeline.Service{
		{Model: &kmsapi.Service, Operations: s.kms.Operations()},
		{Model: &stsapi.Service, Operations: s.directory.STS()},
		{Model: &iamapi.Service, Operations: s.directory.IAM()},
		{Model: &trailapi.Service, Operations: s.trail.Operations()},
		{Model: &quotaapi.Service, Operations: s.quotaAPI.Operations()},
	}, Metrics: s.metrics, Tracer: s.tracer})
	s.api = httpapi.NewServer(httpapi.Config{
		Pipeline: p, HeaderTimeout: c.Limits.HeaderTimeout, ReadTimeout: c.Limits.ReadTimeout, WriteTimeout: c.Limits.WriteTimeout,
		IdleTimeout: c.Limits.IdleTimeout,
	})
	s.health.probe = s.find
	s.admin = smallServer(s.health.handler(s.metrics.Handler()))
	operators := s.administration.Handler()
	if c.Meddler != nil {
		operators = between(c.Meddler, operators)
	}
	s.operators = smallServer(operators)
}

// smallServer returns a server for a few clients with short questions.
func smallServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadTimeout: 5 * time.Second, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
}

// listen opens the listeners.
func (s *Server) listen() error {
	c := &s.config
	get := c.Certificate
	if c.TLS != nil {
		var err error
		if s.certs, err = loadCertificates(*c.TLS); err != nil {
			return err
		}
		get = s.certs.get
	}
	l, err := net.Listen("tcp", c.listen())
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	if s.listener = l; get != nil {
		// Go's own choice of suites and groups: the hybrid X25519MLKEM768 comes first.
		s.listener = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetCertificate: get})
	}
	if err := s.listenSocket(); err != nil || c.Admin == "" {
		return err
	}
	if s.adminAt, err = net.Listen("tcp", c.Admin); err != nil {
		return fmt.Errorf("listening for administration: %w", err)
	}
	return nil
}

// Directory returns the accounts, for commands that make some before the server runs.
func (s *Server) Directory() *iam.Directory { return s.directory }

// KMS returns the service of keys, for the control endpoint of keywright dev, as are Quotas and Store.
func (s *Server) KMS() *kms.Service { return s.kms }

// Quotas returns the book of quotas.
func (s *Server) Quotas() *quota.Book { return s.quotas }

// Store returns the store.
func (s *Server) Store() *store.Store { return s.in.Store }

// Addr is where the API is served.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// AdminAddr is where /healthz and /readyz are served; nil if they are not.
func (s *Server) AdminAddr() net.Addr {
	if s.adminAt == nil {
		return nil
	}
	return s.adminAt.Addr()
}

// Run serves until ctx ends, then drains and closes the server. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	s.tidy()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	s.keepFresh(work, &background)
	s.coordinate(work, &background)
	background.Go(func() { s.kms.RunSchedule(work, s.config.Schedule, s.lease()) })
	background.Go(func() { s.directory.RunUses(work) })
	s.follow(work, &background)
	background.Go(func() { s.census.run(work) })
	if s.certs != nil {
		background.Go(func() { s.certs.watch(work) })
	}
	failed := make(chan error, 3)
	go func() { failed <- s.api.Serve(s.listener) }()
	if s.adminAt != nil {
		go func() { failed <- s.admin.Serve(s.adminAt) }()
	}
	if s.socket != nil {
		go func() { failed <- s.operators.Serve(s.socket) }()
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serving: %w", err)
	}
	s.drain()
	stop()
	if !s.within(workWithin, background.Wait) {
		slog.Warn("the database did not answer in time: the last uses of keys and access keys since the last minute are not written down")
	}
	return errors.Join(err, s.Close())
}

// drain stops accepting and waits for running requests, but not forever. The admin listener stays to say so.
func (s *Server) drain() {
	s.health.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Drain)
	defer cancel()
	if err := s.api.Shutdown(ctx); err != nil {
		slog.Warn("some requests did not end in time and were cut off", "err", err)
		_ = s.api.Close() // whatever it says, the connections are gone
	}
}

// Close releases everything: listeners, audit log, store. Run does it too; a second call does nothing.
func (s *Server) Close() error {
	s.closing.Do(func() {
		var errs []error
		if s.api != nil {
			errs = append(errs, s.api.Close())
		}
		for _, h := range []*http.Server{s.admin, s.operators} {
			if h != nil {
				errs = append(errs, h.Close())
			}
		}
		for _, c := range []io.Closer{s.listener, s.adminAt, s.socket} {
			if l, ok := c.(net.Listener); ok && l != nil {
				if err := l.Close(); !errors.Is(err, net.ErrClosed) {
					errs = append(errs, err)
				}
			}
		}
		s.closeTraces()
		if limit := s.atMost(logWithin); limit > 0 {
			time.AfterFunc(limit, func() { close(s.hurry) })
		}
		if s.closeLog != nil {
			errs = append(errs, s.closeLog())
		}
		if s.pool != nil {
			s.within(keyWithin, s.pool.Close)
		}
		var last error
		if !s.within(storeWithin, func() {
			if s.member != nil { // one that did not come up is not to be counted by others
				s.member.Leave(context.Background())
			}
			last = s.in.Close()
		}) {
			slog.Warn("the database did not answer in time: its connections end with the process")
		} else {
			errs = append(errs, last)
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

func randomOctets(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand crashes the program instead
	return b
}
