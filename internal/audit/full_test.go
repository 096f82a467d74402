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
							err = l.Append([]byte(record))
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
