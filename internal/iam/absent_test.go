package iam_test

import (
	"encoding/xml"
	"reflect"
	"testing"

	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// Terraform asks for all of this before it deletes a user, and goes on only if there is an answer.
func TestWhatNobodyHas(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	c.do(&iamapi.CreateUserRequest{UserName: str("Bobby")})
	for list, in := range map[string]wire.Input{
		"MFADevices":                 &iamapi.ListMFADevicesRequest{UserName: str("bobby")},
		"VirtualMFADevices":          &iamapi.ListVirtualMFADevicesRequest{AssignmentStatus: str("Assigned")},
		"SSHPublicKeys":              &iamapi.ListSSHPublicKeysRequest{UserName: str("bobby")},
		"Certificates":               &iamapi.ListSigningCertificatesRequest{UserName: str("bobby")},
		"ServiceSpecificCredentials": &iamapi.ListServiceSpecificCredentialsRequest{UserName: str("bobby")},
	} {
		text := string(c.do(in).(wire.XMLOutput).AppendXML(nil))
		if want := "<" + list + "></" + list + "><IsTruncated>false</IsTruncated>"; text != want {
			t.Errorf("%s: %s", opOf(in), text)
		}
		if err := xml.Unmarshal([]byte("<r>"+text+"</r>"), new(struct{})); err != nil {
			t.Errorf("%s: %v", opOf(in), err)
		}
		fields := reflect.ValueOf(in).Elem()
		fields.FieldByName("Marker").Set(reflect.ValueOf(str("made up")))
		c.refuses("ValidationException: Invalid Marker", in)
		if user := fields.FieldByName("UserName"); user.IsValid() {
			fields.FieldByName("Marker").SetZero()
			user.SetZero() // the root user itself
			c.do(in)
			user.Set(reflect.ValueOf(str("nobody")))
			c.refuses("NoSuchEntityException: The user with name nobody cannot be found.", in)
		}
	}
	c.refuses("InvalidInputException: UserName and AllUsers cannot both be specified.",
		&iamapi.ListServiceSpecificCredentialsRequest{UserName: str("bobby"), AllUsers: wire.Some(true)})
	c.refuses("NoSuchEntityException: The Password Policy with domain name 111122223333 cannot be found.", &iamapi.GetAccountPasswordPolicyRequest{})
}
