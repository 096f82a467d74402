package custodytest

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// deed is something that a key does and undoes, or shows to be done right.
type deed struct {
	name  string
	uses  []guard.Use // of each step
	steps func(ctx context.Context, k *custody.Key, permits []guard.Permit) error
}

var errWrong = errors.New("a wrong answer")

// deeds returns what a key of a spec and usage can do with each of its algorithms.
func deeds(row *keyspec.Row, u key.Usage) (list []deed) {
	message := []byte("message")
	for _, a := range row.Algorithms(u) {
		d := deed{name: string(row.Spec) + " " + a}
		switch u {
		case key.SignVerify:
			kind := keyspec.Raw
			if a == keyspec.AlgorithmEd25519ph {
				kind, message = keyspec.Digest, bytes.Repeat([]byte{1}, keyspec.DigestSize(a))
			}
			d.uses, d.steps = []guard.Use{guard.UseSign, guard.UseVerify}, func(ctx context.Context, k *custody.Key, p []guard.Permit) error {
				signature, err := k.Sign(ctx, p[0], a, kind, message)
				if err != nil {
					return err
				}
				ok, err := k.Verify(ctx, p[1], a, kind, message, signature)
				if err == nil && !ok {
					err = errWrong
				}
				if wrong, _ := k.Verify(ctx, p[1], a, kind, append(bytes.Clone(message[:len(message)-1]), 'x'), signature); wrong {
					err = errWrong
				}
				return err
			}
		case key.MACUsage:
			d.uses, d.steps = []guard.Use{guard.UseMAC, guard.UseVerifyMAC}, func(_ context.Context, k *custody.Key, p []guard.Permit) error {
				mac, err := k.MAC(p[0], a, message)
				if err != nil {
					return err
				}
				ok, err := k.VerifyMAC(p[1], a, message, mac)
				if err == nil && !ok {
					err = errWrong
				}
				for _, bad := range [][]byte{nil, mac[:len(mac)-1], append(bytes.Clone(mac), 0)} {
					if wrong, _ := k.VerifyMAC(p[1], a, message, bad); wrong {
						err = errWrong
					}
				}
				return err
			}
		case key.EncryptDecrypt:
			if row.Spec == key.SymmetricDefault {
				continue // has cases of its own
			}
			d.uses, d.steps = []guard.Use{guard.UseEncrypt, guard.UseDecrypt}, func(ctx context.Context, k *custody.Key, p []guard.Permit) error {
				blob, err := k.EncryptAsymmetric(ctx, p[0], a, message)
				if err != nil {
					return err
				}
				plaintext, err := k.DecryptAsymmetric(ctx, p[1], a, blob)
				if err == nil && !bytes.Equal(plaintext.Expose(), message) {
					err = errWrong
				}
				for _, bad := range [][]byte{nil, blob[:len(blob)-1], append(bytes.Clone(blob), 0), make([]byte, len(blob))} {
					if _, wrong := k.DecryptAsymmetric(ctx, p[1], a, bad); err == nil && !errors.Is(wrong, custody.ErrInvalidCiphertext) {
						err = wrong
					}
				}
				return err
			}
		case key.Encapsulation:
			d.uses, d.steps = []guard.Use{guard.UseEncapsulate, guard.UseDecapsulate}, encapsulate
		case key.KeyAgreement:
			d.uses, d.steps = []guard.Use{guard.UseAgree}, func(ctx context.Context, k *custody.Key, p []guard.Permit) error {
				return agree(ctx, row.Spec, k, p[0])
			}
		}
		list = append(list, d)
	}
	return list
}

func encapsulate(_ context.Context, k *custody.Key, p []guard.Permit) error {
	shared, blob, err := k.Encapsulate(p[0])
	if err != nil {
		return err
	}
	same, err := k.Decapsulate(p[1], blob)
	if err != nil || !same.Equal(shared) || shared.Len() != 32 {
		return errors.Join(err, errWrong)
	}
	blob[0] ^= 1
	if other, err := k.Decapsulate(p[1], blob); err != nil || other.Equal(shared) { // implicit rejection
		return errors.Join(err, errWrong)
	}
	if _, err := k.Decapsulate(p[1], blob[1:]); !errors.Is(err, custody.ErrInvalidCiphertext) {
		return errors.Join(err, errWrong)
	}
	return nil
}

func agree(ctx context.Context, spec key.Spec, k *custody.Key, p guard.Permit) error {
	peer, err := keyspec.Generate(spec)
	if err != nil {
		return err
	}
	shared, err := k.Agree(ctx, p, peer.Public().SPKI())
	if err != nil {
		return err
	}
	again, err := k.Agree(ctx, p, peer.Public().SPKI())
	if err != nil || !again.Equal(shared) {
		return errors.Join(err, errWrong)
	}
	if _, err := k.Agree(ctx, p, peer.Public().SPKI()[1:]); !errors.Is(err, keyspec.ErrPeer) {
		return errors.Join(err, errWrong)
	}
	return nil
}

// made returns a key of a spec and usage with material.
func made(t *testing.T, c *custody.Custody, s key.Spec, u key.Usage) *key.Key {
	t.Helper()
	k := &key.Key{
		Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: arn.NewKeyID(false)},
		Spec: s, Usage: u, Origin: key.OriginAWSKMS, State: key.Enabled,
	}
	grow(t, c, k)
	return k
}

// slow reports whether keys of a spec take seconds to make, and are like others but for their size.
func slow(s key.Spec) bool { return s == keyspec.RSA3072 || s == keyspec.RSA4096 }

// specs lets keys of every spec do all that they can, and nothing without the right permit or the right material.
func specs(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	for _, row := range keyspec.All() {
		if slow(row.Spec) || !keyspec.Allowed(row.Spec) || row.Spec == key.SymmetricDefault {
			continue
		}
		k, other := made(t, c, row.Spec, row.Usages[0]), newKey(t, c)
		var spki []byte
		if m := k.Material[0]; len(m.Public) > 0 {
			if _, err := keyspec.ParsePublic(row.Spec, m.Public); err != nil {
				t.Errorf("%s: the public key: %v", row.Spec, err)
			}
			spki = m.Public
		}
		if (row.MAC == nil) != (spki != nil) {
			t.Errorf("%s: a public key of %d octets", row.Spec, len(spki))
		}
		for _, u := range row.Usages {
			k.Usage = u
			for _, d := range deeds(row, u) {
				do(t, c, open, k, other, d)
			}
		}
	}
}

func do(t *testing.T, c *custody.Custody, open func(*testing.T) custody.Engine, k, other *key.Key, d deed) {
	t.Helper()
	var right []guard.Permit
	for _, use := range d.uses {
		right = append(right, permit(t, k.Name, use))
	}
	if err := d.steps(t.Context(), bind(t, c, k), right); err != nil {
		t.Errorf("%s: %v", d.name, err)
	}
	if err := d.steps(t.Context(), bind(t, custody.New(open(t)), k), right); err != nil {
		t.Errorf("%s with another engine on the same root: %v", d.name, err)
	}
	for i := range d.uses {
		near := guard.UseVerify
		if d.uses[i] == near {
			near = guard.UseVerifyMAC
		}
		for what, p := range map[string]guard.Permit{
			"no permit": {}, "another key's": permit(t, other.Name, d.uses[i]), "another use's": permit(t, k.Name, guard.UseCreate),
			"a near use's": permit(t, k.Name, near),
		} {
			permits := append([]guard.Permit(nil), right...)
			permits[i] = p
			if err := d.steps(t.Context(), bind(t, c, k), permits); !errors.Is(err, custody.ErrNoPermit) {
				t.Errorf("%s, step %d with %s: %v", d.name, i, what, err)
			}
		}
	}
	missing := k.Clone()
	missing.Material[0].Wrapped = nil
	if err := d.steps(t.Context(), bind(t, c, missing), right); !errors.Is(err, custody.ErrNoMaterial) {
		t.Errorf("%s without material: %v", d.name, err)
	}
	wrapped, err := c.Rewrap(k, &k.Material[0])
	if err != nil {
		t.Fatal(err)
	}
	again := k.Clone()
	again.Material[0].Wrapped = wrapped
	if err := d.steps(t.Context(), bind(t, c, again), right); err != nil {
		t.Errorf("%s after rewrapping: %v", d.name, err)
	}
	for what, change := range map[string]func(*key.Key){
		"another spec":           func(k *key.Key) { k.Spec = keyspec.P384 },
		"another key's material": func(k *key.Key) { k.Material[0].Wrapped = other.Material[0].Wrapped },
		"a changed wrapping": func(k *key.Key) {
			k.Material[0].Wrapped = bytes.Clone(k.Material[0].Wrapped)
			k.Material[0].Wrapped[len(k.Material[0].Wrapped)/2] ^= 1
		},
	} {
		bad := k.Clone()
		if change(bad); bad.Spec == k.Spec && what == "another spec" {
			continue
		}
		if d.steps(t.Context(), bind(t, c, bad), right) == nil {
			t.Errorf("%s with %s: it opened", d.name, what)
		}
	}
}

// pairs makes key pairs for clients.
func pairs(t *testing.T, open func(*testing.T) custody.Engine) {
	c := custody.New(open(t))
	name := newKey(t, c).Name
	p := permit(t, name, allUses)
	for _, row := range keyspec.All() {
		if !row.Pair || slow(row.Spec) || !keyspec.Allowed(row.Spec) {
			continue
		}
		private, public, err := c.Pair(t.Context(), p, name, row.Spec)
		if err != nil {
			t.Errorf("%s: %v", row.Spec, err)
			continue
		}
		parsed, err := keyspec.Parse(row.Spec, private.Expose())
		if err != nil || !bytes.Equal(parsed.Public().SPKI(), public) {
			t.Errorf("%s: the private key is not that of the public one: %v", row.Spec, err)
		}
		if other, _, err := c.Pair(t.Context(), p, name, row.Spec); err != nil || other.Equal(private) {
			t.Errorf("%s: the same pair twice: %v", row.Spec, err)
		}
	}
	for what, p := range map[string]guard.Permit{"no permit": {}, "one to encrypt": permit(t, name, guard.UseEncrypt), "no key's": permit(t, key.Name{}, guard.UseRandom)} {
		if _, _, err := c.Pair(t.Context(), p, name, keyspec.P256); !errors.Is(err, custody.ErrNoPermit) {
			t.Errorf("Pair with %s: %v", what, err)
		}
	}
	if _, _, err := c.Pair(t.Context(), p, name, keyspec.HMACSHA256); err == nil {
		t.Error("made a pair of a spec without public keys")
	}
}
