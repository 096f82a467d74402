package iam

import (
	"github.com/keywright/keywright/internal/identity"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

var errWeakPassword = wire.Errorf(iamapi.CodePasswordPolicyViolationException, "Password does not conform to the account password policy.")

// newPassword checks a password and returns what is kept of it. It takes a while, and so is not to be called within a change.
func (r *request) newPassword(password secret.Bytes, user string) (hash secret.Bytes, err error) {
	if !strongEnough(password, user) {
		return hash, errWeakPassword
	}
	err = r.passwords.work(r.ctx, func() (err error) {
		hash, err = hashPassword(password)
		return err
	})
	return hash, err
}

func missingLogin(user string) error {
	return notFound("Login Profile for User %s cannot be found.", user)
}

func showLogin(u *identity.User) *iamapi.LoginProfile {
	return &iamapi.LoginProfile{
		UserName: wire.Some(u.Name), CreateDate: wire.Some(u.Login.CreatedAt), PasswordResetRequired: wire.Some(u.Login.MustChange),
	}
}

// userOf returns the user that an operation on a login means.
func (r *request) userOf(given wire.Opt[string]) (*entry[*identity.User], error) {
	name := r.selfName(given)
	if name == "" {
		return nil, errNotUser
	}
	return findNamed(&r.view.users, name)
}

// editLogin changes a user's login and what is kept of its password, in one step.
func (r *request) editLogin(name string, f func(n *identity.User, hash secret.Bytes) (secret.Bytes, error)) error {
	return r.change(func(c *change) error {
		e, err := findNamed(&c.users, name)
		if err != nil {
			return err
		}
		n := e.noun.Clone()
		hash, err := f(n, e.secret)
		if err != nil {
			return err
		}
		return put(c, &c.users, n, hash)
	})
}

func createLoginProfile(r *request, in *iamapi.CreateLoginProfileRequest) (*iamapi.CreateLoginProfileResponse, error) {
	u, err := r.userOf(in.UserName)
	if err != nil {
		return nil, err
	}
	if in.Password.Len() == 0 {
		return nil, wire.Errorf(wire.CodeValidation, "Password is required")
	}
	hash, err := r.newPassword(in.Password, u.noun.Name)
	if err != nil {
		return nil, err
	}
	var shown *iamapi.LoginProfile
	err = r.editLogin(u.noun.Name, func(n *identity.User, _ secret.Bytes) (secret.Bytes, error) {
		if n.Login != nil {
			return secret.Bytes{}, alreadyExists("Login Profile for user %s already exists.", n.Name)
		}
		n.Login = &identity.Login{CreatedAt: r.now(), MustChange: in.PasswordResetRequired.V}
		shown = showLogin(n)
		return hash, nil
	})
	if err != nil {
		return nil, err
	}
	return &iamapi.CreateLoginProfileResponse{LoginProfile: shown}, nil
}

func getLoginProfile(r *request, in *iamapi.GetLoginProfileRequest) (*iamapi.GetLoginProfileResponse, error) {
	u, err := r.userOf(in.UserName)
	if err != nil {
		return nil, err
	}
	if u.noun.Login == nil {
		return nil, missingLogin(u.noun.Name)
	}
	return &iamapi.GetLoginProfileResponse{LoginProfile: showLogin(u.noun)}, nil
}

func updateLoginProfile(r *request, in *iamapi.UpdateLoginProfileRequest) error {
	u, err := findNamed(&r.view.users, in.UserName.V)
	if err != nil {
		return err
	}
	if u.noun.Login == nil {
		return missingLogin(u.noun.Name)
	}
	var hash secret.Bytes
	if in.Password.Len() > 0 {
		if hash, err = r.newPassword(in.Password, u.noun.Name); err != nil {
			return err
		}
	}
	err = r.editLogin(u.noun.Name, func(n *identity.User, old secret.Bytes) (secret.Bytes, error) {
		if n.Login == nil {
			return old, missingLogin(n.Name)
		}
		n.Login.MustChange = in.PasswordResetRequired.Or(n.Login.MustChange)
		if hash.Len() > 0 {
			return hash, nil
		}
		return old, nil
	})
	if err == nil && hash.Len() > 0 {
		r.passwords.forget(u.noun.ID)
	}
	return err
}

func deleteLoginProfile(r *request, in *iamapi.DeleteLoginProfileRequest) error {
	u, err := r.userOf(in.UserName)
	if err != nil {
		return err
	}
	return r.editLogin(u.noun.Name, func(n *identity.User, old secret.Bytes) (secret.Bytes, error) {
		if n.Login == nil {
			return old, missingLogin(n.Name)
		}
		n.Login = nil
		return secret.Bytes{}, nil
	})
}

func changePassword(r *request, in *iamapi.ChangePasswordRequest) error {
	u := r.view.users.ids[r.call.Caller.UniqueID]
	if u == nil {
		return wire.Errorf(iamapi.CodeInvalidUserTypeException, "Only IAM Users can change their own password")
	}
	if u.noun.Login == nil {
		return missingLogin(u.noun.Name)
	}
	same, err := r.passwords.try(u.noun.ID, r.Directory.now(), func() (same bool, err error) {
		err = r.passwords.work(r.ctx, func() (err error) {
			same, err = samePassword(in.OldPassword, u.secret)
			return err
		})
		return same, err
	})
	if err != nil {
		return err
	}
	if !same {
		return wire.Errorf(wire.CodeAccessDenied, "The old password was incorrect.")
	}
	hash, err := r.newPassword(in.NewPassword, u.noun.Name)
	if err != nil {
		return err
	}
	return r.editLogin(u.noun.Name, func(n *identity.User, old secret.Bytes) (secret.Bytes, error) {
		if n.Login == nil || !old.Equal(u.secret) { // somebody else was faster
			return old, wire.Errorf(iamapi.CodeEntityTemporarilyUnmodifiableException, "Login Profile for User %s cannot be modified while login profile is being changed.", n.Name)
		}
		n.Login.MustChange = false
		return hash, nil
	})
}
