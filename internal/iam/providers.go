package iam

import (
	"net/url"
	"slices"
	"strings"

	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// How many client ids and thumbprints an identity provider can have ("IAM and AWS STS quotas").
const (
	maxClientIDs   = 100
	maxThumbprints = 5
)

// providerName returns what a provider with the URL is called: the URL without its scheme.
func providerName(given string) string {
	return strings.TrimSuffix(strings.TrimPrefix(given, "https://"), "/")
}

// checkProviderURL refuses what can be no issuer (OpenID Connect Discovery 1.0, section 2; "CreateOpenIDConnectProvider").
func checkProviderURL(given string) error {
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return wire.Errorf(wire.CodeValidation, "Invalid Open ID Connect Provider URL")
	}
	return nil
}

func checkThumbprints(list []string) error {
	if len(list) > maxThumbprints {
		return wire.Errorf(iamapi.CodeInvalidInputException, "Thumbprint list must contain fewer than %d entries.", maxThumbprints)
	}
	for _, t := range list {
		if len(t) != 40 || strings.Trim(t, "0123456789abcdefABCDEF") != "" {
			return invalidInput("Thumbprint must be 40 hexadecimal characters")
		}
	}
	return nil
}

// findProvider finds a provider of the account by its ARN; nil if there is none.
func findProvider(v *view, providerARN string) *entry[*identity.Provider] {
	_, name, ok := strings.Cut(providerARN, ":oidc-provider/")
	if !ok {
		return nil
	}
	e := v.providers.named(name)
	if e == nil || e.noun.ARN(v.part()) != providerARN {
		return nil
	}
	return e
}

func needProvider(v *view, given string) (*entry[*identity.Provider], error) {
	if e := findProvider(v, given); e != nil {
		return e, nil
	}
	return nil, notFound("OpenIDConnect Provider not found for arn %s", given)
}

// editProvider changes a provider.
func (r *request) editProvider(providerARN string, f func(*identity.Provider) error) error {
	return r.change(func(c *change) error {
		e, err := needProvider(c.view, providerARN)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		if err := f(n); err != nil {
			return err
		}
		return replace(c, &c.providers, n)
	})
}

func createProvider(r *request, in *iamapi.CreateOpenIDConnectProviderRequest) (*iamapi.CreateOpenIDConnectProviderResponse, error) {
	if err := r.mayTag("TagOpenIDConnectProvider", in.Tags); err != nil {
		return nil, err
	}
	if err := checkProviderURL(in.URL.V); err != nil {
		return nil, err
	}
	if err := checkThumbprints(in.ThumbprintList); err != nil {
		return nil, err
	}
	if len(in.ClientIDList) > maxClientIDs {
		return nil, overQuota("ClientIdsPerOpenIdConnectProvider", maxClientIDs)
	}
	m, err := r.meta(identity.KindProvider, providerName(in.URL.V), wire.Opt[string]{}, in.Tags)
	if err != nil {
		return nil, err
	}
	m.Path = ""
	p := &identity.Provider{Meta: m, ClientIDs: slices.Clone(in.ClientIDList), Thumbprints: slices.Clone(in.ThumbprintList)}
	err = r.change(func(c *change) error {
		if c.providers.named(m.Name) != nil {
			return alreadyExists("Provider with url %s already exists.", in.URL.V)
		}
		if len(c.providers.ids) >= maxProviders {
			return overQuota("OpenIdConnectProvidersPerAccount", maxProviders)
		}
		return put(c, &c.providers, p, secret.Bytes{})
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateOpenIDConnectProviderResponse{OpenIDConnectProviderARN: wire.Some(p.ARN(r.part)), Tags: showTags(p.Tags)}, nil
}

func getProvider(r *request, in *iamapi.GetOpenIDConnectProviderRequest) (*iamapi.GetOpenIDConnectProviderResponse, error) {
	e, err := needProvider(r.view, in.OpenIDConnectProviderARN.V)
	if err != nil {
		return nil, err
	}
	p := e.noun
	return &iamapi.GetOpenIDConnectProviderResponse{
		URL: wire.Some(p.Name), ClientIDList: p.ClientIDs, ThumbprintList: p.Thumbprints, CreateDate: wire.Some(p.CreatedAt), Tags: showTags(p.Tags),
	}, nil
}

func listProviders(r *request, _ *iamapi.ListOpenIDConnectProvidersRequest) (*iamapi.ListOpenIDConnectProvidersResponse, error) {
	out := &iamapi.ListOpenIDConnectProvidersResponse{OpenIDConnectProviderList: []iamapi.OpenIDConnectProviderListEntry{}}
	for _, e := range r.view.providers.sorted() {
		out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, iamapi.OpenIDConnectProviderListEntry{ARN: wire.Some(e.noun.ARN(r.part))})
	}
	return out, nil
}

func deleteProvider(r *request, in *iamapi.DeleteOpenIDConnectProviderRequest) error {
	return r.change(func(c *change) error {
		e := findProvider(c.view, in.OpenIDConnectProviderARN.V)
		if e == nil {
			return nil // "This operation is idempotent" (DeleteOpenIDConnectProvider)
		}
		remove(c, &c.providers, e.noun)
		return nil
	})
}

func addClientID(r *request, in *iamapi.AddClientIDToOpenIDConnectProviderRequest) error {
	return r.editProvider(in.OpenIDConnectProviderARN.V, func(p *identity.Provider) error {
		if slices.Contains(p.ClientIDs, in.ClientID.V) {
			return nil // it does not fail if the id is there (AddClientIDToOpenIDConnectProvider)
		}
		if len(p.ClientIDs) >= maxClientIDs {
			return overQuota("ClientIdsPerOpenIdConnectProvider", maxClientIDs)
		}
		p.ClientIDs = append(p.ClientIDs, in.ClientID.V)
		return nil
	})
}

func removeClientID(r *request, in *iamapi.RemoveClientIDFromOpenIDConnectProviderRequest) error {
	return r.editProvider(in.OpenIDConnectProviderARN.V, func(p *identity.Provider) error {
		p.ClientIDs = slices.DeleteFunc(p.ClientIDs, func(id string) bool { return id == in.ClientID.V })
		return nil
	})
}

func updateThumbprints(r *request, in *iamapi.UpdateOpenIDConnectProviderThumbprintRequest) error {
	if err := checkThumbprints(in.ThumbprintList); err != nil {
		return err
	}
	return r.editProvider(in.OpenIDConnectProviderARN.V, func(p *identity.Provider) error {
		p.Thumbprints = slices.Clone(in.ThumbprintList)
		return nil
	})
}
