package audit

import (
	"bytes"
	"os"
	"syscall"
	"time"
)

// Retire makes a log keep the records from a number on, and removes what was written before a time.
func Retire(l *Log, before time.Time, needed uint64) error {
	if err := l.keeper.pass(true); err != nil {
		return err
	}
	l.Hold("a test", func() uint64 { return needed })
	return l.retire(before)
}

// IndexHeadSize returns how many octets the head of an index has.
func IndexHeadSize(b []byte) int {
	for n := range 1000 {
		if h, err := readIndexHead(bytes.NewReader(b), n); err == nil {
			return int(h.size())
		}
	}
	panic("no index")
}

// SyncWith has a log flush its segments with f.
func SyncWith(l *Log, f func(*os.File) error) {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.fsync = f
}

// SyncIndexWith has a log flush its index with f.
func SyncIndexWith(l *Log, f func(*os.File) error) {
	l.keeper.mu.Lock()
	defer l.keeper.mu.Unlock()
	l.keeper.fsync = f
}

// AllocateWith has room be kept by f for a while.
func AllocateWith(f func(fd int, mode uint32, off, length int64) error) (back func()) {
	fallocate = f
	return func() { fallocate = syscall.Fallocate }
}
