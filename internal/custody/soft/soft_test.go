package soft_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/custodytest"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

// root returns a function that opens barriers on one root of trust.
func root(ctx context.Context, fail func(...any)) func() *seal.Barrier {
	keyFile := seal.KeyFile("test", secret.Copy(bytes.Repeat([]byte{7}, 32)))
	_, sealed, err := seal.Initialize(ctx, time.Now(), keyFile)
	if err != nil {
		fail(err)
	}
	return func() *seal.Barrier {
		b, err := seal.Unseal(ctx, sealed, keyFile)
		if err != nil {
			fail(err)
		}
		return b
	}
}

func TestEngine(t *testing.T) {
	open := root(t.Context(), t.Fatal)
	custodytest.Run(t, func(*testing.T) custody.Engine { return soft.New(open()) })
}

func TestUnknownSpecs(t *testing.T) {
	e := soft.New(root(t.Context(), t.Fatal)())
	if _, _, _, err := e.Generate(t.Context(), &key.Key{Spec: "RSA_1024"}); err == nil {
		t.Error("made material for a spec that there is not")
	}
}

func TestPool(t *testing.T) {
	pool := keyspec.NewPool(map[key.Spec]int{keyspec.RSA2048: 1})
	defer pool.Close()
	e := soft.NewWithPool(root(t.Context(), t.Fatal)(), pool)
	seen := map[string]bool{}
	for range 3 {
		pair, err := e.Pair(t.Context(), "111122223333", keyspec.RSA2048)
		if err != nil {
			t.Fatal(err)
		}
		seen[string(pair.Public().SPKI())] = true
	}
	if len(seen) != 3 {
		t.Errorf("%d different keys of 3", len(seen))
	}
}

func TestRewrapAfterDomainKeyRotation(t *testing.T) {
	b := root(t.Context(), t.Fatal)()
	e := soft.New(b)
	k := &key.Key{Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}, Spec: key.SymmetricDefault}
	id, wrapped, _, err := e.Generate(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	m := &key.Material{ID: id, Wrapped: wrapped}
	if same, err := e.Rewrap(k, m); err != nil || !bytes.Equal(same, wrapped) {
		t.Errorf("wrapped again under the same domain key: %v", err)
	}
	if err := b.RotateDomainKeys(time.Now(), func([]seal.DomainKey) error { return nil }); err != nil {
		t.Fatal(err)
	}
	fresh, err := e.Rewrap(k, m)
	if err != nil || bytes.Equal(fresh, wrapped) || b.Stale(seal.Material, fresh) {
		t.Errorf("not wrapped under the new domain key: %v", err)
	}
	for _, w := range [][]byte{wrapped, fresh} {
		if _, err := e.Open(k, &key.Material{ID: id, Wrapped: w}); err != nil {
			t.Error(err)
		}
	}
	wrapped[len(wrapped)-1] ^= 1
	if _, err := e.Rewrap(k, m); err == nil {
		t.Error("a damaged wrapping was wrapped again")
	}
}

func BenchmarkEngine(b *testing.B) {
	custodytest.Bench(b, func(ctx context.Context) custody.Engine { return soft.New(root(ctx, b.Fatal)()) })
}
