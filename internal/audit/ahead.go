package audit

import (
	"errors"
	"os"
	"syscall"
)

// A segment that is synced after every batch ends in zeros, over which the next records are written: the file does not grow then,
// and so a flush is of octets only, and not of the file system's journal as well, which takes about as long again. Whoever reads a
// segment takes zeros up to its end for none. They go when the segment is closed.

// zeros is how much is written ahead at a time. A lineReader has memory for more.
var zeros [256 << 10]byte

// writeAhead writes zeros behind the segment, which go to disk with the next flush. Without them a flush only takes longer: so a disk
// that has no room for them is no error. The caller holds mu.
func (l *Log) writeAhead() {
	_, _ = l.file.WriteAt(zeros[:], l.size)
	l.ahead = l.size + int64(len(zeros)) // also if not: it is tried again behind that
}

// datasync is Sync without the times of a file (fdatasync(2)).
func datasync(file *os.File) error {
	conn, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		failed = uninterrupted(func() error { return syscall.Fdatasync(int(fd)) })
	})
	if err != nil { // it says so in its own way
		return os.ErrClosed
	}
	return os.NewSyscallError("fdatasync", failed)
}

// uninterrupted does a system call again as long as a signal ends it, as package os does: Go's own runtime sends some.
func uninterrupted(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}
