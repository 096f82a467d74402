package kms_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/wire"
)

// quotas are those of AWS KMS but for some, in all accounts and Regions.
func quotas(values map[quota.ID]float64) quota.Settings {
	var s quota.Settings
	for id, v := range values {
		s.Values = append(s.Values, quota.Value{Name: quota.Of(id).Name, Value: &v})
	}
	return s
}

func TestQuotaOfKeys(t *testing.T) {
	w := newWorld(t, "")
	w.quotas = quotas(map[quota.ID]float64{quota.Keys: 3, quota.Own("kms", "CreateKey"): 1000})
	w.open()
	// AWS managed keys do not count.
	do[wire.Output](w, "DescribeKey", map[string]any{"KeyId": "alias/aws/s3"})
	first, _ := w.newKey()
	w.newKey()
	do[wire.Output](w, "CreateKey", map[string]any{"Origin": "EXTERNAL"})
	const refused = "LimitExceededException: KMS keys quota for this account in this region is 3, current usage is 3."
	w.refused(refused, "CreateKey", map[string]any{})
	w.refused(refused, "CreateKey", map[string]any{"Origin": "EXTERNAL"})
	w.as(bob, region).newKey()
	w.as(alice, "eu-west-1").newKey()
	// A key that is pending deletion still counts, one that is gone does not.
	do[wire.Output](w, "ScheduleKeyDeletion", map[string]any{"KeyId": first, "PendingWindowInDays": 7})
	w.refused(refused, "CreateKey", map[string]any{})
	w.pass(8 * day)
	w.newKey()
	w.refused(refused, "CreateKey", map[string]any{})
	n, err := w.store.CountKeys(t.Context(), alice, region)
	if err != nil || n != 4 {
		t.Errorf("%d keys, %v", n, err)
	}
}

func TestQuotaOfAliases(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	other, _ := w.newKey()
	for i := range 50 {
		w.done("CreateAlias", map[string]any{"AliasName": fmt.Sprintf("alias/%d", i), "TargetKeyId": id})
	}
	const refused = "LimitExceededException: Aliases per key quota for this account in this region is 50, current usage is 50."
	w.refused(refused, "CreateAlias", map[string]any{"AliasName": "alias/more", "TargetKeyId": id})
	w.refused("AlreadyExistsException: An alias with the name arn:aws:kms:us-east-1:111122223333:alias/7 already exists", "CreateAlias",
		map[string]any{"AliasName": "alias/7", "TargetKeyId": id})
	w.done("CreateAlias", map[string]any{"AliasName": "alias/more", "TargetKeyId": other})
	w.refused(refused, "UpdateAlias", map[string]any{"AliasName": "alias/more", "TargetKeyId": id})
	w.done("UpdateAlias", map[string]any{"AliasName": "alias/7", "TargetKeyId": id}) // it is there already
	w.done("UpdateAlias", map[string]any{"AliasName": "alias/7", "TargetKeyId": other})
	w.done("UpdateAlias", map[string]any{"AliasName": "alias/more", "TargetKeyId": id})
	w.done("DeleteAlias", map[string]any{"AliasName": "alias/more"})
	w.done("CreateAlias", map[string]any{"AliasName": "alias/more", "TargetKeyId": id})
}

// A key policy of 32,768 octets is taken, one of an octet more is not, for a new key as for one that is there.
func TestQuotaOfPolicies(t *testing.T) {
	w := newWorld(t, "")
	id, _ := w.newKey()
	text := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`
	text += strings.Repeat(" ", 32768-len(text))
	do[wire.Output](w, "CreateKey", map[string]any{"Policy": text})
	w.done("PutKeyPolicy", map[string]any{"KeyId": id, "Policy": text})
	for operation, request := range map[string]map[string]any{"CreateKey": {}, "PutKeyPolicy": {"KeyId": id}} {
		request["Policy"] = text + " "
		if _, failure := w.try(operation, request); failure == nil || failure.Code != "LimitExceededException" {
			t.Errorf("%s: %v", operation, failure)
		}
	}
}

// A replica counts in its own Region, and one too many is not made.
func TestQuotaOfReplicas(t *testing.T) {
	w := newWorld(t, "")
	w.quotas = quotas(map[quota.ID]float64{quota.Keys: 2, quota.Own("kms", "CreateKey"): 1000})
	w.open()
	id := w.newSet(in{}, tokyo)
	w.in(ireland).newKey()
	last, _ := w.in(ireland).newKey()
	const refused = "LimitExceededException: KMS keys quota for this account in this region is 2, current usage is 2."
	w.refused(refused, "ReplicateKey", in{"KeyId": id, "ReplicaRegion": string(ireland)})
	if c := w.describe(id).MultiRegionConfiguration; len(c.ReplicaKeys) != 1 {
		t.Errorf("%+v", c)
	}
	do[wire.Output](w.in(ireland), "ScheduleKeyDeletion", in{"KeyId": last, "PendingWindowInDays": 7})
	w.pass(8 * day)
	w.replicate(id, ireland)
}

// An account that has all the keys it may have cannot have others made for nothing.
func TestNothingIsMadeOverTheQuota(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.quotas = quotas(map[quota.ID]float64{quota.Keys: 2, quota.Own("kms", "CreateKey"): 1000})
	w.restart()
	do[wire.Output](w, "DescribeKey", map[string]any{"KeyId": "alias/aws/s3"})
	w.newKey()
	w.newKey()
	w.making.meanwhile(func() { t.Error("something was made") })
	w.refused("LimitExceededException: KMS keys quota for this account in this region is 2, current usage is 2.", "CreateKey",
		map[string]any{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
	w.making.meanwhile(func() {})
	// Of two calls for which there was room at first, the second has none any more.
	w.quotas = quotas(map[quota.ID]float64{quota.Keys: 3, quota.Own("kms", "CreateKey"): 1000})
	w.restart()
	w.making.meanwhile(func() { w.newKey() })
	w.refused("LimitExceededException: KMS keys quota for this account in this region is 3, current usage is 3.", "CreateKey", map[string]any{})
}

// The right to make a key can go while its material is made.
func TestRightsTakenWhileAKeyIsMade(t *testing.T) {
	w := newWorld(t, "")
	for what, right := range map[string]string{"the key": "kms:CreateKey", "its tags": "kms:TagResource"} {
		eve := w.user("eve").may(allowing(`"kms:*"`, "*", ""))
		request := map[string]any{"Tags": []in{{"TagKey": "a", "TagValue": "b"}}}
		if _, failure := eve.try("CreateKey", request); failure != nil {
			t.Fatal(failure)
		}
		before, err := w.store.CountKeys(t.Context(), alice, region)
		w.must(err)
		less := strings.Replace(allowing(`"kms:*"`, "*", ""), `"Action":"kms:*"`, `"NotAction":"`+right+`"`, 1)
		w.making.meanwhile(func() { *eve.caller.Rights = *eve.may(less).caller.Rights })
		if _, failure := eve.try("CreateKey", request); failure == nil || failure.Code != "AccessDeniedException" {
			t.Errorf("%s: %v", what, failure)
		}
		if after, err := w.store.CountKeys(t.Context(), alice, region); err != nil || after != before {
			t.Errorf("%s: %d keys, then %d, %v", what, before, after, err)
		}
	}
}
