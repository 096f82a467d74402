package store_test

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/store/storetest"
)

// inFiles counts which of the texts are in a file of the directory.
func inFiles(t *testing.T, dir string, texts ...[]byte) (n int) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(paths) < 3 { // the database, its log, the lock
		t.Fatalf("%v, %v", paths, err)
	}
	var all []byte
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	for _, text := range texts {
		if bytes.Contains(all, text) {
			n++
		}
	}
	return n
}

// keyWithMaterial returns a key whose wrapped material is random octets.
func keyWithMaterial() (k *key.Key, wrapped []byte) {
	k, wrapped = storetest.Key(), make([]byte, 109)
	_, _ = rand.Read(wrapped) // never fails
	k.Material = []key.Material{{ID: "material", Wrapped: wrapped}}
	return k, wrapped
}

func TestDeletedKeysLeaveTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var keys []*key.Key
	var texts [][]byte
	for i := range 300 { // enough for the pages of the table to be split
		k, wrapped := keyWithMaterial()
		k.Policy = strings.Repeat("p", i*7%3000) // in the row or in pages of its own
		keys, texts = append(keys, k), append(texts, wrapped)
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
			t.Fatal(err)
		}
	}
	if n := inFiles(t, dir, texts...); n != len(texts) {
		t.Fatalf("only %d of %d wrapped materials are found: the search is wrong", n, len(texts))
	}
	const gone = 150
	for i, k := range keys[:gone] {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.DeleteKey(k.Name) }); err != nil {
			t.Fatal(err)
		}
		if n := inFiles(t, dir, texts[i]); n != 0 {
			t.Fatalf("the material of key %d is still there", i)
		}
	}
	if n := inFiles(t, dir, texts[:gone]...); n != 0 {
		t.Errorf("%d of %d deleted materials are still there", n, gone)
	}
	if n := inFiles(t, dir, texts[gone:]...); n != len(texts)-gone {
		t.Errorf("%d of %d other materials are there", n, len(texts)-gone)
	}
}

// Material that goes from a key that stays is in no file either.
func TestErasedMaterialLeavesTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for i := range 100 {
		k, wrapped := keyWithMaterial()
		k.Policy = strings.Repeat("p", i*67%9000) // in the row or in pages of its own
		put := func(erase bool) {
			t.Helper()
			err := s.Update(t.Context(), func(tx *store.Tx) error {
				if erase {
					tx.Erase()
				}
				return tx.PutKey(k)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		put(false)
		if n := inFiles(t, dir, wrapped); n != 1 {
			t.Fatal("the material is not found: the search is wrong")
		}
		k.Material[0].Wrapped = nil
		put(true)
		if n := inFiles(t, dir, wrapped); n != 0 {
			t.Fatalf("the erased material of key %d is still there", i)
		}
	}
}

func TestDroppedSealsAndDomainKeysLeaveTheFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	var old [][]byte
	sealed, err := s.DB().Sealed(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range sealed.DomainKeys {
		old = append(old, k.Wrapped)
	}
	domainKeys := len(old)
	err = s.Barrier().RotateDomainKeys(time.Now(), func(keys []seal.DomainKey) error { return s.DB().AddDomainKeys(t.Context(), keys) })
	if err != nil {
		t.Fatal(err)
	}
	if n := inFiles(t, dir, old...); n != domainKeys {
		t.Fatalf("only %d of %d old domain keys are found before", n, domainKeys)
	}
	rewrap := func(_ *key.Key, m *key.Material) ([]byte, error) { return m.Wrapped, nil }
	if _, err := s.Rekey(t.Context(), rewrap); err != nil {
		t.Fatal(err)
	}
	if err := s.DropOldDomainKeys(t.Context(), rewrap); err != nil {
		t.Fatal(err)
	}
	if n := inFiles(t, dir, old...); n != 0 {
		t.Errorf("%d of %d dropped domain keys are still there", n, domainKeys)
	}
	if sealed, err = s.DB().Sealed(t.Context()); err != nil {
		t.Fatal(err)
	}
	seals := [][]byte{sealed.Seals[0].Wrapped}
	_, replaced, err := s.Barrier().RotateRoot(t.Context(), time.Now(), sealed, []seal.Seal{testSeal()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DB().ReplaceSealed(t.Context(), replaced); err != nil {
		t.Fatal(err)
	}
	if n := inFiles(t, dir, seals...); n != 0 {
		t.Error("the replaced seal is still there")
	}
	if n := inFiles(t, dir, replaced.Seals[0].Wrapped); n != 1 {
		t.Error("the new seal is not there")
	}
}

// A reader of an old state keeps the log from being folded: the deletion does not wait for it, and the log is folded when
// the reader has gone.
func TestScrubbingWaitsForReaders(t *testing.T) {
	dir := t.TempDir()
	var log safeLog
	db, err := store.Open(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := unseal(t, db)
	k, wrapped := keyWithMaterial()
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
		t.Fatal(err)
	}
	reader, err := store.Reads(s).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRowContext(t.Context(), `SELECT count(*) FROM keys`).Scan(&n); err != nil || n != 1 {
		t.Fatalf("%d keys, %v", n, err)
	}
	start := time.Now()
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.DeleteKey(k.Name) }); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("the deletion took %v", took)
	}
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("the log says %q", log.String())
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); inFiles(t, dir, wrapped) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the material is still there")
		}
	}
}

// While somebody erases without end, and a reader makes that take long, other updates go on.
func TestErasingLeavesTimeForOthers(t *testing.T) {
	db, err := store.Open(t.Context(), store.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := unseal(t, db)
	mine, _ := keyWithMaterial()
	theirs, _ := keyWithMaterial()
	put := func(k *key.Key, erase bool) {
		err := s.Update(t.Context(), func(tx *store.Tx) error {
			if erase {
				tx.Erase()
			}
			return tx.PutKey(k)
		})
		if err != nil {
			t.Error(err)
		}
	}
	put(mine, false)
	reader, err := store.Reads(s).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Rollback() }()
	var n int
	if err := reader.QueryRowContext(t.Context(), `SELECT count(*) FROM keys`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	const erasures = 10
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range erasures {
			put(mine, true)
		}
	}()
	updates := 0
	for over := false; !over; updates++ {
		put(theirs, false)
		select {
		case <-done:
			over = true
		default:
		}
	}
	t.Logf("%d updates during %d erasures", updates, erasures)
	if updates < 5*erasures { // one or two during each if they wait for it
		t.Errorf("%d updates during %d erasures", updates, erasures)
	}
}

// Whoever erases while the next fold is put off has an answer when the database is closed, and nothing is left then.
func TestClosingAnswersThoseWhoErase(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), store.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := unseal(t, db)
	first, _ := keyWithMaterial()
	second, wrapped := keyWithMaterial()
	for _, k := range []*key.Key{first, second} {
		if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
			t.Fatal(err)
		}
	}
	reader, err := store.Reads(s).BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRowContext(t.Context(), `SELECT count(*) FROM keys`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx *store.Tx) error { return tx.DeleteKey(first.Name) }); err != nil { // takes long, so that the next is put off
		t.Fatal(err)
	}
	committed, answered := make(chan struct{}), make(chan error, 1)
	go func() {
		answered <- s.Update(t.Context(), func(tx *store.Tx) error {
			tx.OnCommit(func() { close(committed) })
			return tx.DeleteKey(second.Name)
		})
	}()
	<-committed
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
	}
	content, err := os.ReadFile(filepath.Join(dir, "keywright.db"))
	if err != nil || bytes.Contains(content, wrapped) {
		t.Errorf("after the end the material is still there, or %v", err)
	}
}

// safeLog is a buffer that the writer fills while the test reads.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
