package iam

import (
	"errors"
	"slices"

	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// maxAccessKeys is how many access keys a user can have, active or not ("IAM and AWS STS quotas"); the root user too.
const maxAccessKeys = 2

// keysOf returns the access keys of a principal of the account: a user's id or the ARN of the root.
func (r *request) keysOf(principal string) ([]*store.AccessKey, error) {
	keys, err := r.store.ListAccessKeys(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(keys, func(k *store.AccessKey) bool { return k.Principal != principal }), nil
}

// signer returns who an operation on access keys means: the principal of its access keys and its name, which is empty for
// the root user.
func (r *request) signer(v *view, given wire.Opt[string]) (principal string, name wire.Opt[string], err error) {
	n := r.selfName(given)
	if n == "" {
		return r.account.Root(home), name, nil
	}
	u, err := findNamed(&v.users, n)
	if err != nil {
		return "", name, err
	}
	return u.noun.ID, wire.Some(u.noun.Name), nil
}

func createAccessKey(r *request, in *iamapi.CreateAccessKeyRequest) (*iamapi.CreateAccessKeyResponse, error) {
	k := &store.AccessKey{ID: newAccessKeyID(longTermPrefix), Account: r.account, Status: store.AccessKeyActive, CreatedAt: r.now(), Secret: newSecret()}
	var name wire.Opt[string]
	err := r.change(func(c *change) (err error) {
		if k.Principal, name, err = r.signer(c.view, in.UserName); err != nil {
			return err
		}
		have, err := r.keysOf(k.Principal)
		if err != nil {
			return err
		}
		if len(have) >= maxAccessKeys {
			return overQuota("AccessKeysPerUser", maxAccessKeys)
		}
		c.writes = append(c.writes, func(tx *store.Tx) error { return tx.PutAccessKey(k) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateAccessKeyResponse{AccessKey: &iamapi.AccessKey{
		UserName: name, AccessKeyID: wire.Some(k.ID), Status: wire.Some(string(k.Status)), SecretAccessKey: k.Secret,
		CreateDate: wire.Some(k.CreatedAt),
	}}, nil
}

// editAccessKey finds an access key of a user and has it written again, or deleted if f says so.
func (r *request) editAccessKey(given wire.Opt[string], id string, f func(tx *store.Tx, k *store.AccessKey) error) error {
	return r.change(func(c *change) error {
		principal, _, err := r.signer(c.view, given)
		if err != nil {
			return err
		}
		k, err := r.store.GetAccessKey(r.ctx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && (k.Account != r.account || k.Principal != principal) {
			return missingAccessKey(id)
		}
		if err != nil {
			return err
		}
		c.writes = append(c.writes, func(tx *store.Tx) error {
			k, err := tx.GetAccessKey(id) // with a use that was written since
			if err != nil {
				return err
			}
			return f(tx, k)
		})
		c.after = append(c.after, func() { r.ready.drop(id) })
		return nil
	})
}

func missingAccessKey(id string) error {
	return notFound("The Access Key with id %s cannot be found.", id)
}

func updateAccessKey(r *request, in *iamapi.UpdateAccessKeyRequest) error {
	status := store.AccessKeyStatus(in.Status.V)
	if status != store.AccessKeyActive && status != store.AccessKeyInactive { // the model has a third one, which nobody can set
		return wire.Errorf(wire.CodeValidation, "Access key status must be Active or Inactive")
	}
	return r.editAccessKey(in.UserName, in.AccessKeyID.V, func(tx *store.Tx, k *store.AccessKey) error {
		k.Status = status
		return tx.PutAccessKey(k)
	})
}

func deleteAccessKey(r *request, in *iamapi.DeleteAccessKeyRequest) error {
	return r.editAccessKey(in.UserName, in.AccessKeyID.V, func(tx *store.Tx, k *store.AccessKey) error {
		return tx.DeleteAccessKey(k.ID)
	})
}

func listAccessKeys(r *request, in *iamapi.ListAccessKeysRequest) (*iamapi.ListAccessKeysResponse, error) {
	principal, name, err := r.signer(r.view, in.UserName)
	if err != nil {
		return nil, err
	}
	keys, err := r.keysOf(principal)
	if err != nil {
		return nil, err
	}
	out := new(iamapi.ListAccessKeysResponse)
	out.AccessKeyMetadata, out.IsTruncated, out.Marker, err = listed(r, keys, func(k *store.AccessKey) string { return k.ID }, in.Marker, in.MaxItems,
		func(k *store.AccessKey) iamapi.AccessKeyMetadata {
			return iamapi.AccessKeyMetadata{
				UserName: name, AccessKeyID: wire.Some(k.ID), Status: wire.Some(string(k.Status)), CreateDate: wire.Some(k.CreatedAt),
			}
		})
	return out, err
}

func getAccessKeyLastUsed(r *request, in *iamapi.GetAccessKeyLastUsedRequest) (*iamapi.GetAccessKeyLastUsedResponse, error) {
	k, err := r.store.GetAccessKey(r.ctx, in.AccessKeyID.V)
	if errors.Is(err, store.ErrNotFound) || err == nil && k.Account != r.account {
		return nil, missingAccessKey(in.AccessKeyID.V)
	}
	if err != nil {
		return nil, err
	}
	out := &iamapi.GetAccessKeyLastUsedResponse{AccessKeyLastUsed: &iamapi.AccessKeyLastUsed{
		ServiceName: wire.Some("N/A"), Region: wire.Some("N/A"), // never, in the words of the API
	}}
	if u := r.view.users.ids[k.Principal]; u != nil {
		out.UserName = wire.Some(u.noun.Name)
	}
	use := k.LastUsed
	if unwritten, ok := r.uses.of(k.ID); ok {
		use = unwritten
	}
	if !use.At.IsZero() {
		*out.AccessKeyLastUsed = iamapi.AccessKeyLastUsed{
			LastUsedDate: wire.Some(use.At), ServiceName: wire.Some(use.Service), Region: wire.Some(string(use.Region)),
		}
	}
	return out, nil
}
