package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// What is deleted is overwritten in the database file (secure_delete), but the pages that the log was given before still
// have it: until the log is folded into the file and cut to nothing. The engine would do the first when the log has grown
// and the second at the end of the process; after something was deleted that must not stay, neither can wait.

// scrubMillis is how long a fold waits for readers of an old state, such as a backup. It holds up all updates for as long.
const scrubMillis = 50

// errLogInUse says that somebody still reads a state that only the log has.
var errLogInUse = errors.New("the log of the database is in use")

// scrubLog folds the log into the database file and cuts it to nothing. It waits for readers scrubMillis long: errLogInUse
// if that was not enough. A database in memory has no log, and nothing happens.
func scrubLog(ctx context.Context, db *sql.DB) (err error) {
	ctx = context.WithoutCancel(ctx) // it is short, and must not leave the connection with the other timeout
	c, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("folding the log: %w", err)
	}
	defer func() {
		_, restored := c.ExecContext(ctx, `PRAGMA busy_timeout = `+strconv.Itoa(busyTimeoutMillis))
		err = errors.Join(err, restored, c.Close())
	}()
	if _, err := c.ExecContext(ctx, `PRAGMA busy_timeout = `+strconv.Itoa(scrubMillis)); err != nil {
		return fmt.Errorf("folding the log: %w", err)
	}
	var busy, frames, folded int
	if err := c.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &folded); err != nil {
		return fmt.Errorf("folding the log: %w", err)
	}
	if busy != 0 {
		return errLogInUse
	}
	return nil
}

// How long the writer lets pass after a fold that did not succeed: twice as long each time, up to a minute.
const (
	firstScrubDelay = time.Second
	lastScrubDelay  = time.Minute
)

// scrubRest is how many times as long as the last fold took the next one is put off at least: whatever is deleted, folds hold up
// updates for a quarter of the time at most.
const scrubRest = 3

// scrubber folds the log for the writer, on its goroutine, and does it again later if it could not.
type scrubber struct {
	db    *sql.DB
	log   *slog.Logger
	again <-chan time.Time // when to fold; nil, which never comes, if there is nothing left to do
	timer *time.Timer
	delay time.Duration // after a fold that did not succeed; zero after one that did
	rests time.Time     // until when no other fold begins
}

// due reports whether the log can be folded at once. If not, that comes up in again.
func (s *scrubber) due() bool {
	rest := time.Until(s.rests)
	if rest <= 0 {
		return true
	}
	s.set(rest)
	return false
}

func (s *scrubber) set(d time.Duration) {
	s.stop()
	s.timer = time.NewTimer(d)
	s.again = s.timer.C
}

// try folds the log, or sets the time to try again.
func (s *scrubber) try() {
	s.stop()
	begun := time.Now()
	err := scrubLog(context.Background(), s.db)
	s.rests = time.Now().Add(scrubRest * time.Since(begun))
	if err == nil {
		if s.delay > 0 {
			s.log.Info("deleted keys are out of the database's log now")
		}
		s.again, s.delay = nil, 0
		return
	}
	s.delay = min(max(2*s.delay, firstScrubDelay), lastScrubDelay)
	s.set(s.delay)
	s.log.Warn("deleted keys may still be in the database's log, wrapped; trying again", "error", err, "in", s.delay)
}

func (s *scrubber) stop() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

// scrubTries is how often scrubNow tries.
const scrubTries = 10

// scrubNow folds the log after a change that no writer made. What still reads after scrubTries times scrubMillis is left
// to the writer's next fold or to the end of the process.
func (db *DB) scrubNow(ctx context.Context) {
	var err error
	for range scrubTries {
		if err = scrubLog(ctx, db.write); !errors.Is(err, errLogInUse) {
			break
		}
	}
	if err != nil {
		db.log.Warn("replaced seals may still be in the database's log", "error", err)
	}
}
