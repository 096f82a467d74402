package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

func lines(t *testing.T, dir string) []string {
	t.Helper()
	segments, err := audit.Segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, s := range segments {
		b, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bytes.TrimRight(b, "\x00")...) // which were written ahead
	}
	if len(all) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(all), "\n"), "\n")
}

func open(t *testing.T, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	l.Tidy()
	return l
}

func TestAppendInBothDurabilities(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		dir := filepath.Join(t.TempDir(), "audit")
		l := open(t, audit.Options{Dir: dir, Durability: d, SegmentSize: 4000})
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 50 {
					if err := l.Append(fmt.Appendf(nil, `{"g":%d,"i":%d}`, g, i)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		next := map[int]int{} // what each goroutine saw acknowledged is there, whole and in its order
		for _, line := range lines(t, dir) {
			var r struct{ G, I int }
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if r.I != next[r.G] {
				t.Fatalf("durability %d: goroutine %d has record %d after %d", d, r.G, r.I, next[r.G]-1)
			}
			next[r.G]++
		}
		for g := range 8 {
			if next[g] != 50 {
				t.Errorf("durability %d: %d records of goroutine %d", d, next[g], g)
			}
		}
		if s, _ := audit.Segments(dir); len(s) < 2 {
			t.Errorf("%d segments, want several", len(s))
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("directory mode %v, %v", info.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Append([]byte("{}")); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Append after Close: %v", err)
		}
	}
}

func TestReopenRemovesTornRecord(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir, Durability: audit.Synced})
	if err := l.Append([]byte(`{"n":1}`)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segments, _ := audit.Segments(dir)
	torn := `{"n":2` + strings.Repeat("x", 70_000) // longer than one look back
	f, err := os.OpenFile(segments[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(torn); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, audit.Options{Dir: dir, Durability: audit.Written})
	if err := l.Append([]byte(`{"n":3}`)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(lines(t, dir), " "); got != `{"n":1} {"n":3}` {
		t.Errorf("after the crash the log holds %.200s", got)
	}
}

// A file-size limit of the process makes write fail the way a full disk does, in the middle of a record.
func TestFailedWriteIsTakenBackAndTriedAgain(t *testing.T) {
	signal.Ignore(syscall.SIGXFSZ)
	t.Cleanup(func() { signal.Reset(syscall.SIGXFSZ) })
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		dir := t.TempDir()
		l := open(t, audit.Options{Dir: dir, Durability: d})
		record := []byte(`{"r":"` + strings.Repeat("a", 1000) + `"}`)
		if err := l.Append(record); err != nil {
			t.Fatal(err)
		}
		var old syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1500, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		err := l.Append(record)
		if e := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); e != nil {
			t.Fatal(e)
		}
		if err == nil {
			t.Fatal("a record that does not fit on the disk was acknowledged")
		}
		if err := l.Append([]byte(`{"r":"after"}`)); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if got := lines(t, dir); len(got) != 2 || got[1] != `{"r":"after"}` {
			t.Errorf("durability %d: %d lines, last %.60q", d, len(got), got[len(got)-1])
		}
	}
}

func TestOneLogADirectory(t *testing.T) {
	dir := t.TempDir()
	l := open(t, audit.Options{Dir: dir, Durability: audit.Written})
	if _, err := audit.Open(audit.Options{Dir: dir, Durability: audit.Written}); !errors.Is(err, audit.ErrLocked) {
		t.Errorf("a second log on the directory: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, audit.Options{Dir: dir, Durability: audit.Synced})
}

// Room that was reserved is not part of the log, and is given back.
func TestReserve(t *testing.T) {
	for _, d := range []audit.Durability{audit.Written, audit.Synced} {
		dir := t.TempDir()
		l := open(t, audit.Options{Dir: dir, Durability: d, SegmentSize: 3 << 20})
		record := []byte(`{"r":"` + strings.Repeat("a", 100_000) + `"}`)
		for range 70 { // past a chunk of reserved room, and over a segment
			if err := l.Reserve(); err != nil {
				t.Fatal(err)
			}
			if err := l.AppendReserved(record, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(l.Reserve(), l.AppendReserved()); err != nil { // a call that has no record
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Reserve(); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Reserve after Close: %v", err)
		}
		if got := lines(t, dir); len(got) != 140 || got[0] != string(record) || got[139] != "{}" {
			t.Errorf("durability %d: %d lines", d, len(got))
		}
		segments, _ := audit.Segments(dir)
		for _, s := range segments {
			var st syscall.Stat_t
			if err := syscall.Stat(s, &st); err != nil || st.Blocks*512 > st.Size+64<<10 {
				t.Errorf("%s: %d octets take %d blocks, %v", s, st.Size, st.Blocks, err)
			}
		}
	}
}

func TestRecordForm(t *testing.T) {
	var params, details audit.Fields
	params.String("keyId", `alias/"x"`)
	params.Map("encryptionContext", map[string]string{"b": "2", "a": "1"})
	params.Date("validTo", time.Date(2022, 8, 10, 22, 38, 27, 0, time.UTC))
	params.Int("n", 30)
	params.Bool("dryRun", true)
	params.Strings("tagKeys", []string{"x", "y"})
	params.Objects("tags", 1, func(_ int, f *audit.Fields) { f.String("tagKey", "k") })
	params.Object("constraints", func(*audit.Fields) {})
	details.String("rotationType", "AUTOMATIC")
	r := audit.Record{
		Identity: audit.Identity{Type: "Root", PrincipalID: "111122223333", ARN: "arn:aws:iam::111122223333:root", AccountID: "111122223333", AccessKeyID: "AKIA"},
		Time:     time.Date(2026, 5, 20, 20, 46, 16, 999, time.UTC), Source: "kms.amazonaws.com", Name: "Encrypt", Region: "us-east-1",
		SourceIP: "127.0.0.1", UserAgent: "a\xffb\n", ErrorCode: "DisabledException", ErrorMessage: "x is disabled.",
		Parameters: &params, RequestID: "r", EventID: "e", ReadOnly: true, EventType: audit.APICall, Recipient: "111122223333",
		Resources: []audit.Resource{{"111122223333", "arn:k"}}, TLS: &audit.TLS{Version: "TLSv1.3", CipherSuite: "c", ServerName: "h"}, Service: &details,
	}
	want := `{"eventVersion":"1.11","userIdentity":{"type":"Root","principalId":"111122223333","arn":"arn:aws:iam::111122223333:root","accountId":"111122223333","accessKeyId":"AKIA"},` +
		`"eventTime":"2026-05-20T20:46:16Z","eventSource":"kms.amazonaws.com","eventName":"Encrypt","awsRegion":"us-east-1","sourceIPAddress":"127.0.0.1","userAgent":"a\ufffdb\n",` +
		`"errorCode":"DisabledException","errorMessage":"x is disabled.","requestParameters":{"keyId":"alias/\"x\"","encryptionContext":{"a":"1","b":"2"},"validTo":"Aug 10, 2022, 10:38:27 PM","n":30,"dryRun":true,"tagKeys":["x","y"],"tags":[{"tagKey":"k"}],"constraints":{}},` +
		`"responseElements":null,"requestID":"r","eventID":"e","readOnly":true,"resources":[{"accountId":"111122223333","type":"AWS::KMS::Key","ARN":"arn:k"}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333",` +
		`"serviceEventDetails":{"rotationType":"AUTOMATIC"},"eventCategory":"Management","tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"c","clientProvidedHostHeader":"h"}}`
	got := r.AppendJSON(nil)
	if string(got) != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
	if !json.Valid(got) || bytes.ContainsAny(got, "\n\r") {
		t.Error("a record must be one line of valid JSON")
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("Encrypt", "aws-cli/2", "alias/x")
	f.Fuzz(func(t *testing.T, name, agent, value string) {
		var p audit.Fields
		p.String(value, value)
		p.Map(name, map[string]string{agent: value})
		got := (&audit.Record{Name: name, UserAgent: agent, ErrorMessage: value, Parameters: &p}).AppendJSON(nil)
		if !json.Valid(got) || bytes.ContainsAny(got, "\n\r") {
			t.Errorf("%s", got)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for name, d := range map[string]audit.Durability{"written": audit.Written, "synced": audit.Synced} {
		b.Run(name, func(b *testing.B) {
			l, err := audit.Open(audit.Options{Dir: b.TempDir(), Durability: d})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			record := bytes.Repeat([]byte("x"), 900)
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := l.Append(record); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func TestMemoryKeepsTheNewest(t *testing.T) {
	m := audit.NewMemory(3)
	for i := range 5 {
		if err := m.Append(fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := bytes.Join(m.Records(), []byte(",")); string(got) != "2,3,4" {
		t.Errorf("records %s", got)
	}
}
