package kms

import (
	"errors"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

func listRetirableGrants(r *request, in *kmsapi.ListRetirableGrantsRequest) (*kmsapi.ListGrantsResponse, error) {
	holder, err := r.retiringPrincipal(in)
	if err := firstFailure(err, r.chargeOwn); err != nil {
		return nil, err
	}
	marker, err := r.readMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	var after store.GrantRef
	if parts := strings.Split(marker, "/"); len(parts) == 3 {
		after = store.GrantRef{Account: arn.Account(parts[0]), Key: arn.KeyID(parts[1]), ID: parts[2]}
	}
	page, more, err := r.retirable(holder, after, int(in.Limit.Or(listedGrants)))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListGrantsResponse{Truncated: wire.Some(more)}
	shown, err := r.heard(page)
	if err != nil {
		return nil, err
	}
	if out.Grants, err = r.showGrants(shown); err == nil && more {
		last := page[len(page)-1]
		out.NextMarker, err = r.marker(string(last.Key.Account) + "/" + string(last.Key.ID) + "/" + last.ID)
	}
	return out, err
}

// retiringPrincipal returns whose grants ListRetirableGrants is to list: a principal of the caller's account, or the
// calling service.
func (r *request) retiringPrincipal(in *kmsapi.ListRetirableGrantsRequest) (string, error) {
	if in.RetiringPrincipal.Set == in.RetiringServicePrincipal.Set {
		return "", invalid("Specify either RetiringPrincipal or RetiringServicePrincipal.")
	}
	caller := r.call.Caller
	if in.RetiringServicePrincipal.Set {
		if caller.Type != policy.Service || caller.Service != in.RetiringServicePrincipal.V {
			return "", r.call.Deny(r.action, "*")
		}
		return caller.Service, nil
	}
	if _, err := r.call.Authorize(guard.Resource{Action: r.action, ARN: "*", Input: in}); err != nil {
		return "", err
	}
	p, err := r.grantPrincipal(in.RetiringPrincipal, wire.Opt[string]{})
	if err != nil {
		return "", err
	}
	if parts := strings.SplitN(p.ARN, ":", 6); len(parts) != 6 || parts[4] != string(caller.Account) {
		return "", noPrincipal(p.ARN)
	}
	return p.Holder(), nil
}

// retirable returns the next grants that a principal may retire. Those of a service are on keys of the accounts that it
// serves: in another account the same name may be somebody else's.
func (r *request) retirable(holder string, after store.GrantRef, limit int) (page []*key.Grant, more bool, err error) {
	caller := r.call.Caller
	if caller.Type != policy.Service {
		return r.store.ListRetirableGrants(r.ctx, holder, r.call.Region, after, limit)
	}
	accounts := append([]arn.Account{caller.Account}, caller.Serves...)
	slices.Sort(accounts)
	for _, a := range slices.Compact(accounts) {
		from := store.GrantRef{Account: a}
		switch {
		case a < after.Account:
			continue
		case a == after.Account:
			from = after
		}
		list, rest, err := r.store.ListRetirableGrants(r.ctx, holder, r.call.Region, from, limit-len(page))
		if err != nil {
			return nil, false, err
		}
		others := slices.IndexFunc(list, func(g *key.Grant) bool { return g.Key.Account != a })
		if others < 0 { // the page is full, or there are no more in any account
			return append(page, list...), rest, nil
		}
		page = append(page, list[:others]...)
	}
	return page, false, nil
}

// heard drops from what a service may retire what control policies, or the policy of the key, keep from it. What identity
// policies keep from others was asked before.
func (r *request) heard(page []*key.Grant) ([]*key.Grant, error) {
	if r.call.Caller.Type != policy.Service {
		return page, nil
	}
	var shown []*key.Grant
	decided := map[key.Name]bool{}
	for _, g := range page {
		allowed, done := decided[g.Key]
		if !done {
			snap, err := r.load(r.ctx, g.Key)
			if errors.Is(err, store.ErrNotFound) {
				continue // it went meanwhile, and its grants with it
			}
			if err != nil {
				return nil, err
			}
			allowed, err = r.call.Allows(guard.Resource{
				Action: r.action, ARN: snap.arn, Key: snap.Key, Policy: snap.policy, Foreign: true, Aliases: snap.aliases, Retiring: g,
			})
			if err != nil {
				return nil, err
			}
			decided[g.Key] = allowed
		}
		if allowed {
			shown = append(shown, g)
		}
	}
	return shown, nil
}
