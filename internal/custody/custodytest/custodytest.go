// Package custodytest is the suite that every custody engine passes. An engine's own test calls Run with a function that
// makes a fresh engine; nothing else is engine-specific.
package custodytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
)

// Run runs the suite. open returns an engine, and another one on the same root of trust at each further call, as after a
// restart.
func Run(t *testing.T, open func(t *testing.T) custody.Engine) {
	suite := map[string]func(*testing.T, func(*testing.T) custody.Engine){
		"RoundTrip": roundTrip, "NoPermitNoMaterial": noPermit, "Binding": binding, "Tampering": tampering,
		"Generations": generations, "Reopen": reopen, "WrappedIsBound": wrappedIsBound, "Rewrap": rewrap, "Random": random,
		"Specs": specs, "Pairs": pairs, "Turns": takeTurns,
	}
	if _, ok := open(t).(custody.Importer); ok { // which an engine need not be
		suite["Imports"], suite["ImportTokens"] = imports, importTokens
	}
	for name, f := range suite {
		t.Run(name, func(t *testing.T) { f(t, open) })
	}
}

const allUses = guard.UseEncrypt | guard.UseDecrypt | guard.UseCreate | guard.UseRandom

// actions has an action for each use.
var actions = map[guard.Use]string{
	guard.UseEncrypt: "kms:Encrypt", guard.UseDecrypt: "kms:Decrypt", guard.UseCreate: "kms:CreateKey", guard.UseRandom: "kms:GenerateRandom",
	guard.UseImport: "kms:GetParametersForImport", guard.UseTakeIn: "kms:ImportKeyMaterial", guard.UseSign: "kms:Sign", guard.UseVerify: "kms:Verify", guard.UseMAC: "kms:GenerateMac", guard.UseVerifyMAC: "kms:VerifyMac",
	guard.UseAgree: "kms:DeriveSharedSecret", guard.UseEncapsulate: "kms:Encapsulate", guard.UseDecapsulate: "kms:Decapsulate",
	allUses: "kms:GenerateDataKey", // the action with the most uses
}

// permit returns a permit the only way there is: the guard makes it.
func permit(t *testing.T, name key.Name, uses guard.Use) (p guard.Permit) {
	t.Helper()
	r := guard.Resource{Action: guard.NewAction(actions[uses]), ARN: "*"}
	if name.ID != "" {
		doc, err := policy.Parse(policy.KeyPolicy, []byte(policy.DefaultKeyPolicy(name.Account, "aws")))
		if err != nil {
			t.Fatal(err)
		}
		r.ARN, r.Key, r.Policy = name.ARN(), &key.Key{Name: name}, doc
	}
	caller := &guard.Caller{Type: policy.AccountRoot, Account: name.Account, ARN: name.Account.Root("aws")}
	_, failure := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: time.Now}).Answer(guard.Meta{}, func(c *guard.Call) (_ wire.Output, err error) {
		c.Identify(caller, "us-east-1")
		p, err = c.Authorize(r)
		return nil, err
	})
	if failure != nil {
		t.Fatal(failure)
	}
	return p
}

// newKey returns a key with one generation of material.
func newKey(t *testing.T, c *custody.Custody) *key.Key {
	t.Helper()
	k := &key.Key{
		Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: arn.NewKeyID(false)},
		Spec: key.SymmetricDefault, Usage: key.EncryptDecrypt, Origin: key.OriginAWSKMS, State: key.Enabled,
	}
	grow(t, c, k)
	return k
}

func grow(t *testing.T, c *custody.Custody, k *key.Key) {
	t.Helper()
	m, err := c.Generate(t.Context(), permit(t, k.Name, guard.UseCreate), k, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	k.Material = append(k.Material, m)
}

func bind(t *testing.T, c *custody.Custody, k *key.Key) *custody.Key {
	t.Helper()
	b, err := c.Bind(k, func(int) {})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encrypt(t *testing.T, c *custody.Custody, k *key.Key, plaintext []byte, context map[string]string) []byte {
	t.Helper()
	blob, err := bind(t, c, k).Encrypt(permit(t, k.Name, guard.UseEncrypt), plaintext, context)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func decrypt(t *testing.T, c *custody.Custody, k *key.Key, blob []byte, context map[string]string) (secret.Bytes, *key.Material, error) {
	t.Helper()
	h, _, err := ciphertext.Parse(blob)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	return bind(t, c, k).Decrypt(permit(t, k.Name, guard.UseDecrypt), &h, blob, context)
}

func roundTrip(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k := newKey(t, c)
	for _, size := range []int{1, 15, 16, 17, 64, 4096} {
		plaintext := bytes.Repeat([]byte{byte(size)}, size)
		for _, context := range []map[string]string{nil, {"a": "1"}, {"a": "1", "b": "", "é": "ü"}} {
			blob := encrypt(t, c, k, plaintext, context)
			if len(blob) != size+ciphertext.Overhead {
				t.Errorf("a blob of %d octets for %d", len(blob), size)
			}
			if bytes.Equal(blob, encrypt(t, c, k, plaintext, context)) {
				t.Error("two encryptions are the same")
			}
			got, m, err := decrypt(t, c, k, blob, context)
			if err != nil || !bytes.Equal(got.Expose(), plaintext) || m.ID != k.Material[0].ID {
				t.Errorf("size %d, context %v: %v", size, context, err)
			}
		}
	}
}

func noPermit(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k := newKey(t, c)
	other := k.Name
	other.ID = arn.NewKeyID(false)
	b := bind(t, c, k)
	blob := encrypt(t, c, k, []byte("x"), nil)
	h, _, _ := ciphertext.Parse(blob)
	for what, p := range map[string]guard.Permit{
		"no permit": {}, "another key's": permit(t, other, allUses), "no key's": permit(t, key.Name{}, allUses),
	} {
		if _, err := b.Encrypt(p, []byte("x"), nil); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("Encrypt with %s: %v", what, err)
		}
		if _, _, err := b.Decrypt(p, &h, blob, nil); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("Decrypt with %s: %v", what, err)
		}
		if _, err := c.Random(p, k.Name, 1); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("Random with %s: %v", what, err)
		}
	}
	for use, p := range map[string]guard.Permit{"encrypt": permit(t, k.Name, guard.UseEncrypt), "decrypt": permit(t, k.Name, guard.UseDecrypt), "take in": permit(t, k.Name, guard.UseTakeIn)} {
		if _, err := b.Encrypt(p, []byte("x"), nil); (err == nil) != (use == "encrypt") {
			t.Errorf("Encrypt with a permit to %s: %v", use, err)
		}
		if _, _, err := b.Decrypt(p, &h, blob, nil); (err == nil) != (use == "decrypt") {
			t.Errorf("Decrypt with a permit to %s: %v", use, err)
		}
		if _, err := c.Generate(t.Context(), p, k, time.Now()); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("Generate with a permit to %s: %v", use, err)
		}
	}
}

func binding(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k, other := newKey(t, c), newKey(t, c)
	context := map[string]string{"a": "1", "b": "2"}
	blob := encrypt(t, c, k, []byte("x"), context)
	for _, wrong := range []map[string]string{nil, {}, {"a": "1"}, {"a": "2", "b": "1"}, {"A": "1", "b": "2"}, {"a": "1", "b": "2", "c": ""}, {"a1": "", "b2": ""}} {
		if _, _, err := decrypt(t, c, k, blob, wrong); !errors.Is(err, custody.ErrInvalidCiphertext) {
			t.Errorf("context %v: %v", wrong, err)
		}
	}
	if _, _, err := decrypt(t, c, other, blob, context); !errors.Is(err, custody.ErrInvalidCiphertext) {
		t.Errorf("another key: %v", err)
	}
	// A header that names the other key's material and id does not open either.
	h, sealed, _ := ciphertext.Parse(blob)
	h.Key = other.ID
	h.Material, _ = ciphertext.ParseMaterialID(other.Material[0].ID)
	if _, _, err := decrypt(t, c, other, append(h.Append(nil), sealed...), context); !errors.Is(err, custody.ErrInvalidCiphertext) {
		t.Errorf("a blob with another header: %v", err)
	}
}

func tampering(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k := newKey(t, c)
	blob := encrypt(t, c, k, []byte("plaintext"), nil)
	for i := range len(blob) * 8 {
		bad := bytes.Clone(blob)
		bad[i/8] ^= 1 << (i % 8)
		if _, _, err := decrypt(t, c, k, bad, nil); !errors.Is(err, custody.ErrInvalidCiphertext) {
			t.Fatalf("bit %d changed: %v", i, err)
		}
	}
	for n := range len(blob) {
		if _, _, err := decrypt(t, c, k, blob[:n], nil); !errors.Is(err, custody.ErrInvalidCiphertext) {
			t.Fatalf("cut to %d octets: %v", n, err)
		}
	}
}

func generations(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k := newKey(t, c)
	ids := map[string]bool{}
	var blobs [][]byte
	for range 5 {
		ids[k.Current().ID] = true
		blobs = append(blobs, encrypt(t, c, k, []byte("x"), nil))
		grow(t, c, k)
	}
	if len(ids) != 5 {
		t.Errorf("%d material ids of 5 generations", len(ids))
	}
	for i, blob := range blobs {
		got, m, err := decrypt(t, c, k, blob, nil)
		if err != nil || string(got.Expose()) != "x" || m.ID != k.Material[i].ID {
			t.Errorf("generation %d: %v", i, err)
		}
	}
	// A key that lost a generation, or that has none, says so.
	older := k.Clone()
	older.Material = older.Material[1:]
	if _, _, err := decrypt(t, c, older, blobs[0], nil); !errors.Is(err, custody.ErrInvalidCiphertext) {
		t.Errorf("a generation that is gone: %v", err)
	}
	older.Material = nil
	if _, err := bind(t, c, older).Encrypt(permit(t, k.Name, guard.UseEncrypt), []byte("x"), nil); !errors.Is(err, custody.ErrNoMaterial) {
		t.Errorf("no material: %v", err)
	}
}

func reopen(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k := newKey(t, c)
	blob := encrypt(t, c, k, []byte("kept"), nil)
	got, _, err := decrypt(t, custody.New(open(t)), k, blob, nil)
	if err != nil || string(got.Expose()) != "kept" {
		t.Errorf("another engine on the same root: %v", err)
	}
}

func wrappedIsBound(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k, other := newKey(t, c), newKey(t, c)
	use := func(k *key.Key) error {
		_, err := bind(t, c, k).Encrypt(permit(t, k.Name, guard.UseEncrypt), []byte("x"), nil)
		return err
	}
	for what, change := range map[string]func(*key.Key){
		"another key's material": func(k *key.Key) { k.Material[0] = other.Material[0] },
		"another key's wrapping": func(k *key.Key) { k.Material[0].Wrapped = other.Material[0].Wrapped },
		"another id":             func(k *key.Key) { k.Material[0].ID = other.Material[0].ID },
		"another account":        func(k *key.Key) { k.Account = "444455556666" },
		"another Region":         func(k *key.Key) { k.Region = "eu-west-1" },
		"another spec":           func(k *key.Key) { k.Spec = "HMAC_256" },
	} {
		bad := k.Clone()
		change(bad)
		if use(bad) == nil {
			t.Errorf("%s: it opened", what)
		}
	}
	for i := range k.Material[0].Wrapped {
		bad := k.Clone()
		bad.Material[0].Wrapped = bytes.Clone(bad.Material[0].Wrapped)
		bad.Material[0].Wrapped[i] ^= 1
		if use(bad) == nil {
			t.Errorf("octet %d of the wrapping changed: it opened", i)
		}
	}
	if err := use(k); err != nil {
		t.Error(err)
	}
}

func rewrap(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	k := newKey(t, c)
	grow(t, c, k)
	blob := encrypt(t, c, k, []byte("x"), nil)
	for i := range k.Material {
		wrapped, err := c.Rewrap(k, &k.Material[i])
		if err != nil {
			t.Fatal(err)
		}
		k.Material[i].Wrapped = wrapped
	}
	if wrapped, err := c.Rewrap(k, &key.Material{ID: k.Material[0].ID}); err != nil || wrapped != nil {
		t.Errorf("material that is missing: %v", err)
	}
	if got, _, err := decrypt(t, c, k, blob, nil); err != nil || string(got.Expose()) != "x" {
		t.Errorf("after rewrapping: %v", err)
	}
}

func random(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	p := permit(t, key.Name{}, guard.UseRandom)
	seen := map[string]bool{}
	for range 100 {
		b, err := c.Random(p, key.Name{}, 32)
		if err != nil || b.Len() != 32 {
			t.Fatal(err)
		}
		seen[string(b.Expose())] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d different values of 100", len(seen))
	}
}

// Bench measures the encryption and decryption of messages of some sizes with an engine.
func Bench(b *testing.B, open func(context.Context) custody.Engine) {
	c := custody.New(open(b.Context()))
	var t testing.T
	k := newKey(&t, c)
	bound := bind(&t, c, k)
	seal, unseal := permit(&t, k.Name, guard.UseEncrypt), permit(&t, k.Name, guard.UseDecrypt)
	for _, size := range []int{64, 4096} {
		plaintext := make([]byte, size)
		blob := encrypt(&t, c, k, plaintext, nil)
		h, _, _ := ciphertext.Parse(blob)
		b.Run(fmt.Sprintf("Encrypt%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := bound.Encrypt(seal, plaintext, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Decrypt%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := bound.Decrypt(unseal, &h, blob, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
