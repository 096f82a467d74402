//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Names in the data directory.
const (
	databaseName = "keywright.db"
	lockName     = "keywright.lock"
)

// Lock is the right to write to a data directory. One process at a time has it; the kernel takes it back when that
// process ends, however it ends.
type Lock struct{ f *os.File }

// LockDir takes the lock of a data directory, which it makes (mode 0700) if it is not there. It does not wait: the error
// is ErrLocked if another process, or another Lock of this one, has it.
func LockDir(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	// The file is never removed: whoever unlinked it would let a third process lock a new file of the same name.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", dir, ErrLocked)
		}
		return nil, fmt.Errorf("locking the data directory: %w", err)
	}
	return &Lock{f}, nil
}

// Unlock gives the lock back. A second call does nothing.
func (l *Lock) Unlock() error {
	if l == nil || l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}
