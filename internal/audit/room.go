package audit

import (
	"errors"
	"fmt"
	"math"
	"os"
	"syscall"
	"time"
)

// MaxRecord is how many octets a record has at most, so that it can be delivered everywhere and looked up at little cost: that of an
// event in CloudTrail ("CloudTrail record contents"). Who makes records sees to it.
const MaxRecord = 256 << 10

// How much room a call has that reserved: for two records of the largest size, as no change has more that could be large. And how
// much more is taken from the disk at a time.
const (
	callRoom    = 2 * (MaxRecord + 1)
	chunkOfRoom = 4 << 20
)

// Reserve sees to it that the disk takes the record of a call: that it has room for it, which no other record gets until
// AppendReserved, and that the last flush did not fail. Whoever is about to change something calls it before, because the record
// comes after: so a full or failing disk refuses a change and cannot hide it.
func (l *Log) Reserve() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if err := l.probe(); err != nil {
		return err
	}
	if err := l.keepRoom(callRoom); err != nil {
		return err
	}
	l.promised += callRoom
	return nil
}

// AppendReserved is Append with the room that one Reserve promised, which it gives back, also with an error, and without a record.
func (l *Log) AppendReserved(records ...[]byte) error {
	defer func() {
		l.mu.Lock()
		if l.promised -= callRoom; l.closed {
			l.bell.ring()
		}
		l.mu.Unlock()
	}()
	return l.add(callRoom, records)
}

// awaitChanges waits for the records of changes that are under way, and lets no more in. What was changed stands, so its record is worth
// some time of a server that stops; but a disk that hangs must not keep it. The caller holds mu, which awaitChanges releases meanwhile.
func (l *Log) awaitChanges() error {
	late := time.NewTimer(l.opts.Patience)
	defer late.Stop()
	for waiting := true; waiting && l.promised > 0; {
		rung := l.bell.listen()
		l.mu.Unlock()
		select {
		case <-rung:
		case <-late.C:
			waiting = false
		}
		l.mu.Lock()
	}
	if l.ended = true; l.promised > 0 {
		return fmt.Errorf("closing audit log: %d calls were still under way that may change something without a record", l.promised/callRoom)
	}
	return nil
}

// keepRoom sees to it that the disk has blocks for what was promised, what waits to be written, and so many octets. The caller holds
// mu.
func (l *Log) keepRoom(octets int64) error {
	if err := l.mend(); err != nil {
		return err
	}
	octets += l.promised + int64(len(l.pending.buf))
	if l.size+octets <= l.room {
		return nil
	}
	room, err := makeRoom(l.file, l.size, octets)
	if err != nil {
		return err
	}
	l.room = room
	return nil
}

// fallocate is fallocate(2).
var fallocate = syscall.Fallocate

// makeRoom has the disk keep blocks for a file, for so many octets from size on and some more if it has them, and returns up to which
// size.
func makeRoom(file *os.File, size, octets int64) (int64, error) {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)
	for _, more := range []int64{chunkOfRoom, 0} {
		err := uninterrupted(func() error { return fallocate(int(file.Fd()), keepSize, size, octets+more) })
		switch {
		case err == nil:
			return size + octets + more, nil
		case errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return math.MaxInt64, nil // a file system without reservations: Append alone can tell
		case more == 0 || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT):
			return 0, fmt.Errorf("reserving room for audit records: %w", err)
		}
	}
	panic("unreachable")
}

// probe tries, if the last write or flush failed, whether the disk works again. The caller holds mu, which probe may release.
func (l *Log) probe() error {
	if l.opts.Durability == Written || !l.suspect.Load() {
		return l.mendAll()
	}
	b := l.pending
	b.probe = true
	l.callFlusher()
	l.mu.Unlock()
	<-b.done
	l.mu.Lock()
	if b.err == nil && l.closed {
		return ErrClosed
	}
	return b.err
}
