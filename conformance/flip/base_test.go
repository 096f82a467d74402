package flip_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keywright/keywright/conformance/server"
)

// installation is a data directory that a server made and left, and what somebody who looks from outside knows of it.
type installation struct {
	database []byte
	sealKey  []byte
	audit    map[string][]byte // the files of the audit log, without which the server does not start

	open, closed, lent, disabled, pending knownKey // closed denies its own account to decrypt, and to delete it while it is in use, lent lets the other account in
	policies                              map[string]string
	uses                                  map[string]*kms.GetKeyLastUsageOutput // by key id
	people                                []person
}

// knownKey is a key with a ciphertext under it.
type knownKey struct {
	id, arn, material string
	blob, plaintext   []byte
}

const (
	openAlias   = "alias/flip/open"
	closedAlias = "alias/flip/closed"
)

// statement returns one statement of a key policy.
func statement(effect, account, action string) string {
	return `{"Effect":"` + effect + `","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"` + action + `","Resource":"*"}`
}

// conditioned adds a condition to a statement.
func conditioned(statement, condition string) string {
	return strings.TrimSuffix(statement, "}") + `,"Condition":` + condition + "}"
}

// install has a server make an installation with keys of every state and with policies that open and close.
func install(t *testing.T) *installation {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := server.Start(t, dir, filepath.Join(t.TempDir(), "log"))
	c, ctx := s.KMS(), server.Context(t)
	in := &installation{policies: map[string]string{}, uses: map[string]*kms.GetKeyLastUsageOutput{}}
	for _, k := range []*knownKey{&in.open, &in.closed, &in.lent, &in.disabled, &in.pending} {
		*k = newKey(t, c)
	}
	setPolicy := func(k knownKey, statements string) {
		_, err := c.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &k.id, Policy: aws.String(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)})
		check(t, err)
	}
	setPolicy(in.closed, statement("Allow", server.Account, "kms:*")+","+statement("Deny", server.Account, "kms:Decrypt")+","+
		conditioned(statement("Deny", server.Account, "kms:ScheduleKeyDeletion"), `{"NumericLessThan":{"kms:TrailingDaysWithoutKeyUsage":"90"}}`))
	setPolicy(in.lent, statement("Allow", server.Account, "kms:*")+","+statement("Allow", server.OtherAccount, "kms:Decrypt"))
	for alias, k := range map[string]knownKey{openAlias: in.open, closedAlias: in.closed} {
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &k.id})
		check(t, err)
	}
	_, err := c.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &in.open.id})
	check(t, err)
	_, err = c.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &in.disabled.id})
	check(t, err)
	_, err = c.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &in.pending.id})
	check(t, err)
	for _, k := range in.keys() {
		out, err := c.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &k.id})
		check(t, err)
		in.policies[k.id] = *out.Policy
		if in.uses[k.id], err = c.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &k.id}); err != nil || in.uses[k.id].KeyLastUsage.Operation != "Encrypt" {
			t.Fatalf("the last use of a key reads %+v, %v", in.uses[k.id], err)
		}
	}
	in.populate(t, s)
	s.Stop()
	in.database, err = os.ReadFile(filepath.Join(dir, "keywright.db"))
	check(t, err)
	in.sealKey, err = os.ReadFile(filepath.Join(dir, "seal.key"))
	check(t, err)
	in.audit = map[string][]byte{}
	files, err := os.ReadDir(filepath.Join(dir, "audit"))
	check(t, err)
	for _, f := range files {
		in.audit[f.Name()], err = os.ReadFile(filepath.Join(dir, "audit", f.Name()))
		check(t, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "keywright.db-wal")); err == nil {
		t.Fatal("the server left a journal behind: the database file is not all there is")
	}
	return in
}

func (in *installation) keys() []knownKey {
	return []knownKey{in.open, in.closed, in.lent, in.disabled, in.pending}
}

// write puts a copy of the installation, with another database, into an empty directory.
func (in *installation) write(t *testing.T, dir string, database []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(dir, "audit"), 0o700))
	check(t, os.WriteFile(filepath.Join(dir, "keywright.db"), database, 0o600))
	for name, text := range in.audit {
		check(t, os.WriteFile(filepath.Join(dir, "audit", name), text, 0o600))
	}
	check(t, os.WriteFile(filepath.Join(dir, "seal.key"), in.sealKey, 0o600))
}

func newKey(t *testing.T, c *kms.Client) knownKey {
	t.Helper()
	made, err := c.CreateKey(context.Background(), &kms.CreateKeyInput{Description: aws.String("flip"), Tags: nil})
	check(t, err)
	k := knownKey{id: *made.KeyMetadata.KeyId, arn: *made.KeyMetadata.Arn, material: *made.KeyMetadata.CurrentKeyMaterialId, plaintext: make([]byte, 40)}
	_, _ = rand.Read(k.plaintext)
	out, err := c.Encrypt(context.Background(), &kms.EncryptInput{KeyId: &k.id, Plaintext: k.plaintext})
	check(t, err)
	k.blob = out.CiphertextBlob
	return k
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
