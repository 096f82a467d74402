package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificates serves the certificate of two files and takes a new one when they have changed.
type certificates struct {
	files   TLS
	current atomic.Pointer[tls.Certificate]
	seen    [2]stamp // of current; the watcher's own
}

// stamp tells whether a file may have changed.
type stamp struct {
	modified time.Time
	size     int64
}

func loadCertificates(files TLS) (*certificates, error) {
	c := &certificates{files: files}
	return c, c.load()
}

func (c *certificates) load() error {
	seen, err := c.look() // before reading, so that a change in between is seen next time
	if err != nil {
		return fmt.Errorf("loading the certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(c.files.Certificate, c.files.Key)
	if err != nil {
		return fmt.Errorf("loading the certificate: %w", err)
	}
	c.seen = seen
	c.current.Store(&pair)
	return nil
}

func (c *certificates) look() (seen [2]stamp, err error) {
	for i, path := range []string{c.files.Certificate, c.files.Key} {
		info, err := os.Stat(path)
		if err != nil {
			return seen, err
		}
		seen[i] = stamp{info.ModTime(), info.Size()}
	}
	return seen, nil
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// watch looks at the files until ctx ends. What cannot be loaded is logged and the old certificate stays: the two files
// may be in the middle of being replaced.
func (c *certificates) watch(ctx context.Context) {
	tick := time.NewTicker(c.files.Reload)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		seen, err := c.look()
		if err == nil && seen == c.seen {
			continue
		}
		if err == nil {
			err = c.load()
		}
		if err != nil {
			slog.Warn("the certificate was not reloaded; the old one is served", "err", err)
			continue
		}
		slog.Info("the certificate was reloaded", "file", c.files.Certificate)
	}
}
