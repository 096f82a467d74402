package iam

import (
	"errors"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// editSettings changes the account's settings, which are made if there are none.
func (r *request) editSettings(f func(*change, *identity.Settings) error) error {
	return r.change(func(c *change) error {
		n := &identity.Settings{Meta: identity.Meta{
			Account: r.account, ID: identity.NewID(identity.KindSettings), Name: identity.SettingsName, CreatedAt: r.now(),
		}}
		if old := c.settings.named(identity.SettingsName); old != nil {
			n = old.noun.Clone()
		}
		if err := f(c, n); err != nil {
			return err
		}
		return put(c, &c.settings, n, secret.Bytes{})
	})
}

func (v *view) alias() string {
	if s := v.settings.named(identity.SettingsName); s != nil {
		return s.noun.Alias
	}
	return ""
}

// createAccountAlias gives the account an alias in place of the one that it has: it can have one. No two accounts have the
// same.
func createAccountAlias(r *request, in *iamapi.CreateAccountAliasRequest) error {
	return r.editSettings(func(c *change, s *identity.Settings) error {
		if err := c.giveName(r.ctx, r.store); err != nil {
			return err
		}
		accounts, err := r.store.ListAccounts(r.ctx)
		if err != nil {
			return err
		}
		for _, a := range accounts {
			alias, err := r.aliasOf(a.ID)
			if err != nil {
				return err
			}
			if alias == in.AccountAlias.V && a.ID != r.account {
				return alreadyExists("The account alias %s already exists.", in.AccountAlias.V)
			}
		}
		s.Alias = in.AccountAlias.V
		return nil
	})
}

// aliasOf reads the alias of any account from the store.
func (r *request) aliasOf(a arn.Account) (string, error) {
	n, err := r.store.GetIdentity(r.ctx, a, string(identity.KindSettings), identity.SettingsName)
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var s identity.Settings
	if err := identity.Decode(&s, n.Account, n.ID, n.Body); err != nil {
		return "", err
	}
	return s.Alias, nil
}

func deleteAccountAlias(r *request, in *iamapi.DeleteAccountAliasRequest) error {
	return r.editSettings(func(_ *change, s *identity.Settings) error {
		if s.Alias != in.AccountAlias.V {
			return notFound("The account alias with name %s cannot be found.", in.AccountAlias.V)
		}
		s.Alias = ""
		return nil
	})
}

func listAccountAliases(r *request, _ *iamapi.ListAccountAliasesRequest) (*iamapi.ListAccountAliasesResponse, error) {
	out := &iamapi.ListAccountAliasesResponse{AccountAliases: []string{}, IsTruncated: wire.Some(false)}
	if alias := r.view.alias(); alias != "" {
		out.AccountAliases = []string{alias}
	}
	return out, nil
}

// getAccountSummary counts what there is. Entries of what Keywright does not have, such as MFA devices, say so with a zero.
func getAccountSummary(r *request, _ *iamapi.GetAccountSummaryRequest) (*iamapi.GetAccountSummaryResponse, error) {
	root, err := r.keysOf(r.account.Root(home))
	if err != nil {
		return nil, err
	}
	v := r.view
	versions := 0
	for _, p := range v.policies.ids {
		versions += len(p.noun.Versions)
	}
	return &iamapi.GetAccountSummaryResponse{SummaryMap: map[string]int32{
		"Users": int32(len(v.users.ids)), "UsersQuota": maxUsers,
		"Groups": int32(len(v.groups.ids)), "GroupsQuota": maxGroups, "GroupsPerUserQuota": maxGroupsPerUser,
		"Roles": int32(len(v.roles.ids)), "RolesQuota": maxRoles,
		"Policies": int32(len(v.policies.ids)), "PoliciesQuota": maxPolicies,
		"PolicyVersionsInUse": int32(versions), "PolicyVersionsInUseQuota": 10_000, "VersionsPerPolicyQuota": maxVersions,
		"PolicySizeQuota": maxManaged, "AssumeRolePolicySizeQuota": maxTrust,
		"UserPolicySizeQuota": int32(maxInline[identity.KindUser]), "GroupPolicySizeQuota": int32(maxInline[identity.KindGroup]),
		"RolePolicySizeQuota":          int32(maxInline[identity.KindRole]),
		"AttachedPoliciesPerUserQuota": maxAttached, "AttachedPoliciesPerGroupQuota": maxAttached, "AttachedPoliciesPerRoleQuota": maxAttached,
		"AccessKeysPerUserQuota": maxAccessKeys, "AccountAccessKeysPresent": int32(min(len(root), 1)), "AccountPasswordPresent": 0,
		"Providers": int32(len(v.providers.ids)), "AccountMFAEnabled": 0, "MFADevices": 0, "MFADevicesInUse": 0,
		"InstanceProfiles": 0, "InstanceProfilesQuota": 0, "ServerCertificates": 0, "ServerCertificatesQuota": 0,
		"SigningCertificatesPerUserQuota": 0, "AccountSigningCertificatesPresent": 0, "GlobalEndpointTokenVersion": 1,
	}}, nil
}
