package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/pipeline"
)

// between has the Meddler know of administrators' requests as of those of clients, but for those that wait for the next record,
// which would hold it up and look at nothing that it changes.
func between(m pipeline.Meddler, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/"+admin.MethodFollowEvents) {
			defer m.Begin()()
		}
		next.ServeHTTP(w, r)
	})
}

// noSocket is the AdminSocket of a server that has none.
const noSocket = "none"

// maxSocketPath is how long the path of a Unix socket can be on every system that this runs on (sun_path, unix(7)).
const maxSocketPath = 100

// Socket returns the path of the administrators' socket; empty if there is none.
func (c *Config) Socket() string {
	switch {
	case c.AdminSocket == noSocket, c.AdminSocket == "" && c.Data == "":
		return ""
	case c.AdminSocket != "":
		return c.AdminSocket
	}
	return filepath.Join(c.Data, "admin.sock")
}

// listenSocket opens the administrators' socket, for the owner of the process alone.
func (s *Server) listenSocket() error {
	path := s.config.Socket()
	if path == "" {
		return nil
	}
	if len(path) > maxSocketPath {
		if s.config.AdminSocket == "" {
			slog.Warn("there is no administrators' socket: its path would be too long; set adminSocket", "path", path)
			return nil
		}
		return fmt.Errorf("adminSocket: the path has more than %d octets", maxSocketPath)
	}
	if err := removeStale(path); err != nil {
		return err
	}
	l, err := listenPrivately(path)
	if err != nil {
		return fmt.Errorf("listening for administrators: %w", err)
	}
	s.socket = l
	return nil
}

// privateSocket is a listener that removes its socket when it is closed.
type privateSocket struct {
	*net.UnixListener
	path string
}

// Close implements net.Listener.
func (p *privateSocket) Close() error {
	err := p.UnixListener.Close()
	if !errors.Is(err, net.ErrClosed) {
		err = errors.Join(err, os.Remove(p.path))
	}
	return err
}

// listenPrivately makes the socket in a directory of its own and moves it to its place once it has its mode, so that nobody
// else can connect at any time.
func listenPrivately(path string) (_ net.Listener, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), "s")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it knows the first path only
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &privateSocket{l, path}, nil
}

// removeStale removes the socket of a server that was killed. One that answers is somebody else's.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for an old administrators' socket: %w", err)
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("adminSocket: %s is there and no socket", path)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close() // it was a question only
		return fmt.Errorf("adminSocket: another server listens on %s", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing an old administrators' socket: %w", err)
	}
	return nil
}

// Administration is the administrators' door on an installation that no server runs on.
type Administration struct {
	*admin.Admin
	s *Server
}

// NewAdministration opens that door, with the audit log that the server would use. It closes the installation with itself.
func NewAdministration(c Config, in *Installation) (*Administration, error) {
	s, err := plan(c, in)
	if err == nil {
		err = s.openAudit()
	}
	if err == nil {
		err = s.build()
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &Administration{s.administration, s}, nil
}

// Close closes the audit log and the installation.
func (a *Administration) Close() error { return a.s.Close() }
