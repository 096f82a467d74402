package pipeline_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

// iam makes a call to IAM as the root user, that must succeed, and returns its body. arguments are names and values in turn.
func (w *world) iam(action string, arguments ...string) string {
	w.t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2010-05-08"}}
	for i := 0; i < len(arguments); i += 2 {
		form.Set(arguments[i], arguments[i+1])
	}
	a := w.serve(w.sign(formRequest(form.Encode()), aliceRoot, "iam"))
	if a.Status != 200 {
		w.t.Fatalf("%s(%v): %d %s", action, arguments, a.Status, a.body)
	}
	return a.body
}

// user makes a user with an access key.
func (w *world) user(name string) (c sigv4.Credential, id string) {
	w.t.Helper()
	id = element(w.iam("CreateUser", "UserName", name), "UserId")
	keys := w.iam("CreateAccessKey", "UserName", name)
	return sigv4.Credential{AccessKeyID: element(keys, "AccessKeyId"), Secret: secret.FromString(element(keys, "SecretAccessKey"))}, id
}

// fire takes everything from a user and deletes it.
func (w *world) fire(name string, c sigv4.Credential) {
	w.t.Helper()
	w.iam("DeleteAccessKey", "UserName", name, "AccessKeyId", c.AccessKeyID)
	w.iam("DeleteUser", "UserName", name)
}

// as makes a call to KMS and returns what went wrong, "" for nothing.
func (w *world) as(c sigv4.Credential, operation, body string) string {
	w.t.Helper()
	a := w.serve(w.sign(jsonRequest(operation, body), c, "kms"))
	if a.Status == 200 {
		return ""
	}
	var failure struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	w.must(json.Unmarshal([]byte(a.body), &failure))
	return failure.Type + ": " + failure.Message
}

// What was given to a user by name is that user's, and not a namesake's: in key policies and in grants.
func TestNamesakes(t *testing.T) {
	w := newWorld(t)
	const carol = "arn:aws:iam::111122223333:user/carol"
	c, id := w.user("carol")
	named, granted := w.newKey(), w.newKey()
	policy := func(principals string) string {
		text, err := json.Marshal(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":` + principals + `},"Action":"kms:*","Resource":"*"}]}`)
		w.must(err)
		return string(text)
	}
	w.kms("PutKeyPolicy", `{"KeyId":"`+named+`","Policy":`+policy(`["111122223333","`+carol+`"]`)+`}`)
	grant := w.kms("CreateGrant", `{"KeyId":"`+granted+`","GranteePrincipal":"`+carol+`","RetiringPrincipal":"`+carol+`","Operations":["Encrypt"]}`)
	encrypt := func(key string) string { return `{"KeyId":"` + key + `","Plaintext":"eA=="}` }
	for _, key := range []string{named, granted} {
		if failure := w.as(c, "Encrypt", encrypt(key)); failure != "" {
			t.Errorf("carol: %s", failure)
		}
	}

	w.fire("carol", c)
	for _, key := range []string{named, granted} {
		if failure := w.as(c, "Encrypt", encrypt(key)); !strings.HasPrefix(failure, "UnrecognizedClientException") {
			t.Errorf("deleted: %s", failure)
		}
	}
	namesake, _ := w.user("carol")
	for _, key := range []string{named, granted} {
		want := "AccessDeniedException: User: " + carol + " is not authorized to perform: kms:Encrypt on resource: arn:aws:kms:us-east-1:111122223333:key/" + key +
			" because no identity-based policy allows the kms:Encrypt action"
		if failure := w.as(namesake, "Encrypt", encrypt(key)); failure != want {
			t.Errorf("a namesake: %s", failure)
		}
	}
	if failure := w.as(namesake, "RetireGrant", `{"GrantToken":"`+grant["GrantToken"].(string)+`"}`); !strings.HasPrefix(failure, "AccessDeniedException") {
		t.Errorf("a namesake retires: %s", failure)
	}
	if text := w.kms("GetKeyPolicy", `{"KeyId":"`+named+`"}`)["Policy"].(string); !strings.Contains(text, id) || strings.Contains(text, carol) {
		t.Errorf("the policy shows %s", text)
	}
	list := w.kms("ListGrants", `{"KeyId":"`+granted+`"}`)["Grants"].([]any)[0].(map[string]any)
	if list["GranteePrincipal"] != id || list["RetiringPrincipal"] != id {
		t.Errorf("the grant shows %v", list)
	}
	if failure := w.as(aliceRoot, "PutKeyPolicy", `{"KeyId":"`+named+`","Policy":`+policy(`["111122223333","`+id+`"]`)+`}`); !strings.HasPrefix(failure, "MalformedPolicyDocumentException") {
		t.Errorf("the bare id: %s", failure)
	}
}

// A user that is renamed keeps what it has, and shows under its new name.
func TestRenamedUsers(t *testing.T) {
	w := newWorld(t)
	const old, now = "arn:aws:iam::111122223333:user/carol", "arn:aws:iam::111122223333:user/staff/karol"
	c, _ := w.user("carol")
	key := w.newKey()
	w.kms("CreateGrant", `{"KeyId":"`+key+`","GranteePrincipal":"`+old+`","Operations":["Encrypt"]}`)
	w.iam("UpdateUser", "UserName", "carol", "NewUserName", "karol", "NewPath", "/staff/")
	if failure := w.as(c, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`); failure != "" {
		t.Error(failure)
	}
	if g := w.kms("ListGrants", `{"KeyId":"`+key+`","GranteePrincipal":"`+now+`"}`)["Grants"].([]any); len(g) != 1 || g[0].(map[string]any)["GranteePrincipal"] != now {
		t.Errorf("%v", g)
	}
	if failure := w.as(aliceRoot, "CreateGrant", `{"KeyId":"`+key+`","GranteePrincipal":"`+old+`","Operations":["Encrypt"]}`); failure !=
		"InvalidArnException: ARN does not refer to a valid principal: "+old {
		t.Errorf("the old name: %s", failure)
	}
}

// A change of identity policies holds for the very next request.
func TestIdentityPoliciesHoldAtOnce(t *testing.T) {
	w := newWorld(t)
	c, _ := w.user("dave")
	key := w.newKey()
	try := func() string { return w.as(c, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`) }
	if failure := try(); !strings.HasPrefix(failure, "AccessDeniedException") {
		t.Errorf("without a policy: %s", failure)
	}
	w.iam("PutUserPolicy", "UserName", "dave", "PolicyName", "use",
		"PolicyDocument", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`)
	if failure := try(); failure != "" {
		t.Errorf("with a policy: %s", failure)
	}
	w.iam("DeleteUserPolicy", "UserName", "dave", "PolicyName", "use")
	if failure := try(); !strings.HasPrefix(failure, "AccessDeniedException") {
		t.Errorf("without it again: %s", failure)
	}
}
