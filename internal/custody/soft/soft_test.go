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

func TestOnlySymmetricKeys(t *testing.T) {
	e := soft.New(root(t.Context(), t.Fatal)())
	if _, _, err := e.Generate(&key.Key{Spec: "RSA_2048"}); err == nil {
		t.Error("made material for a spec that it does not have")
	}
}

func BenchmarkEngine(b *testing.B) {
	custodytest.Bench(b, func(ctx context.Context) custody.Engine { return soft.New(root(ctx, b.Fatal)()) })
}
