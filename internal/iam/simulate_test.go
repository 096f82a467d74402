package iam_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// told writes the results of a simulation in a line.
func told(out wire.Output) string {
	var all []string
	for _, r := range out.(*iamapi.SimulatePolicyResponse).EvaluationResults {
		line := r.EvalActionName.V + " " + r.EvalResourceName.V + " " + r.EvalDecision.V
		for _, m := range r.MatchedStatements {
			line += " " + m.SourcePolicyType.V + ":" + m.SourcePolicyID.V
		}
		if d := r.PermissionsBoundaryDecisionDetail; d != nil && !d.AllowedByPermissionsBoundary.V {
			line += " out of bounds"
		}
		if d := r.OrganizationsDecisionDetail; d != nil && !d.AllowedByOrganizations.V {
			line += " not for this account"
		}
		if len(r.MissingContextValues) > 0 {
			line += " missing " + strings.Join(r.MissingContextValues, ",")
		}
		all = append(all, line)
	}
	return strings.Join(all, "; ")
}

func TestSimulateCustomPolicy(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	const key = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	policy := func(statements string) string {
		return `{"Version":"2012-10-17","Statement":[` + statements + `]}`
	}
	decrypt := policy(`{"Effect":"Allow","Action":"kms:Decrypt","Resource":"` + key + `"}`)
	for _, tt := range []struct {
		in   iamapi.SimulateCustomPolicyRequest
		want string
	}{
		{iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{decrypt}}, "kms:Decrypt " + key + " allowed none:PolicyInputList.1"},
		{iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{decrypt}, ResourceARNs: []string{"*"}}, "kms:Decrypt * implicitDeny"},
		{
			iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{decrypt, policy(`{"Effect":"Deny","Action":"kms:*","Resource":"*"}`)}},
			"kms:Decrypt " + key + " explicitDeny none:PolicyInputList.2",
		},
		{
			iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{decrypt}, PermissionsBoundaryPolicyInputList: []string{policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}},
			"kms:Decrypt " + key + " implicitDeny out of bounds",
		},
		{
			iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{decrypt}, OrderedOrganizationPolicyInputList: []iamapi.OrderedOrganizationPolicyType{
				{ServiceControlPolicyInputList: []string{allowAll}},
				{ServiceControlPolicyInputList: []string{policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}},
			}},
			"kms:Decrypt " + key + " implicitDeny not for this account",
		},
		{
			iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{policy(`{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"s3"}}}`)}},
			"kms:Decrypt " + key + " implicitDeny missing kms:viaservice",
		},
		{
			iamapi.SimulateCustomPolicyRequest{
				PolicyInputList: []string{policy(`{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"s3"}}}`)},
				ContextEntries:  []iamapi.ContextEntry{{ContextKeyName: str("kms:viaService"), ContextKeyValues: []string{"s3"}, ContextKeyType: str("string")}},
			},
			"kms:Decrypt " + key + " allowed none:PolicyInputList.1",
		},
		{
			iamapi.SimulateCustomPolicyRequest{
				PolicyInputList: []string{policy(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`)}, CallerARN: str("arn:aws:iam::111122223333:user/x"),
				ResourcePolicy: str(policy(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/x"},"Action":"kms:*","Resource":"*"}`)),
			},
			"kms:Decrypt " + key + " allowed resource:ResourcePolicy",
		},
	} {
		if tt.in.ActionNames = []string{"kms:Decrypt"}; tt.in.ResourceARNs == nil {
			tt.in.ResourceARNs = []string{key}
		}
		if got := told(c.do(&tt.in)); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	c.refuses("InvalidInputException: Invalid policy PolicyInputList.1", &iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{"x"}, ActionNames: []string{"kms:Decrypt"}})
	c.refuses("InvalidInputException: Invalid action", &iamapi.SimulateCustomPolicyRequest{PolicyInputList: []string{decrypt}, ActionNames: []string{"Decrypt"}})
	keys := c.do(&iamapi.GetContextKeysForCustomPolicyRequest{PolicyInputList: []string{
		policy(`{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:s3:::${aws:username}","Condition":{"StringEquals":{"kms:ViaService":"s3","aws:Username":"x"}}}`),
	}}).(*iamapi.GetContextKeysForPolicyResponse).ContextKeyNames
	if got := strings.Join(keys, " "); got != "aws:username kms:ViaService" {
		t.Errorf("keys %s", got)
	}
}

func TestSimulatePrincipalPolicy(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	user := c.do(&iamapi.CreateUserRequest{UserName: str("bobby"), Path: str("/x/")}).(*iamapi.CreateUserResponse).User.ARN
	group := c.do(&iamapi.CreateGroupRequest{GroupName: str("devs")}).(*iamapi.CreateGroupResponse).Group.ARN
	c.do(&iamapi.AddUserToGroupRequest{UserName: str("bobby"), GroupName: str("devs")})
	c.do(&iamapi.PutGroupPolicyRequest{GroupName: str("devs"), PolicyName: str("g"), PolicyDocument: str("{\n \"Version\":\"2012-10-17\",\n \"Statement\":[\n  {\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"} ,\n  {\"Effect\":\"Allow\",\"Action\":\"kms:Decrypt\",\"Resource\":\"*\"}]}")})
	c.do(&iamapi.AttachUserPolicyRequest{UserName: str("bobby"), PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")})
	ask := func(in *iamapi.SimulatePrincipalPolicyRequest) wire.Output {
		in.ActionNames = []string{"kms:Decrypt", "iam:GetUser"}
		return c.do(in)
	}
	out := ask(&iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: user})
	if got, want := told(out), "kms:Decrypt * allowed group:group_devs_g; iam:GetUser * allowed aws-managed:IAMFullAccess"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if m := out.(*iamapi.SimulatePolicyResponse).EvaluationResults[0].MatchedStatements[0]; m.StartPosition.Line.V != 5 || m.StartPosition.Column.V != 3 || m.EndPosition.Line.V != 5 {
		t.Errorf("from %+v to %+v", *m.StartPosition, *m.EndPosition)
	}
	if got, want := told(ask(&iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: group})), "kms:Decrypt * allowed group:group_devs_g; iam:GetUser * implicitDeny"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	exclusions := []iamapi.PolicyIdentifier{
		{PolicyType: str("aws-managed"), PolicyARN: str("arn:aws:iam::aws:policy/IAMFullAccess")},
		{PolicyType: str("inline"), InlinePolicyIdentifier: &iamapi.InlinePolicyIdentifierType{PolicyName: str("g"), AttachmentType: str("group"), AttachmentName: str("devs")}},
	}
	if got, want := told(ask(&iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: user, PolicyExclusionList: exclusions})), "kms:Decrypt * implicitDeny; iam:GetUser * implicitDeny"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c.refuses("InvalidInputException: Policies of type scp cannot be excluded.", &iamapi.SimulatePrincipalPolicyRequest{
		PolicySourceARN: user, ActionNames: []string{"kms:Decrypt"}, PolicyExclusionList: []iamapi.PolicyIdentifier{{PolicyType: str("scp")}},
	})
	first := ask(&iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: user, MaxItems: wire.Some[int32](1)}).(*iamapi.SimulatePolicyResponse)
	second := ask(&iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: user, Marker: first.Marker}).(*iamapi.SimulatePolicyResponse)
	if !first.IsTruncated.V || len(first.EvaluationResults) != 1 || len(second.EvaluationResults) != 1 || second.EvaluationResults[0].EvalActionName.V != "iam:GetUser" {
		t.Errorf("%+v, %+v", *first, *second)
	}
	c.refuses("NoSuchEntityException", &iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: str("arn:aws:iam::111122223333:user/bobby"), ActionNames: []string{"kms:Decrypt"}})
}

func FuzzStatementPlaces(f *testing.F) {
	f.Add(allowAll)
	f.Add(`{"Statement":{"a":1}}`)
	f.Add(`{"Statement":[ 1 , {}`)
	f.Add(`{"a":[],"Statement":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range iam.StatementPlaces(text) {
			if p[0] > p[1] || p[0] < 0 || p[1] > len(text) {
				t.Errorf("a statement from %d to %d", p[0], p[1])
			}
		}
	})
}

// One request cannot keep a processor busy: pages get smaller as policies grow.
func TestSimulationsAreBounded(t *testing.T) {
	w := newWorld(t)
	c := w.client(w.root(alice))
	policy := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	list := func(n int, what string) []string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(what, i)
		}
		return all
	}
	stars := list(14, `{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:**`+strings.Repeat("a", 600)+`b%d"}`)
	many := list(100, `{"Effect":"Allow","Action":"kms:Decrypt","Resource":"arn:aws:kms:us-east-1:111122223333:key/%d"}`)
	long := "arn:aws:kms:us-east-1:111122223333:key/" + strings.Repeat("a", 2000)
	for about, in := range map[string]*iamapi.SimulateCustomPolicyRequest{
		"many statements": {PolicyInputList: slices.Repeat([]string{policy(many...)}, 13), ResourceARNs: list(100, "arn:aws:kms:us-east-1:111122223333:key/%d")},
		"many stars":      {PolicyInputList: slices.Repeat([]string{policy(stars...)}, 12), ResourceARNs: list(100, long+"%d")},
	} {
		in.ActionNames, in.MaxItems = list(100, "kms:Decrypt%d"), wire.Some[int32](1000)
		began := time.Now()
		out := c.do(in).(*iamapi.SimulatePolicyResponse)
		took := time.Since(began)
		t.Logf("%s: %d items in %v", about, len(out.EvaluationResults), took)
		if n := len(out.EvaluationResults); n == 0 || n > 100 || !out.IsTruncated.V || took > 10*time.Second {
			t.Errorf("%s: %d items in %v, %v", about, n, took, out.IsTruncated.V)
		}
		in.Marker = out.Marker
		if next := c.do(in).(*iamapi.SimulatePolicyResponse).EvaluationResults; next[0].EvalResourceName == out.EvaluationResults[0].EvalResourceName {
			t.Errorf("%s: the second page is the first", about)
		}
	}
	ask := func(in *iamapi.SimulateCustomPolicyRequest) *iamapi.SimulateCustomPolicyRequest {
		in.ActionNames = []string{"kms:Decrypt"}
		return in
	}
	c.refuses("InvalidInputException: The policies have more than 131072 characters in all.",
		ask(&iamapi.SimulateCustomPolicyRequest{PolicyInputList: slices.Repeat([]string{policy(many...)}, 20)}))
	c.refuses("InvalidInputException: The policies and context values are too large to be simulated together", ask(&iamapi.SimulateCustomPolicyRequest{
		PolicyInputList: []string{policy(many...)}, ContextEntries: []iamapi.ContextEntry{{
			ContextKeyName: str("kms:ViaService"), ContextKeyType: str("stringList"), ContextKeyValues: list(100_000, "value %d"),
		}},
	}))
}

// What binds other accounts is not told to those who suppose to be there.
func TestSimulationsKeepControlsOfOthersSecret(t *testing.T) {
	w, ctx := newWorld(t), context.Background()
	c := w.client(w.root(alice))
	w.root(bob)
	user := c.do(&iamapi.CreateUserRequest{UserName: str("ann")}).(*iamapi.CreateUserResponse).User.ARN
	c.do(&iamapi.PutUserPolicyRequest{UserName: str("ann"), PolicyName: str("p"), PolicyDocument: str(allowAll)})
	w.user(bob, "spied")
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringNotEquals":{"aws:PrincipalTag/secret":"x"}}}]}`
	forServices := strings.Replace(deny, `"Principal":"*",`, "", 1)
	ask := func() *iamapi.SimulatePrincipalPolicyRequest {
		return &iamapi.SimulatePrincipalPolicyRequest{PolicySourceARN: user, ActionNames: []string{"kms:Decrypt"}}
	}
	w.must(w.directory.PutControl(ctx, bob, iam.ServiceControl, "s", forServices))
	w.must(w.directory.PutControl(ctx, bob, iam.ResourceControl, "r", deny))
	const allowed = "kms:Decrypt * allowed user:user_ann_p"
	as := ask()
	as.CallerARN = str("arn:aws:iam::444455556666:user/team/spied")
	as.ResourcePolicy = str(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`)
	if got := told(c.do(as)); strings.Contains(got, "not for this account") || strings.Contains(got, "explicitDeny") || strings.Contains(got, "missing") {
		t.Errorf("as somebody of another account: %s", got)
	}
	at := ask()
	at.ResourceOwner, at.ResourcePolicy = str("arn:aws:iam::444455556666:root"), as.ResourcePolicy
	if got := told(c.do(at)); strings.Contains(got, "explicitDeny") || strings.Contains(got, "missing") {
		t.Errorf("on something of another account: %s", got)
	}
	// Those of one's own account count, but what they ask is not told.
	w.must(w.directory.PutControl(ctx, alice, iam.ServiceControl, "s", forServices))
	if got, want := told(c.do(ask())), "kms:Decrypt * explicitDeny not for this account"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	w.must(w.directory.DeleteControl(ctx, alice, iam.ServiceControl, "s"))
	if got := told(c.do(ask())); got != allowed {
		t.Errorf("got  %s\nwant %s", got, allowed)
	}
}
