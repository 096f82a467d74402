package iam

import (
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// What follows is asked for by clients before they delete a user, as Terraform does, and nobody has it here: MFA devices,
// certificates, SSH keys and the like. The truth lets them go on: there are none.

// getAccountPasswordPolicy answers what an account answers that has set none: what passwords must be is then the service's
// default, which is what Keywright asks of them.
func getAccountPasswordPolicy(r *request, _ *iamapi.GetAccountPasswordPolicyRequest) (*iamapi.GetAccountPasswordPolicyResponse, error) {
	return nil, notFound("The Password Policy with domain name %s cannot be found.", r.account)
}

// noneOf returns the only page there is of what nobody has. A marker is none that was given out.
func noneOf[T any](r *request, marker wire.Opt[string]) (items []T, truncated wire.Opt[bool], err error) {
	items, truncated, _, err = page(r, []T{}, nil, marker, wire.Opt[int32]{})
	return items, truncated, err
}

// noneOfUser is noneOf for what a user would have, or the caller if none is named. The user must be there.
func noneOfUser[T any](r *request, name, marker wire.Opt[string]) (items []T, truncated wire.Opt[bool], err error) {
	if n := r.selfName(name); n != "" { // the root user has no name
		if _, err := findNamed(&r.view.users, n); err != nil {
			return nil, truncated, err
		}
	}
	return noneOf[T](r, marker)
}

func listMFADevices(r *request, in *iamapi.ListMFADevicesRequest) (out *iamapi.ListMFADevicesResponse, err error) {
	out = new(iamapi.ListMFADevicesResponse)
	out.MFADevices, out.IsTruncated, err = noneOfUser[iamapi.MFADevice](r, in.UserName, in.Marker)
	return out, err
}

func listVirtualMFADevices(r *request, in *iamapi.ListVirtualMFADevicesRequest) (out *iamapi.ListVirtualMFADevicesResponse, err error) {
	out = new(iamapi.ListVirtualMFADevicesResponse)
	out.VirtualMFADevices, out.IsTruncated, err = noneOf[iamapi.VirtualMFADevice](r, in.Marker)
	return out, err
}

func listSSHPublicKeys(r *request, in *iamapi.ListSSHPublicKeysRequest) (out *iamapi.ListSSHPublicKeysResponse, err error) {
	out = new(iamapi.ListSSHPublicKeysResponse)
	out.SSHPublicKeys, out.IsTruncated, err = noneOfUser[iamapi.SSHPublicKeyMetadata](r, in.UserName, in.Marker)
	return out, err
}

func listSigningCertificates(r *request, in *iamapi.ListSigningCertificatesRequest) (out *iamapi.ListSigningCertificatesResponse, err error) {
	out = new(iamapi.ListSigningCertificatesResponse)
	out.Certificates, out.IsTruncated, err = noneOfUser[iamapi.SigningCertificate](r, in.UserName, in.Marker)
	return out, err
}

// listServiceSpecificCredentials takes either a user or AllUsers (API_ListServiceSpecificCredentials).
func listServiceSpecificCredentials(r *request, in *iamapi.ListServiceSpecificCredentialsRequest) (out *iamapi.ListServiceSpecificCredentialsResponse, err error) {
	if in.UserName.Set && in.AllUsers.V {
		return nil, invalidInput("UserName and AllUsers cannot both be specified.")
	}
	out = new(iamapi.ListServiceSpecificCredentialsResponse)
	out.ServiceSpecificCredentials, out.IsTruncated, err = noneOfUser[iamapi.ServiceSpecificCredentialMetadata](r, in.UserName, in.Marker)
	return out, err
}
