package store_test

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

const (
	account = arn.Account("111122223333")
	region  = arn.Region("us-east-1")
)

// open opens the store in dir ("" is in memory), initialising it if need be.
func open(t testing.TB, dir string) *store.Store {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return unseal(t, db)
}

func testSeal() seal.Seal { return seal.KeyFile("test", secret.Take(make([]byte, 32))) }

func unseal(t testing.TB, db *store.DB) *store.Store {
	t.Helper()
	sealed, err := db.Sealed(t.Context())
	var b *seal.Barrier
	if errors.Is(err, store.ErrNotInitialized) {
		b, sealed, err = seal.Initialize(t.Context(), time.Now(), testSeal())
		if err == nil {
			err = db.Initialize(t.Context(), sealed)
		}
	} else if err == nil {
		b, err = seal.Unseal(t.Context(), sealed, testSeal())
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := db.Unseal(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// aKey is a key whose row takes about 1.2 KB.
func aKey() *key.Key {
	return &key.Key{
		Name:      key.Name{Account: account, Region: region, ID: arn.NewKeyID(false)},
		CreatedAt: time.UnixMilli(1790000000123).UTC(), Description: "a key of the benchmark", Spec: key.SymmetricDefault,
		Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS, Manager: key.ManagerCustomer, State: key.Enabled,
		Policy:   strings.Repeat(`{"Effect":"Allow"}`, 45),
		Material: []key.Material{{ID: strings.Repeat("0a", 32), CreatedAt: time.UnixMilli(1790000000123).UTC(), Wrapped: make([]byte, 81)}},
	}
}

// eachEngine runs a benchmark on SQLite and, if there is one, on PostgreSQL.
func eachEngine(b *testing.B, run func(b *testing.B, make func(*testing.B) *store.Store)) {
	b.Run("SQLite", func(b *testing.B) { run(b, func(b *testing.B) *store.Store { return open(b, b.TempDir()) }) })
	b.Run("PostgreSQL", func(b *testing.B) { run(b, func(b *testing.B) *store.Store { return openPostgres(b, postgres(b)) }) })
}

func BenchmarkPutKey(b *testing.B) { eachEngine(b, benchmarkPutKey) }

func benchmarkPutKey(b *testing.B, make func(*testing.B) *store.Store) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := make(b)
			b.ResetTimer()
			b.SetParallelism((writers + 1) / 2) // of two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					k := aKey()
					if err := s.Update(b.Context(), func(tx *store.Tx) error { return tx.PutKey(k) }); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkFailingUpdates is BenchmarkPutKey with 64 writers of which each tenth update fails after it wrote.
func BenchmarkFailingUpdates(b *testing.B) {
	s := open(b, b.TempDir())
	var n atomic.Int64
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			k, fails := aKey(), n.Add(1)%10 == 0
			err := s.Update(b.Context(), func(tx *store.Tx) error {
				if err := tx.PutKey(k); err != nil || !fails {
					return err
				}
				return store.ErrExists
			})
			if (err != nil) != fails {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkReads reads from a store of 100,000 keys, or as many as KEYWRIGHT_STORE_KEYS says: the first page, the last page, a key, the number of keys.
func BenchmarkReads(b *testing.B) { eachEngine(b, benchmarkReads) }

func benchmarkReads(b *testing.B, make func(*testing.B) *store.Store) {
	s := make(b)
	ctx := b.Context()
	var some *key.Key
	keys := 100_000
	if n, err := strconv.Atoi(os.Getenv("KEYWRIGHT_STORE_KEYS")); err == nil {
		keys = n
	}
	for range keys / 250 {
		err := s.Update(ctx, func(tx *store.Tx) error {
			for range 250 {
				some = aKey()
				if err := tx.PutKey(some); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for name, f := range map[string]func() error{
		"due":        func() error { _, err := s.DueKeys(ctx, time.Now(), 100); return err },
		"first page": func() error { _, _, err := s.ListKeys(ctx, account, region, "", 100); return err },
		"last page":  func() error { _, _, err := s.ListKeys(ctx, account, region, "ff", 100); return err },
		"key":        func() error { _, err := s.GetKey(ctx, some.Name); return err },
		"count":      func() error { _, err := s.CountKeys(ctx, account, region); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("backup", func(b *testing.B) {
		if strings.Contains(b.Name(), "PostgreSQL") {
			b.Skip("it has means of its own")
		}
		for i := 0; b.Loop(); i++ {
			if err := s.DB().Backup(ctx, fmt.Sprintf("%s/%d", b.TempDir(), i)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Verify(ctx, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkOpen opens and unseals a store that is there already, as a start of the server does.
func BenchmarkOpen(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			if err := open(b, dir).DB().Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("PostgreSQL", func(b *testing.B) {
		dsn := postgres(b)
		openPostgres(b, dsn)
		for b.Loop() {
			if err := openPostgres(b, dsn).DB().Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
