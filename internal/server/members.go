package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/cluster"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/metrics"
)

// join has this server be one of those that share its store, if others can, unless another one has its name. From then on it allows its
// share of rates.
func (s *Server) join() (err error) {
	if !s.in.Store.Shared() {
		return nil
	}
	s.member, err = cluster.Join(context.Background(), cluster.Config{Store: s.in.Store, Name: s.in.node, Version: s.config.Version, Counted: s.quotas.Share})
	return err
}

// lease says whether this server does the work that one does for all; nil where it has the store for itself.
func (s *Server) lease() kms.Lease {
	if s.member == nil {
		return nil
	}
	return s.member
}

// leads reports whether this server does that work now.
func (s *Server) leads() bool { return s.member == nil || s.member.Leads() }

// Every trimEvery all but the last keptChanges entries of the change feed of each account and Region go. Who was away for longer
// forgets everything that it remembers.
const (
	trimEvery   = time.Hour
	keptChanges = 10_000
)

// coordinate does what several servers agree on, until ctx ends.
func (s *Server) coordinate(ctx context.Context, running *sync.WaitGroup) {
	if s.member != nil {
		running.Go(func() { s.member.Run(ctx) })
	}
	running.Go(func() {
		tick := time.NewTicker(trimEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !s.leads() {
				continue
			}
			if _, err := s.in.Store.TrimChanges(ctx, keptChanges); err != nil && ctx.Err() == nil {
				slog.Warn("old entries of the change feed go later", "err", err)
			}
			if err := s.forgetLogs(ctx); err != nil && ctx.Err() == nil {
				slog.Warn("what is remembered of old audit logs goes later", "err", err)
			}
		}
	})
}

// clusterState says how this server stands among the others, for the metrics.
func (s *Server) clusterState() (metrics.Cluster, bool) {
	if s.member == nil {
		return metrics.Cluster{}, false
	}
	return metrics.Cluster{
		Staleness: s.freshness.keeper.Age(), Live: len(s.member.Live()), Leads: s.member.Leads(), ClockOffset: s.member.ClockOffset(),
	}, true
}

// clusterStatus is clusterState for administrators.
func (s *Server) clusterStatus() *admin.ClusterStatus {
	c, ok := s.clusterState()
	if !ok {
		return nil
	}
	out := &admin.ClusterStatus{
		Node: s.in.node, Leads: c.Leads, Staleness: c.Staleness.Seconds(), Failing: s.freshness.keeper.Failing(), ClockOffset: c.ClockOffset.Seconds(),
	}
	for _, n := range s.member.Live() {
		out.Live = append(out.Live, admin.NodeStatus{Node: n.Name, Version: n.Version})
	}
	return out
}
