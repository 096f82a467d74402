package iam_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

func TestLogin(t *testing.T) {
	w := newWorld(t)
	root := w.client(w.root(alice))
	root.do(&iamapi.CreateUserRequest{UserName: str("bobby")})
	root.do(&iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")})
	k := root.do(&iamapi.CreateAccessKeyRequest{UserName: str("bobby")}).(*iamapi.CreateAccessKeyResponse).AccessKey
	credential := sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey}
	bobby := w.client(credential)
	good, better := secret.FromString("correct Horse 1"), secret.FromString("Battery-Staple")
	for _, weak := range []string{"short1A", "alllowercase", "lower12345", "bobby"} {
		root.refuses("PasswordPolicyViolationException", &iamapi.CreateLoginProfileRequest{UserName: str("bobby"), Password: secret.FromString(weak)})
	}
	root.refuses("NoSuchEntityException: Login Profile for User bobby cannot be found.", &iamapi.GetLoginProfileRequest{UserName: str("bobby")})
	out := root.do(&iamapi.CreateLoginProfileRequest{UserName: str("bobby"), Password: good, PasswordResetRequired: wire.Some(true)}).(*iamapi.CreateLoginProfileResponse)
	if !out.LoginProfile.PasswordResetRequired.V || out.LoginProfile.UserName.V != "bobby" {
		t.Errorf("%+v", *out.LoginProfile)
	}
	root.refuses("EntityAlreadyExistsException: Login Profile for user bobby already exists.", &iamapi.CreateLoginProfileRequest{UserName: str("bobby"), Password: good})
	root.refuses("DeleteConflictException: Cannot delete entity, must detach all policies first.", &iamapi.DeleteUserRequest{UserName: str("bobby")})
	root.refuses("InvalidUserTypeException: Only IAM Users can change their own password", &iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	bobby.refuses("AccessDeniedException: The old password was incorrect.", &iamapi.ChangePasswordRequest{OldPassword: better, NewPassword: good})
	bobby.refuses("PasswordPolicyViolationException", &iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: secret.FromString("weak")})
	root.do(&iamapi.UpdateUserRequest{UserName: str("bobby"), NewUserName: str("rob")}) // a change of something else keeps the password
	w.directory = w.newDirectory(0)
	w.client(credential).do(&iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	bobby.refuses("AccessDeniedException", &iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	if got := root.do(&iamapi.GetLoginProfileRequest{UserName: str("rob")}).(*iamapi.GetLoginProfileResponse).LoginProfile; got.PasswordResetRequired.V {
		t.Error("a new password is still to be changed")
	}
	root.do(&iamapi.UpdateLoginProfileRequest{UserName: str("rob"), Password: good})
	root.do(&iamapi.DeleteLoginProfileRequest{UserName: str("rob")})
	root.refuses("NoSuchEntityException", &iamapi.UpdateLoginProfileRequest{UserName: str("rob")})
	if text := w.everyRecord(); strings.Contains(text, "Horse") || strings.Contains(text, "Staple") {
		t.Error("a password is in the records")
	}
}

// A password cannot be guessed by trying, and who tries does not keep the server busy.
func TestWrongPasswords(t *testing.T) {
	w := newWorld(t)
	root := w.client(w.root(alice))
	users := map[string]*client{}
	good, better, wrong := secret.FromString("correct Horse 1"), secret.FromString("Battery-Staple 2"), secret.FromString("wrong Horse 1")
	for _, name := range []string{"bobby", "carol"} {
		root.do(&iamapi.CreateUserRequest{UserName: str(name)})
		root.do(&iamapi.AttachUserPolicyRequest{UserName: str(name), PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")})
		root.do(&iamapi.CreateLoginProfileRequest{UserName: str(name), Password: good})
		k := root.do(&iamapi.CreateAccessKeyRequest{UserName: str(name)}).(*iamapi.CreateAccessKeyResponse).AccessKey
		users[name] = w.client(sigv4.Credential{AccessKeyID: k.AccessKeyID.V, Secret: k.SecretAccessKey})
	}
	const incorrect, throttled = "AccessDeniedException: The old password was incorrect.", "ThrottlingException: Rate exceeded"
	for range 5 {
		users["bobby"].refuses(incorrect, &iamapi.ChangePasswordRequest{OldPassword: wrong, NewPassword: better})
	}
	for _, password := range []secret.Bytes{wrong, good} {
		users["bobby"].refuses(throttled, &iamapi.ChangePasswordRequest{OldPassword: password, NewPassword: better})
	}
	users["carol"].do(&iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	w.now = w.now.Add(time.Second)
	users["bobby"].refuses(incorrect, &iamapi.ChangePasswordRequest{OldPassword: wrong, NewPassword: better})
	w.now = w.now.Add(time.Second) // the pause has doubled
	users["bobby"].refuses(throttled, &iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	w.now = w.now.Add(time.Second)
	users["bobby"].do(&iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	users["bobby"].refuses(incorrect, &iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
	for range 5 {
		users["carol"].refuses(incorrect, &iamapi.ChangePasswordRequest{OldPassword: wrong, NewPassword: good})
	}
	root.do(&iamapi.UpdateLoginProfileRequest{UserName: str("carol"), Password: good}) // and she need not wait
	users["carol"].do(&iamapi.ChangePasswordRequest{OldPassword: good, NewPassword: better})
}

func TestHashingWaitsItsTurn(t *testing.T) {
	var running, done, refused atomic.Int32
	work, began, end := iam.PasswordWork(), make(chan struct{}, 1), make(chan struct{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			err := work(context.Background(), func() error {
				if running.Add(1) != 1 {
					t.Error("two at once")
				}
				select {
				case began <- struct{}{}:
				default:
				}
				<-end
				running.Add(-1)
				return nil
			})
			if err == nil {
				done.Add(1)
			} else if refused.Add(1) == 11 { // all that cannot wait
				close(end)
			}
		})
	}
	<-began
	all.Wait()
	if done.Load() != 9 || refused.Load() != 11 {
		t.Errorf("%d were done, %d refused", done.Load(), refused.Load())
	}
	work = iam.PasswordWork()
	ctx, cancel := context.WithCancel(context.Background())
	err := work(ctx, func() error {
		cancel()
		return work(ctx, func() error { return nil }) // whose turn it never is
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestProviders(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	thumb := strings.Repeat("0aF9", 10)
	in := &iamapi.CreateOpenIDConnectProviderRequest{URL: str("https://id.example.com/realm"), ClientIDList: []string{"c"}, ThumbprintList: []string{thumb}}
	p := c.do(in).(*iamapi.CreateOpenIDConnectProviderResponse).OpenIDConnectProviderARN
	if p.V != "arn:aws:iam::111122223333:oidc-provider/id.example.com/realm" {
		t.Error(p.V)
	}
	c.refuses("EntityAlreadyExistsException: Provider with url https://id.example.com/realm already exists.", in)
	for _, bad := range []string{"http://id.example.com", "https://", "https://u@h", "https://h?q", "nonsense"} {
		c.refuses("ValidationException: ", &iamapi.CreateOpenIDConnectProviderRequest{URL: str(bad)})
	}
	c.refuses("InvalidInputException", &iamapi.UpdateOpenIDConnectProviderThumbprintRequest{OpenIDConnectProviderARN: p, ThumbprintList: []string{strings.Repeat("x", 40)}})
	c.do(&iamapi.UpdateOpenIDConnectProviderThumbprintRequest{OpenIDConnectProviderARN: p, ThumbprintList: []string{}})
	c.do(&iamapi.AddClientIDToOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p, ClientID: str("d")})
	c.do(&iamapi.AddClientIDToOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p, ClientID: str("d")})
	c.do(&iamapi.RemoveClientIDFromOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p, ClientID: str("c")})
	c.do(&iamapi.TagOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p, Tags: []iamapi.Tag{{Key: str("a"), Value: str("b")}}})
	got := c.do(&iamapi.GetOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p}).(*iamapi.GetOpenIDConnectProviderResponse)
	if got.URL.V != "id.example.com/realm" || len(got.ClientIDList) != 1 || got.ClientIDList[0] != "d" || len(got.ThumbprintList) != 0 || len(got.Tags) != 1 {
		t.Errorf("%+v", *got)
	}
	if l := c.do(&iamapi.ListOpenIDConnectProvidersRequest{}).(*iamapi.ListOpenIDConnectProvidersResponse).OpenIDConnectProviderList; len(l) != 1 || l[0].ARN != p {
		t.Errorf("%+v", l)
	}
	c.do(&iamapi.DeleteOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p})
	c.refuses("NoSuchEntityException: OpenIDConnect Provider not found for arn "+p.V, &iamapi.GetOpenIDConnectProviderRequest{OpenIDConnectProviderARN: p})
}

func TestAccountAliases(t *testing.T) {
	w := newWorld(t)
	one, two := w.client(w.root(alice)), w.client(w.root(bob))
	one.do(&iamapi.CreateAccountAliasRequest{AccountAlias: str("first")})
	two.refuses("EntityAlreadyExistsException: The account alias first already exists.", &iamapi.CreateAccountAliasRequest{AccountAlias: str("first")})
	one.do(&iamapi.CreateAccountAliasRequest{AccountAlias: str("second")}) // in its place
	two.do(&iamapi.CreateAccountAliasRequest{AccountAlias: str("first")})
	if l := one.do(&iamapi.ListAccountAliasesRequest{}).(*iamapi.ListAccountAliasesResponse).AccountAliases; len(l) != 1 || l[0] != "second" {
		t.Errorf("%q", l)
	}
	one.refuses("NoSuchEntityException", &iamapi.DeleteAccountAliasRequest{AccountAlias: str("first")})
	one.do(&iamapi.DeleteAccountAliasRequest{AccountAlias: str("second")})
	if l := one.do(&iamapi.ListAccountAliasesRequest{}).(*iamapi.ListAccountAliasesResponse).AccountAliases; len(l) != 0 {
		t.Errorf("%q", l)
	}
	one.do(&iamapi.CreateUserRequest{UserName: str("u")})
	m := one.do(&iamapi.GetAccountSummaryRequest{}).(*iamapi.GetAccountSummaryResponse).SummaryMap
	if m["Users"] != 1 || m["AccountAccessKeysPresent"] != 1 || m["UsersQuota"] != 5000 {
		t.Errorf("%v", m)
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	c.do(&iamapi.CreateUserRequest{UserName: str("u")})
	tag := func(k, v string) iamapi.Tag { return iamapi.Tag{Key: str(k), Value: str(v)} }
	c.do(&iamapi.TagUserRequest{UserName: str("u"), Tags: []iamapi.Tag{tag("b", "1"), tag("a", "2")}})
	c.do(&iamapi.TagUserRequest{UserName: str("u"), Tags: []iamapi.Tag{tag("B", "3")}})
	list := func() string {
		var all []string
		for _, t := range c.do(&iamapi.ListUserTagsRequest{UserName: str("u")}).(*iamapi.ListUserTagsResponse).Tags {
			all = append(all, t.Key.V+"="+t.Value.V)
		}
		return strings.Join(all, " ")
	}
	if got := list(); got != "B=3 a=2" {
		t.Error(got)
	}
	c.refuses("InvalidInputException", &iamapi.TagUserRequest{UserName: str("u"), Tags: []iamapi.Tag{tag("AWS:x", "")}})
	c.do(&iamapi.UntagUserRequest{UserName: str("u"), TagKeys: []string{"b", "none"}})
	if got := list(); got != "a=2" {
		t.Error(got)
	}
	for i := range 49 {
		c.do(&iamapi.TagUserRequest{UserName: str("u"), Tags: []iamapi.Tag{tag("k"+strings.Repeat("x", i), "")}})
	}
	c.refuses("LimitExceededException", &iamapi.TagUserRequest{UserName: str("u"), Tags: []iamapi.Tag{tag("one more", "")}})
}

// What FIPS 140-3 mode keeps is read in every mode. The numbers are the common ones for PBKDF2 with SHA-256: "password", "salt",
// 4096 iterations, 32 octets.
func TestKeptPasswords(t *testing.T) {
	hash, err := hex.DecodeString("c5e478d59288c841aa530db6845c4c8d962893a001ce4e11a4963873aa98134a")
	if err != nil {
		t.Fatal(err)
	}
	salt := base64.RawStdEncoding.EncodeToString([]byte("salt"))
	kept := "$pbkdf2-sha256$i=4096$" + salt + "$" + base64.RawStdEncoding.EncodeToString(hash)
	for password, want := range map[string]bool{"password": true, "passwore": false, "": false} {
		if got, err := iam.SamePassword(secret.FromString(password), secret.FromString(kept)); got != want || err != nil {
			t.Errorf("%q: %v, %v", password, got, err)
		}
	}
	for _, bad := range []string{"", "x", "$", "$$", "$pbkdf2-sha256$i=1$" + salt + "$" + salt, "$md5$" + salt + "$" + salt, strings.Replace(kept, salt, "!", 1)} {
		if same, _ := iam.SamePassword(secret.FromString("password"), secret.FromString(bad)); same {
			t.Errorf("%q is the password", bad)
		}
	}
}
