package audit_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// smallDisk mounts a file system of a few MiB, or skips the test where that is not allowed.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=6m"); err != nil {
		t.Skipf("no small disk: mounting one takes rights that this process does not have: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A disk that fills up under load refuses calls, and takes them again when there is room: no restart, no gap, and every record
// that was acknowledged is there once.
func TestFullDiskUnderLoad(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		t.Run(fmt.Sprint(d), func(t *testing.T) {
			disk := smallDisk(t)
			filler := filepath.Join(disk, "filler")
			if err := os.WriteFile(filler, make([]byte, 3<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			o := audit.Options{
				Dir: filepath.Join(disk, "audit"), Durability: d, SegmentSize: 200_000, FlushEvery: 5 * time.Millisecond, CheckpointEvery: 5 * time.Millisecond, Seed: seed,
			}
			l := open(t, o)
			var refused, again atomic.Int64
			var room atomic.Bool
			var mu sync.Mutex
			acked := map[string]bool{}
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := 0; i < 100_000 && again.Load() < 100; i++ {
						record := fmt.Sprintf(`{"g":%d,"i":%d,"pad":%q}`, g, i, strings.Repeat("p", 900))
						err := l.Reserve()
						if err == nil {
							err = l.AppendReserved([]byte(record))
						}
						switch {
						case errors.Is(err, syscall.ENOSPC):
							if refused.Add(1) == 200 {
								if err := os.Remove(filler); err != nil {
									t.Error(err)
								}
								room.Store(true)
							}
						case err != nil:
							t.Error(err)
							return
						default:
							mu.Lock()
							acked[record] = true
							mu.Unlock()
							if room.Load() {
								again.Add(1)
							}
						}
					}
				})
			}
			wg.Wait()
			if refused.Load() < 200 || again.Load() < 100 {
				t.Fatalf("%d calls were refused, %d taken when there was room again", refused.Load(), again.Load())
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			mustVerify(t, audit.VerifyOptions{Dir: o.Dir})
			all := lines(t, o.Dir)
			for _, line := range all {
				if !acked[line] {
					t.Fatalf("there is a record that was refused, or one twice: %.40s", line)
				}
				delete(acked, line)
			}
			if len(acked) > 0 {
				t.Errorf("%d acknowledged records are missing", len(acked))
			}
			t.Logf("%d records, %d refusals", len(all), refused.Load())
		})
	}
}

// What was reserved is there for the records of changes, whoever else writes meanwhile, and however full the disk is: also in the next
// segment, and after a flush that failed.
func TestReservedRoomIsKept(t *testing.T) {
	for _, c := range []struct {
		d           audit.Durability
		segmentSize int64
	}{{audit.Written, 1 << 30}, {audit.Synced, 1 << 30}, {audit.Written, 500_000}, {audit.Synced, 500_000}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			disk := smallDisk(t)
			o := audit.Options{Dir: filepath.Join(disk, "audit"), Durability: c.d, SegmentSize: c.segmentSize, CheckpointEvery: time.Hour, FlushEvery: time.Millisecond}
			l := open(t, o)
			const changes = 3
			for range changes + 1 {
				if err := l.Reserve(); err != nil {
					t.Fatal(err)
				}
			}
			var wg sync.WaitGroup
			var others atomic.Int64
			for range 4 {
				wg.Go(func() {
					for n := 50_000; n >= 50; {
						err := l.Append(fmt.Appendf(nil, `{"pad":%q}`, strings.Repeat("p", n)))
						switch {
						case errors.Is(err, syscall.ENOSPC):
							n /= 10
						case err != nil:
							t.Error(err)
							return
						default:
							others.Add(1)
						}
					}
				})
			}
			wg.Wait()
			var fails failingDisk
			audit.SyncWith(l, fails.sync)
			fails.fails.Store(true)
			err := l.AppendReserved([]byte(`{"a record":"small"}`)) // with Written a flush beside it may have failed before
			if err == nil && c.d == audit.Synced || err != nil && !errors.Is(err, syscall.EIO) {
				t.Fatalf("a flush that fails: %v", err)
			}
			fails.fails.Store(false)
			fill(t, filepath.Join(disk, "filler"))
			large := fmt.Appendf(nil, `{"pad":%q}`, strings.Repeat("p", audit.MaxRecord-10))
			for range changes {
				wg.Go(func() {
					if err := l.AppendReserved(large, large); err != nil {
						t.Errorf("the record of a change was refused, after %d others: %v", others.Load(), err)
					}
				})
			}
			wg.Wait()
			if others.Load() < 20 {
				t.Errorf("%d other records: too few to show anything", others.Load())
			}
			further := l.Reserve() // which may get the room of the failed one
			if err := l.Reserve(); !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("a further change on a full disk: %v", err)
			}
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil {
				t.Fatal(err)
			}
			if further == nil {
				if err := l.AppendReserved([]byte(`{"a record":"further"}`)); err != nil {
					t.Error(err)
				}
			}
			next := l.Next()
			if err := l.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) { // of the index, which is made again from the records
				t.Fatal(err)
			}
			if all := lines(t, o.Dir); uint64(len(all)) != next {
				t.Errorf("%d records, want %d", len(all), next)
			}
		})
	}
}

// fill takes all room that a disk has.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := 64 << 10; n >= 1; {
		if _, err := f.Write(make([]byte, n)); err != nil {
			n /= 16
		}
	}
	if err := f.Close(); err != nil {
		t.Log(err)
	}
}
