package flip_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keywright/keywright/conformance/server"
)

// One octet of every column, with the real server on the directory and a real client in front of it.
func TestFlipUnderServer(t *testing.T) {
	in := install(t)
	all := sites(t, in)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var atStart, refused, gone int
	tried := oneOfEachColumn(all, 0)
	for _, s := range tried {
		dir := scratch(t)
		in.write(t, filepath.Join(dir, "data"), s.flipped(t, in, uint(rand.IntN(8))))
		logPath := filepath.Join(dir, "log")
		srv, err := server.Try(filepath.Join(dir, "data"), logPath)
		if err != nil {
			atStart++
			named := strings.Contains(err.Error(), s.row) || s.table == "seals" || s.table == "domain_keys" // these have a message of their own
			if text := err.Error(); strings.Contains(text, "goroutine ") || !strings.Contains(text, "keywright: ") || !named && !s.key() {
				t.Errorf("%v: it did not start, but says only %s", s, text)
			}
			check(t, os.RemoveAll(dir))
			continue
		}
		in.examineServer(t, s, srv)
		log := srv.Log(t)
		switch named := strings.Contains(log, "table="+s.table) || strings.Contains(log, `"table":"`+s.table); {
		case named && strings.Contains(log, s.row):
			refused++
		case s.key():
			gone++
		default:
			t.Errorf("%v: the log does not name it: %s", s, log)
		}
		srv.Kill()
		check(t, os.RemoveAll(dir))
	}
	t.Logf("%d columns under a real server: %d refused at the start, %d refused and named when read, %d rows no longer found", len(tried), atStart, refused, gone)
}

// examineServer is world.examine from outside.
func (in *installation) examineServer(t *testing.T, s site, srv *server.Server) {
	t.Helper()
	ctx := context.Background()
	decrypt := func(c *kms.Client, who string, k knownKey, allowed bool) {
		out, err := c.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: k.blob, KeyId: &k.arn})
		if err == nil && (!allowed || !bytes.Equal(out.Plaintext, k.plaintext)) {
			t.Errorf("%v: %s decrypted with %s, allowed: %v", s, who, k.id, allowed)
		}
	}
	mine, theirs := srv.KMS(), srv.OtherKMS()
	for _, k := range in.keys() { // first: what is used from here on hides what is stored
		out, err := mine.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &k.id})
		if err != nil || out.KeyLastUsage.Timestamp == nil {
			continue // refused, or lost
		}
		if got, want := out.KeyLastUsage, in.uses[k.id].KeyLastUsage; got.Operation != want.Operation || !got.Timestamp.Equal(*want.Timestamp) ||
			*got.CloudTrailEventId != *want.CloudTrailEventId || *got.KmsRequestId != *want.KmsRequestId {
			t.Errorf("%v: the last use of %s reads %+v", s, k.id, got)
		}
	}
	if _, err := mine.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &in.closed.id}); err == nil {
		t.Errorf("%v: a key that is in use was deleted", s)
	}
	for _, k := range in.keys() {
		decrypt(mine, "the owner", k, k.id == in.open.id || k.id == in.lent.id)
		decrypt(theirs, "another account", k, k.id == in.lent.id)
		if out, err := mine.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &k.id}); err == nil && *out.Policy != in.policies[k.id] {
			t.Errorf("%v: the policy of %s reads %s", s, k.id, *out.Policy)
		}
		if out, err := mine.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &k.id}); err == nil && string(out.KeyMetadata.KeyState) != in.state(k) {
			t.Errorf("%v: %s is %s", s, k.id, out.KeyMetadata.KeyState)
		}
	}
	for name, k := range map[string]knownKey{openAlias: in.open, closedAlias: in.closed} {
		if out, err := mine.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String(name), Plaintext: []byte("x")}); err == nil && *out.KeyId != k.arn {
			t.Errorf("%v: %s means %s", s, name, *out.KeyId)
		}
	}
	// The account rows are read when a policy names an account.
	_, _ = mine.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &in.lent.id, Policy: aws.String(`{"Version":"2012-10-17","Statement":[` +
		statement("Allow", server.Account, "kms:*") + "," + statement("Allow", server.OtherAccount, "kms:Decrypt") + `]}`)})
	if _, err := srv.KMSWith(server.KeyID, "wrong", "").ListKeys(ctx, &kms.ListKeysInput{}); err == nil {
		t.Errorf("%v: a wrong secret was let in", s)
	}
}
