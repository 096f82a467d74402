package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/keywright/keywright/internal/admin"
)

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
	old := syscall.Umask(0o177) // nobody else may connect, not even between the making of the socket and a chmod
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return fmt.Errorf("listening for administrators: %w", err)
	}
	s.socket = l
	return nil
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
	s := &Server{config: c, in: in}
	if c.Now == nil {
		s.config.Now = time.Now
	}
	if err := s.openAudit(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.build()
	return &Administration{s.administration, s}, nil
}

// Close closes the audit log and the installation.
func (a *Administration) Close() error { return a.s.Close() }
