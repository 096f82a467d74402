package server

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/keywright/keywright/internal/fresh"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/store"
)

// freshness keeps what the services remember of a store that other servers change, too. It is nil where none do.
type freshness struct {
	keeper *fresh.Keeper
	quotas chan struct{} // somebody else has changed values of quotas
}

// openFreshness begins to follow the changes of others, before anything is remembered.
func (s *Server) openFreshness() error {
	if !s.in.Store.Shared() {
		return nil
	}
	follower, err := s.in.Store.Follow(context.Background())
	if err != nil {
		return err
	}
	f := &freshness{quotas: make(chan struct{}, 1)}
	f.keeper = fresh.New(fresh.Config{
		Next: follower.Next, MaxStaleness: s.config.Store.MaxStaleness, ServeStaleFor: s.config.Store.ServeStaleFor,
		Apply: func(news []store.News, lost bool) {
			s.kms.Heard(news, lost)
			s.directory.Heard(news, lost)
			if lost || slices.ContainsFunc(news, func(n store.News) bool { return n.Kind == store.ChangedQuota }) {
				select {
				case f.quotas <- struct{}{}:
				default: // it is to be done already
				}
			}
		},
	})
	s.freshness = f
	return nil
}

// fresh is what the pipeline asks; nil where nobody else changes the store.
func (s *Server) fresh() guard.Freshness {
	if s.freshness == nil {
		return nil
	}
	return s.freshness.keeper
}

// keepFresh follows the changes of others until ctx ends.
func (s *Server) keepFresh(ctx context.Context, running *sync.WaitGroup) {
	f := s.freshness
	if f == nil {
		return
	}
	running.Go(func() { f.keeper.Run(ctx) })
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-f.quotas:
			}
			for s.quotaAPI.Load(ctx) != nil && ctx.Err() == nil {
				slog.Warn("values of quotas that another server has changed could not be read yet")
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
	})
}
