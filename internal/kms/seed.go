package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/ciphertext"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// What this file does is for servers that others test their programs with. Nothing that a request reaches calls it.

// Seed is a key as it is to be.
type Seed struct {
	key.Name
	// Create says what a client would say who makes the key, and is checked as if one did.
	Create  kmsapi.CreateKeyRequest
	Aliases []arn.AliasName
	// Material is the key's material, oldest first, in the encodings that ImportKeyMaterial takes. Only SYMMETRIC_DEFAULT keys
	// can have more than one. None means fresh material, or with the origin EXTERNAL a key that waits for its import.
	Material []secret.Bytes
	Disabled bool
	// RotationPeriod is that of automatic rotation in days; zero for none.
	RotationPeriod int
}

// checkSeed finds what no key could be.
func (s *Service) checkSeed(seed *Seed) error {
	in := &seed.Create
	if violation := wire.Validate(in); violation != nil {
		return violation
	}
	if err := firstError(checkKeyKind(in), checkTags(in.Tags)); err != nil {
		return err
	}
	spec, _, origin := createKeyDefaults(in)
	rotation := &kmsapi.EnableKeyRotationRequest{KeyID: wire.Some(string(seed.ID)), RotationPeriodInDays: wire.Some(int32(seed.RotationPeriod))}
	id, ok := arn.ParseKeyID(string(seed.ID))
	switch {
	case !ok || strings.ToLower(string(id)) != string(id):
		return errors.New("the id is no key id: a UUID in small letters, or mrk- and 32 hexadecimal digits for a multi-Region key")
	case id.MultiRegion() != in.MultiRegion.V:
		return errors.New("the ids of multi-Region keys begin with mrk-, and no others do")
	case len(seed.Material) > 1 && spec != key.SymmetricDefault:
		return fmt.Errorf("keys of spec %s have one generation of material", spec)
	case int64(len(seed.Aliases)) > s.most(seed.Name, quota.AliasesPerKey):
		return fmt.Errorf("a key can have %d aliases", s.most(seed.Name, quota.AliasesPerKey))
	case seed.RotationPeriod != 0 && (spec != key.SymmetricDefault || origin != key.OriginAWSKMS):
		return errors.New("only SYMMETRIC_DEFAULT keys of the origin AWS_KMS rotate")
	}
	if seed.RotationPeriod != 0 {
		if violation := wire.Validate(rotation); violation != nil {
			return violation
		}
	}
	for _, name := range seed.Aliases {
		if violation := wire.Validate(&kmsapi.CreateAliasRequest{AliasName: wire.Some(string(name)), TargetKeyID: wire.Some(string(seed.ID))}); violation != nil {
			return fmt.Errorf("alias %s: %w", name, violation)
		}
		if err := checkAliasName(name); err != nil {
			return fmt.Errorf("alias %s: %w", name, err)
		}
	}
	return nil
}

// Seed makes a key with known material, or gives the one that has the id everything that the seed says: a key that has the
// material already is not touched in it, one that has other material is an error. The lockout safety check is left out, because nobody calls.
func (s *Service) Seed(ctx context.Context, seed *Seed) error {
	if err := s.checkSeed(seed); err != nil {
		return err
	}
	text := seed.Create.Policy.Or(policy.DefaultKeyPolicy(seed.Account, seed.Region.Partition()))
	_, bindings, err := s.readPolicyOf(ctx, seed.Name, text)
	if err != nil {
		return err
	}
	aliases := make([]aliasName, len(seed.Aliases))
	for i, name := range seed.Aliases {
		aliases[i] = aliasName{seed.Account, seed.Region, name}
	}
	defer s.aliases.lockAll(aliases)()
	defer s.keys.lock(seed.Name)()
	next, err := s.seedling(ctx, seed)
	if err != nil {
		return err
	}
	next.Policy, next.Principals = text, bindings
	return s.guard.Act(guard.SeedKey, seed.Name, func(p guard.Permit) (*audit.Fields, error) {
		details := new(audit.Fields)
		details.String("keyId", string(seed.ID))
		details.Objects("aliases", len(seed.Aliases), func(i int, f *audit.Fields) { f.String("aliasName", string(seed.Aliases[i])) })
		details.Bool("changed", len(next.Material) > 0) // there was one with this id
		return details, s.seedMaterial(ctx, p, next, seed.Material)
	}, func(record func() error) error { return s.commitSeed(ctx, next, aliases, record) })
}

// seedling returns the key as the seed describes it, but for its material and policy. The caller holds the key's lock.
func (s *Service) seedling(ctx context.Context, seed *Seed) (*key.Key, error) {
	in, now := &seed.Create, s.moment()
	spec, usage, origin := createKeyDefaults(in)
	k := &key.Key{Name: seed.Name, CreatedAt: now, Spec: spec, Usage: usage, Origin: origin, Manager: key.ManagerCustomer, MultiRegion: in.MultiRegion.V}
	if k.MultiRegion {
		k.Primary = k.Region
	}
	snap, err := s.loadLocked(ctx, seed.Name)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return nil, err
	case snap.Spec != spec || snap.Usage != usage || snap.Origin != origin:
		return nil, fmt.Errorf("the key is there already with the spec %s, the usage %s and the origin %s", snap.Spec, snap.Usage, snap.Origin)
	case snap.IsReplica() || len(snap.Replicas) > 0:
		return nil, errors.New("the key is there already, with keys in other Regions")
	default:
		k = snap.Key.Clone()
	}
	k.State, k.Description, k.Tags = key.Enabled, in.Description.V, nil
	k.DeletionAt, k.ReadyAt, k.Next, k.PendingWindowInDays = time.Time{}, time.Time{}, "", 0
	if seed.Disabled {
		k.State = key.Disabled
	}
	k.SetTags(toTags(in.Tags))
	if was := k.Rotation; !was.Enabled || was.PeriodInDays != seed.RotationPeriod {
		k.Rotation = key.Rotation{OnDemand: was.OnDemand}
		if days := seed.RotationPeriod; days != 0 {
			k.Rotation = key.Rotation{OnDemand: was.OnDemand, Enabled: true, PeriodInDays: days, Next: now.AddDate(0, 0, days)}
		}
	}
	return k, nil
}

// errOtherMaterial says that a key cannot be what its seed says.
var errOtherMaterial = errors.New("the key is there already with other material")

// seedMaterial gives a key its known generations of material. Those that it has got since stay.
func (s *Service) seedMaterial(ctx context.Context, p guard.Permit, k *key.Key, known []secret.Bytes) error {
	fresh := len(k.Material) == 0
	for i, octets := range known {
		m, err := s.custody.Take(p, k, octets, s.moment())
		switch {
		case errors.Is(err, custody.ErrImportMaterial):
			return fmt.Errorf("material number %d is none of spec %s", i+1, k.Spec)
		case err != nil:
			return err
		case k.Origin == key.OriginExternal:
			m.Expiration = key.DoesNotExpire
		}
		switch {
		case !fresh && (i >= len(k.Material) || k.Material[i].ID != m.ID):
			return errOtherMaterial
		case !fresh:
			if has := &k.Material[i]; !has.Imported() { // it was deleted, or expired
				has.Wrapped, has.Public, has.Expiration = m.Wrapped, m.Public, m.Expiration
			}
		case k.FindMaterial(m.ID) != nil:
			return fmt.Errorf("material number %d is there twice", i+1)
		case i == 0:
			k.Material = []key.Material{m}
		default:
			k.Rotate(m, key.OnDemand, s.moment())
			k.Rotation.OnDemand++
		}
	}
	if len(k.Material) == 0 && k.Origin == key.OriginAWSKMS {
		m, err := s.custody.Generate(ctx, p, k, k.CreatedAt)
		if err != nil {
			return err
		}
		k.Material = []key.Material{m}
	}
	if !k.Complete() {
		k.State = key.PendingImport
	}
	return nil
}

// commitSeed stores a seeded key with its aliases, which it takes from other keys. The caller holds the locks of both.
func (s *Service) commitSeed(ctx context.Context, k *key.Key, aliases []aliasName, record func() error) error {
	var was *key.Key
	switch now, err := s.loadStored(ctx, k.Name); {
	case err == nil:
		was = now.Key
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	var moved []key.Name
	_, err := s.commit(ctx, was, k, anyTime, func(tx *store.Tx) error {
		moved = []key.Name{k.Name}
		if err := s.keyQuota(tx, k.Name); err != nil {
			return err
		}
		for _, a := range aliases {
			alias := &key.Alias{Account: a.account, Region: a.region, Name: a.name, CreatedAt: s.moment(), UpdatedAt: s.moment()}
			switch old, err := tx.GetAlias(a.account, a.region, a.name); {
			case err == nil:
				moved = append(moved, key.Name{Account: a.account, Region: a.region, ID: old.Target})
				alias = old
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
			alias.Target = k.ID
			if err := tx.PutAlias(alias); err != nil {
				return err
			}
		}
		return record()
	})
	for _, a := range aliases {
		s.aliases.drop(a)
	}
	for _, name := range moved {
		s.forgetAliasList(name)
	}
	return err
}

// Rehearse does what concerns the whole server and no key, with its record first, which is one of an account and Region.
func (s *Service) Rehearse(e guard.Event, account arn.Account, region arn.Region, details *audit.Fields, do func() error) error {
	return s.guard.ActOnAll(e, account, region, details, do)
}

// Forget has wipe empty the store and drops everything that is remembered of it, for servers that others test with. No request may
// be under way.
func (s *Service) Forget(wipe func() error) error {
	s.due.Lock()
	defer s.due.Unlock()
	s.flushing.Lock()
	defer s.flushing.Unlock()
	err := wipe()
	s.keys.clear()
	s.aliases.clear()
	s.grants.clear()
	s.aliasLists.clear()
	s.policies.clear() // whom a text names may be another by the same ARN
	s.uses.clear()
	clear(s.failed)
	return err
}

// Uses reports whether a call is about a key that is given in any form in which its caller could name it: whether the input
// names the key, or brings a ciphertext of it. It says nothing of whether the caller may.
func (s *Service) Uses(ctx context.Context, call *guard.Call, in wire.Input, given string) bool {
	if call.Caller == nil {
		return false
	}
	wanted, ok := s.named(ctx, call, given)
	return ok && slices.Contains(s.keysOf(ctx, call, in), wanted)
}

// named resolves what a client names a key by.
func (s *Service) named(ctx context.Context, call *guard.Call, given string) (key.Name, bool) {
	ref := arn.ParseRef(given)
	name := key.Name{Account: call.Caller.Account, Region: call.Region, ID: ref.Key}
	if ref.Region != "" {
		name.Account, name.Region = ref.Account, ref.Region
	}
	if ref.Alias != "" {
		id, err := s.target(ctx, aliasName{name.Account, name.Region, ref.Alias})
		if err != nil {
			return key.Name{}, false
		}
		name.ID = id
	}
	return name, name.ID != ""
}

// rowOf returns the row of an operation, nil if there is none.
func rowOf(name string) *operation {
	for i := range operations {
		if operations[i].Name == name {
			return &operations[i]
		}
	}
	return nil
}

// keysOf returns the keys that an input is about, as far as it says.
func (s *Service) keysOf(ctx context.Context, call *guard.Call, in wire.Input) (names []key.Name) {
	add := func(given string) {
		if name, ok := s.named(ctx, call, given); ok {
			names = append(names, name)
		}
	}
	blob := func(blob []byte, given wire.Opt[string]) {
		if h, _, err := ciphertext.Parse(blob); err == nil {
			names = append(names, key.Name{Account: h.Account, Region: call.Region, ID: h.Key})
			return
		}
		add(given.V)
	}
	switch in := in.(type) {
	case *kmsapi.DecryptRequest:
		blob(in.CiphertextBlob, in.KeyID)
	case *kmsapi.ReEncryptRequest:
		blob(in.CiphertextBlob, in.SourceKeyID)
		add(in.DestinationKeyID.V)
	case *kmsapi.CreateAliasRequest:
		add(in.TargetKeyID.V)
	case *kmsapi.UpdateAliasRequest:
		add(in.AliasName.V)
		add(in.TargetKeyID.V)
	case *kmsapi.DeleteAliasRequest:
		add(in.AliasName.V)
	case *kmsapi.RetireGrantRequest:
		add(in.KeyID.V)
	default:
		if row := rowOf(call.Name); row != nil && row.named != nil {
			add(row.named(in))
		}
	}
	return names
}
