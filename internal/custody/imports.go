package custody

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/steps"
)

// The errors of Import. None of them says more of the material than its name.
var (
	// ErrNoImport means that the engine takes in no material.
	ErrNoImport = errors.New("this custody does not import key material")
	// ErrImportToken means a token that was altered, or that is not for this key.
	ErrImportToken = errors.New("no import token of this key")
	// ErrImportTokenExpired means a token of this key whose time is over.
	ErrImportTokenExpired = errors.New("the import token has expired")
	// ErrImportSize means encrypted material whose length does not fit its wrapping algorithm and wrapping key.
	ErrImportSize = errors.New("wrong length for encrypted key material")
	// ErrImportUnwrap means encrypted material that does not decrypt.
	ErrImportUnwrap = errors.New("the encrypted key material does not decrypt")
	// ErrImportMaterial means decrypted material that is no material of the key's spec.
	ErrImportMaterial = errors.New("no material of this key spec")
)

// Wrapping says how material will come: under which WrappingAlgorithm and to which WrappingKeySpec.
type Wrapping struct {
	Algorithm string
	Spec      key.Spec
}

// Importer is what an engine has that takes in material.
type Importer interface {
	// WrappingKey makes a fresh key pair to wrap material of the key with. It returns its public key (a DER
	// SubjectPublicKeyInfo) and a token of at most MaxToken octets, for OpenImport to find the private key by. Nobody but the
	// engine can read or make one; it holds for the key and the wrapping alone, until the time given. It takes as long as
	// Engine.Generate.
	WrappingKey(ctx context.Context, k *key.Key, w Wrapping, until time.Time) (public, token []byte, err error)
	// OpenImport unwraps material for the key, with the wrapping key of a token, and returns it as Generate does, with the
	// public key where there is one. The errors for bad input are this package's.
	OpenImport(k *key.Key, token, encrypted []byte, now time.Time) (id string, wrapped, public []byte, err error)
}

// Taker is what an engine has that takes material as it is, for servers that others test with.
type Taker interface {
	// Take returns known material as Generate returns fresh one, and wipes nothing of octets. What is no material of the key's
	// spec is ErrImportMaterial.
	Take(k *key.Key, octets secret.Bytes) (id string, wrapped, public []byte, err error)
}

// Take gives k known material, in one of the encodings that an import can bring. It needs a permit with guard.UseTakeIn.
func (c *Custody) Take(p guard.Permit, k *key.Key, octets secret.Bytes, now time.Time) (key.Material, error) {
	if !p.Allows(guard.UseTakeIn, k.Name) {
		return key.Material{}, ErrNoPermit
	}
	e, ok := c.engine.(Taker)
	if !ok {
		return key.Material{}, ErrNoImport
	}
	id, wrapped, public, err := e.Take(k, octets)
	if err != nil {
		return key.Material{}, fmt.Errorf("taking key material: %w", err)
	}
	return key.Material{ID: id, CreatedAt: now, State: key.Current, Wrapped: wrapped, Public: public}, nil
}

// MaxToken is the length of the longest import token in octets (ImportToken, API_ImportKeyMaterial).
const MaxToken = 6144

func (c *Custody) importer() (Importer, error) {
	if e, ok := c.engine.(Importer); ok {
		return e, nil
	}
	return nil, ErrNoImport
}

// WrappingKey makes a key pair under which material for k may be sent until a time, and the token that finds it again. It needs a
// permit with guard.UseImport. The error is ErrBusy if the key's account has too much made at a time: nobody else's imports
// into its keys.
func (c *Custody) WrappingKey(ctx context.Context, p guard.Permit, k *key.Key, w Wrapping, until time.Time) (public, token []byte, err error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseImport, k.Name) {
		return nil, nil, ErrNoPermit
	}
	e, err := c.importer()
	if err != nil {
		return nil, nil, err
	}
	if public, token, err = e.WrappingKey(ctx, k, w, until); err != nil {
		return nil, nil, fmt.Errorf("making a wrapping key: %w", err)
	}
	return public, token, nil
}

// Import opens material that was encrypted under the wrapping key of a token for k. What it is to the key, and when it goes, is
// for the caller to set. It needs a permit with guard.UseTakeIn, and takes a turn; how long that waited only the caller can tell, who locks the
// key and looks at it again before it takes the material.
func (c *Custody) Import(ctx context.Context, p guard.Permit, k *key.Key, token, encrypted []byte, now time.Time) (key.Material, error) {
	defer p.Step(steps.Custody).End()
	if !p.Allows(guard.UseTakeIn, k.Name) {
		return key.Material{}, ErrNoPermit
	}
	e, err := c.importer()
	if err != nil {
		return key.Material{}, err
	}
	end, _, err := c.Turn(ctx, p.Payer())
	if err != nil {
		return key.Material{}, err
	}
	defer end()
	id, wrapped, public, err := e.OpenImport(k, token, encrypted, now)
	if err != nil {
		return key.Material{}, fmt.Errorf("importing key material: %w", err)
	}
	return key.Material{ID: id, CreatedAt: now, State: key.Current, Wrapped: wrapped, Public: public}, nil
}
