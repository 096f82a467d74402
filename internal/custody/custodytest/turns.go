package custodytest

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// counting counts what an engine is asked to open.
type counting struct {
	custody.Engine
	opened atomic.Int32
}

func (c *counting) Open(k *key.Key, m *key.Material) (custody.Material, error) {
	c.opened.Add(1)
	return c.Engine.Open(k, m)
}

func (c *counting) WrappingKey(ctx context.Context, k *key.Key, w custody.Wrapping, until time.Time) (public, token []byte, err error) {
	return c.Engine.(custody.Importer).WrappingKey(ctx, k, w, until)
}

func (c *counting) OpenImport(k *key.Key, token, encrypted []byte, now time.Time) (id string, wrapped, public []byte, err error) {
	c.opened.Add(1)
	return c.Engine.(custody.Importer).OpenImport(k, token, encrypted, now)
}

// takeTurns requires that slow keys wait for a turn before their material is opened, for as long as their caller does, and that
// others do not wait.
func takeTurns(t *testing.T, open func(*testing.T) custody.Engine) {
	e := &counting{Engine: open(t)}
	c := custody.New(e)
	signs, decrypts, agrees := made(t, c, keyspec.P384, key.SignVerify), made(t, c, keyspec.RSA2048, key.EncryptDecrypt), made(t, c, keyspec.P521, key.KeyAgreement)
	fast := made(t, c, keyspec.P256, key.SignVerify)
	peer, err := keyspec.Generate(keyspec.P521)
	if err != nil {
		t.Fatal(err)
	}
	for range runtime.GOMAXPROCS(0) {
		end, err := c.Turn(t.Context(), signs.Account)
		if err != nil {
			t.Fatal(err)
		}
		defer end()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	slow := map[string]func() error{
		"Sign": func() error {
			_, err := bind(t, c, signs).Sign(ctx, permit(t, signs.Name, guard.UseSign), "ECDSA_SHA_384", keyspec.Raw, []byte("x"))
			return err
		},
		"Verify": func() error {
			_, err := bind(t, c, signs).Verify(ctx, permit(t, signs.Name, guard.UseVerify), "ECDSA_SHA_384", keyspec.Raw, []byte("x"), []byte("x"))
			return err
		},
		"Encrypt": func() error {
			_, err := bind(t, c, decrypts).EncryptAsymmetric(ctx, permit(t, decrypts.Name, guard.UseEncrypt), "RSAES_OAEP_SHA_256", []byte("x"))
			return err
		},
		"Decrypt": func() error {
			_, err := bind(t, c, decrypts).DecryptAsymmetric(ctx, permit(t, decrypts.Name, guard.UseDecrypt), "RSAES_OAEP_SHA_256", []byte("x"))
			return err
		},
		"Agree": func() error {
			_, err := bind(t, c, agrees).Agree(ctx, permit(t, agrees.Name, guard.UseAgree), peer.Public().SPKI())
			return err
		},
	}
	if _, ok := e.Engine.(custody.Importer); ok {
		slow["Import"] = func() error {
			k := waiting(keyspec.P256)
			_, err := c.Import(ctx, permit(t, k.Name, guard.UseTakeIn), k, nil, nil, time.Now())
			return err
		}
	}
	for name, use := range slow {
		if err := use(); !errors.Is(err, context.Canceled) || e.opened.Load() != 0 {
			t.Errorf("%s while others have all turns: %v, %d opened", name, err, e.opened.Load())
		}
	}
	if _, err := bind(t, c, fast).Sign(ctx, permit(t, fast.Name, guard.UseSign), "ECDSA_SHA_256", keyspec.Raw, []byte("x")); err != nil {
		t.Errorf("a fast key: %v", err)
	}
}
