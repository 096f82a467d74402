package custody

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/steps"
)

// Material is opened key material, safe for concurrent use. What can be done with it is found by asserting Sealer or, of
// keyspec, Signer, Decrypter, Authenticator, Agreer or Decapsulator: ability does so, and nothing else.
type Material any

// Sealer is opened material for symmetric encryption.
type Sealer interface {
	// Seal appends the encryption of plaintext to dst: a message key of its own derived with the nonce, GCM nonce first,
	// tag last (ciphertext.SealOverhead). aad is authenticated with it.
	Seal(dst []byte, nonce *[ciphertext.NonceSize]byte, plaintext, aad []byte) ([]byte, error)
	// Open is the inverse of Seal. Every failure is ErrInvalidCiphertext.
	Open(nonce *[ciphertext.NonceSize]byte, sealed, aad []byte) (secret.Bytes, error)
}

// ErrAbility means that material of the key's spec does not do what it is to do: the caller did not look at the spec.
var ErrAbility = errors.New("key material of this spec does not do that")

// ability opens a generation of material and returns it as what it is to be used for.
func ability[A any](k *Key, generation int) (A, error) {
	var none A
	if generation < 0 {
		return none, ErrNoMaterial
	}
	m, err := k.open(generation)
	if err != nil {
		return none, err
	}
	a, ok := m.(A)
	if !ok {
		return none, ErrAbility
	}
	return a, nil
}

// publicAbility is ability for the current public key, for which no private material is opened.
func publicAbility[A any](k *Key) (A, error) {
	var none A
	p, err := k.publicKey()
	if err != nil {
		return none, err
	}
	a, ok := p.(A)
	if !ok {
		return none, ErrAbility
	}
	return a, nil
}

// parsedKey keeps a public key once it was parsed.
type parsedKey = atomic.Pointer[keyspec.Public]

// publicKey returns the public key of the current material. Like open, it may be run twice.
func (k *Key) publicKey() (keyspec.Public, error) {
	if p := k.public.Load(); p != nil {
		return *p, nil
	}
	if k.current < 0 {
		return nil, ErrNoMaterial
	}
	if !keyspec.Allowed(k.key.Spec) {
		return nil, fmt.Errorf("key spec %q is not available here", k.key.Spec)
	}
	p, err := keyspec.ParsePublic(k.key.Spec, k.key.Material[k.current].Public)
	if err != nil {
		return nil, fmt.Errorf("reading the public key of %s: %w", k.key.ARN(), err)
	}
	if k.public.CompareAndSwap(nil, &p) {
		k.grow(keyspec.PublicMemory(k.key.Spec))
	}
	return p, nil
}

// permits reports, as an error, that a permit does not cover a use of the key.
func (k *Key) permits(p guard.Permit, use guard.Use) error {
	if !p.Allows(use, k.key.Name) {
		return ErrNoPermit
	}
	return nil
}

// slowSpecs are those of whose keys a use takes the better part of a millisecond, or more.
var slowSpecs = map[key.Spec]bool{
	keyspec.RSA2048: true, keyspec.RSA3072: true, keyspec.RSA4096: true, keyspec.P384: true, keyspec.P521: true, keyspec.SM2: true,
	keyspec.MLDSA44: true, keyspec.MLDSA65: true, keyspec.MLDSA87: true,
}

// Turn waits until something may be done for an account that takes a processor for the better part of a millisecond, or longer,
// and returns what ends it. As many of those run at a time as there are processors: with more, what takes microseconds would
// queue behind all of them and not behind one. The error is that ctx has ended. Who has a turn must not ask for another.
func (c *Custody) Turn(ctx context.Context, a arn.Account) (end func(), err error) {
	if err := c.turns.Take(ctx, a); err != nil {
		return nil, err
	}
	return c.turns.End, nil
}

// turn is Turn for a use of the key, from the opening of its material on. It does not wait if the key's spec is not slow.
func (k *Key) turn(ctx context.Context) (end func(), err error) {
	if !slowSpecs[k.key.Spec] {
		return func() {}, nil
	}
	return k.custody.Turn(ctx, k.key.Account)
}

// Sign signs a message with the current private key. The errors besides this package's are those of keyspec.Signer.
func (k *Key) Sign(ctx context.Context, p guard.Permit, algorithm string, kind keyspec.MessageType, message []byte) ([]byte, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseSign); err != nil {
		return nil, err
	}
	end, err := k.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	s, err := ability[keyspec.Signer](k, k.current)
	if err != nil {
		return nil, err
	}
	return s.Sign(algorithm, kind, message)
}

// Verify reports whether a signature of a message is the key's.
func (k *Key) Verify(ctx context.Context, p guard.Permit, algorithm string, kind keyspec.MessageType, message, signature []byte) (bool, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseVerify); err != nil {
		return false, err
	}
	end, err := k.turn(ctx)
	if err != nil {
		return false, err
	}
	defer end()
	v, err := publicAbility[keyspec.Verifier](k)
	if err != nil {
		return false, err
	}
	return v.Verify(algorithm, kind, message, signature), nil
}

// MAC returns the message authentication code of a message. The errors besides this package's are those of
// keyspec.Authenticator.
func (k *Key) MAC(p guard.Permit, algorithm string, message []byte) ([]byte, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseMAC); err != nil {
		return nil, err
	}
	a, err := ability[keyspec.Authenticator](k, k.current)
	if err != nil {
		return nil, err
	}
	return a.MAC(algorithm, message)
}

// VerifyMAC reports whether mac is the whole code of a message. How much of it is right shows neither in the answer nor in
// the time it takes.
func (k *Key) VerifyMAC(p guard.Permit, algorithm string, message, mac []byte) (bool, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseVerifyMAC); err != nil {
		return false, err
	}
	a, err := ability[keyspec.Authenticator](k, k.current)
	if err != nil {
		return false, err
	}
	want, err := a.MAC(algorithm, message)
	if err != nil {
		return false, err
	}
	made := secret.Take(want) // a code that nobody has made yet is worth as much as the key
	defer made.Wipe()
	return made.Equal(secret.Copy(mac)), nil
}

// Agree returns the secret that the key shares with the holder of a public key. The error for a public key that is none of
// the same curve is keyspec.ErrPeer.
func (k *Key) Agree(ctx context.Context, p guard.Permit, peerSPKI []byte) (secret.Bytes, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseAgree); err != nil {
		return secret.Bytes{}, err
	}
	end, err := k.turn(ctx)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer end()
	a, err := ability[keyspec.Agreer](k, k.current)
	if err != nil {
		return secret.Bytes{}, err
	}
	return a.Agree(peerSPKI)
}

// Encapsulate makes a secret, and the ciphertext that Decapsulate gets it from.
func (k *Key) Encapsulate(p guard.Permit) (shared secret.Bytes, blob []byte, err error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseEncapsulate); err != nil {
		return secret.Bytes{}, nil, err
	}
	e, err := publicAbility[keyspec.Encapsulator](k)
	if err != nil {
		return secret.Bytes{}, nil, err
	}
	return e.Encapsulate()
}

// Decapsulate returns the secret of a ciphertext. One that Encapsulate did not make for this key gives another secret, and
// only one of a wrong length is ErrInvalidCiphertext (implicit rejection, FIPS 203).
func (k *Key) Decapsulate(p guard.Permit, blob []byte) (secret.Bytes, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseDecapsulate); err != nil {
		return secret.Bytes{}, err
	}
	d, err := ability[keyspec.Decapsulator](k, k.current)
	if err != nil {
		return secret.Bytes{}, err
	}
	shared, err := d.Decapsulate(blob)
	if errors.Is(err, keyspec.ErrCiphertextSize) {
		return secret.Bytes{}, ErrInvalidCiphertext
	}
	return shared, err
}

// EncryptAsymmetric encrypts under the public key. The errors besides this package's are those of keyspec.Encrypter.
func (k *Key) EncryptAsymmetric(ctx context.Context, p guard.Permit, algorithm string, plaintext []byte) ([]byte, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseEncrypt); err != nil {
		return nil, err
	}
	end, err := k.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := publicAbility[keyspec.Encrypter](k)
	if err != nil {
		return nil, err
	}
	return e.Encrypt(algorithm, plaintext)
}

// DecryptAsymmetric decrypts what was encrypted under the public key, here or elsewhere. Whatever is wrong with a
// ciphertext, the error is ErrInvalidCiphertext.
func (k *Key) DecryptAsymmetric(ctx context.Context, p guard.Permit, algorithm string, blob []byte) (secret.Bytes, error) {
	defer p.Step(steps.Custody).End()
	if err := k.permits(p, guard.UseDecrypt); err != nil {
		return secret.Bytes{}, err
	}
	end, err := k.turn(ctx)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer end()
	d, err := ability[keyspec.Decrypter](k, k.current)
	if err != nil {
		return secret.Bytes{}, err
	}
	plaintext, err := d.Decrypt(algorithm, blob)
	if errors.Is(err, keyspec.ErrDecrypt) {
		return secret.Bytes{}, ErrInvalidCiphertext
	}
	return plaintext, err
}

// Pair makes a key pair that stays with nobody here: the private key in its canonical form (PKCS#8 DER, RFC 5958) and the
// public key (DER SubjectPublicKeyInfo). It needs a permit with guard.UseRandom for the named key, whose data key it will be. The
// error is ErrBusy if the key's account has too much made at a time.
func (c *Custody) Pair(ctx context.Context, p guard.Permit, name key.Name, spec key.Spec) (private secret.Bytes, public []byte, err error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseRandom, name) {
		return secret.Bytes{}, nil, ErrNoPermit
	}
	pair, err := c.engine.Pair(ctx, name.Account, spec)
	if err != nil {
		return secret.Bytes{}, nil, fmt.Errorf("generating a key pair: %w", err)
	}
	defer keyspec.Wipe(pair)
	if pair.Public() == nil {
		return secret.Bytes{}, nil, ErrAbility
	}
	return pair.Octets(), pair.Public().SPKI(), nil
}
