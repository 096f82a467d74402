package flip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/conformance/server"
	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/policy"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// world is the service on a data directory, without its doors: thousands of these are opened.
type world struct {
	db         *store.DB
	store      *store.Store
	service    *kms.Service
	guard      *guard.Guard
	directory  *iam.Directory
	operations map[string]guard.Operation
}

// openWorld opens what is in dir. The error is what a server would refuse to start with.
func openWorld(dir string, log *slog.Logger) (_ *world, err error) {
	ctx := context.Background()
	w := &world{operations: map[string]guard.Operation{}}
	if w.db, err = store.Open(ctx, store.Options{Dir: dir, Logger: log}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.db.Close())
		}
	}()
	sealed, err := w.db.Sealed(ctx)
	if err != nil {
		return nil, err
	}
	keyFile, err := seal.ReadKeyFile(filepath.Join(dir, "seal.key"))
	if err != nil {
		return nil, err
	}
	barrier, err := seal.Unseal(ctx, sealed, seal.KeyFile("dev", keyFile))
	if err != nil {
		return nil, err
	}
	if w.store, err = w.db.Unseal(ctx, barrier); err != nil {
		return nil, err
	}
	w.directory = iam.New(iam.Config{Store: w.store, Barrier: barrier, Now: time.Now})
	w.guard = guard.New(guard.Config{Recorder: audit.NewMemory(100), Directory: w.directory, Now: time.Now})
	w.service = kms.New(kms.Config{
		Store: w.store, Custody: custody.New(soft.New(barrier)), Barrier: barrier, Guard: w.guard, Now: time.Now, CachedKeys: 100,
		Principals: w.directory,
	})
	for _, op := range w.service.Operations() {
		w.operations[op.Name] = op
	}
	return w, nil
}

// call makes a call as the root user of an account. The error is what the client gets.
func (w *world) call(account arn.Account, name string, in map[string]any) (wire.Output, error) {
	return w.callAs(&guard.Caller{
		Type: policy.AccountRoot, Account: account, ARN: account.Root("aws"), PrincipalID: string(account), UniqueID: string(account), AccessKeyID: "AKIA",
	}, name, in)
}

// callAs is call for another caller.
func (w *world) callAs(who *guard.Caller, name string, in map[string]any) (wire.Output, error) {
	op := w.operations[name]
	input := op.New()
	text, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	if err := wire.DecodeJSON(text, input.(wire.JSONInput)); err != nil {
		return nil, err
	}
	ctx := context.Background()
	out, failure := w.guard.Answer(guard.Meta{RequestID: arn.NewUUID(), Time: time.Now()}, func(c *guard.Call) (wire.Output, error) {
		c.Service, c.Name, c.Operation, c.Input = op.Service, op.Name, &op, input
		c.Identify(who, server.Region)
		return op.Do(ctx, c, input)
	})
	if failure != nil {
		return nil, failure
	}
	return out, nil
}

const (
	mine   arn.Account = server.Account
	theirs arn.Account = server.OtherAccount
)

// examine tries everything that could be wrong and returns what is: a wrong answer, or a right that nobody gave. That a
// call is refused is never wrong here. It also returns how many calls were answered as if nothing had been changed.
func (w *world) examine(in *installation) (wrong []error, asBefore int) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	asBefore += w.lastUses(in, say) // first: what is used from here on hides what is stored
	// What is due is decided by an index that is not authenticated; what happens then must not be.
	if err := w.service.RunDue(context.Background()); err == nil {
		asBefore++
	}
	decrypt := func(who arn.Account, what string, k knownKey, allowed bool) {
		for _, named := range []bool{true, false} {
			input := map[string]any{"CiphertextBlob": k.blob}
			if named {
				input["KeyId"] = k.arn
			}
			out, err := w.call(who, "Decrypt", input)
			switch {
			case err != nil:
				if !allowed {
					asBefore++
				}
			case !allowed:
				say("%s decrypted for %s", what, who)
			case !bytes.Equal(out.(*kmsapi.DecryptResponse).Plaintext.Expose(), k.plaintext):
				say("%s decrypted to something else", what)
			default:
				asBefore++
			}
		}
	}
	decrypt(mine, "an open key", in.open, true)
	decrypt(mine, "a key whose policy denies it", in.closed, false)
	decrypt(mine, "a lent key", in.lent, true)
	decrypt(theirs, "a lent key", in.lent, true)
	decrypt(mine, "a disabled key", in.disabled, false)
	decrypt(mine, "a key pending deletion", in.pending, false)
	for _, k := range []knownKey{in.open, in.closed, in.disabled, in.pending} {
		decrypt(theirs, "another account's key", k, false)
	}
	for name, k := range map[string]knownKey{openAlias: in.open, closedAlias: in.closed, in.open.id: in.open} {
		if out, err := w.call(mine, "Encrypt", map[string]any{"KeyId": name, "Plaintext": []byte("x")}); err == nil {
			if asBefore++; out.(*kmsapi.EncryptResponse).KeyID.V != k.arn {
				say("%s means %s", name, out.(*kmsapi.EncryptResponse).KeyID.V)
			}
		}
	}
	for _, k := range in.keys() {
		if out, err := w.call(mine, "GetKeyPolicy", map[string]any{"KeyId": k.id}); err == nil {
			if asBefore++; out.(*kmsapi.GetKeyPolicyResponse).Policy.V != in.policies[k.id] {
				say("the policy of %s reads %s", k.id, out.(*kmsapi.GetKeyPolicyResponse).Policy.V)
			}
		}
		if out, err := w.call(mine, "DescribeKey", map[string]any{"KeyId": k.id}); err == nil {
			m := out.(*kmsapi.DescribeKeyResponse).KeyMetadata
			if asBefore++; m.ARN.V != k.arn || m.CurrentKeyMaterialID.V != k.material || m.Description.V != "flip" || m.KeyState.V != in.state(k) {
				say("%s reads %+v", k.id, m)
			}
		}
	}
	wrong = append(wrong, w.credentials(&asBefore)...)
	asBefore += w.asPeople(in, say)
	return wrong, asBefore
}

// lastUses looks when keys were last used, and whether the policy that keeps one from deletion because of that still does. A
// use that is lost reads as none, and tracking that begins later gives nobody a right.
func (w *world) lastUses(in *installation, say func(string, ...any)) (asBefore int) {
	if _, err := w.call(mine, "ScheduleKeyDeletion", map[string]any{"KeyId": in.closed.id}); err == nil {
		say("a key that is in use was deleted")
	} else {
		asBefore++
	}
	for _, k := range in.keys() {
		out, err := w.call(mine, "GetKeyLastUsage", map[string]any{"KeyId": k.id})
		if err != nil {
			continue // refused
		}
		got, want := out.(*kmsapi.GetKeyLastUsageResponse), in.uses[k.id]
		switch use := got.KeyLastUsage; {
		case got.TrackingStartDate.V.Before(*want.TrackingStartDate):
			say("uses of %s are tracked since %v", k.id, got.TrackingStartDate.V)
		case !use.Operation.Set && !use.Timestamp.Set && !use.CloudTrailEventID.Set && !use.KmsRequestID.Set: // lost
		case use.Operation.V != string(want.KeyLastUsage.Operation) || !use.Timestamp.V.Equal(*want.KeyLastUsage.Timestamp) ||
			use.CloudTrailEventID.V != *want.KeyLastUsage.CloudTrailEventId || use.KmsRequestID.V != *want.KeyLastUsage.KmsRequestId:
			say("the last use of %s reads %+v", k.id, use)
		default:
			asBefore++
		}
	}
	return asBefore
}

func (in *installation) state(k knownKey) string {
	switch k.id {
	case in.disabled.id:
		return "Disabled"
	case in.pending.id:
		return "PendingDeletion"
	}
	return "Enabled"
}

// credentials looks whether an access key has got another secret or account.
func (w *world) credentials(asBefore *int) (wrong []error) {
	for _, want := range []struct {
		id, secret string
		account    arn.Account
	}{{server.KeyID, server.Secret, mine}, {server.OtherKeyID, server.OtherSecret, theirs}} {
		got, err := w.store.GetAccessKey(context.Background(), want.id)
		if err == nil {
			if *asBefore++; got.Account != want.account || string(got.Secret.Expose()) != want.secret || got.Principal != string(want.account) && got.Principal != want.account.Root("aws") {
				wrong = append(wrong, fmt.Errorf("access key %s reads %+v", want.id, got))
			}
		}
		if a, err := w.store.GetAccount(context.Background(), want.account); err == nil {
			if *asBefore++; a.ID != want.account {
				wrong = append(wrong, fmt.Errorf("account %s reads %+v", want.account, a))
			}
		}
	}
	return wrong
}

// log is a place for log lines.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// outcome is what came of one changed database.
type outcome struct {
	wrong    []error
	start    error // why it did not start
	asBefore int
	log      string
}

// try opens a database and examines it.
func (in *installation) try(t *testing.T, database []byte) outcome {
	t.Helper()
	dir := scratch(t)
	defer func() { check(t, os.RemoveAll(dir)) }()
	in.write(t, dir, database)
	l := &log{}
	logger := slog.New(slog.NewTextHandler(l, nil))
	old := slog.Default()
	slog.SetDefault(logger)
	defer slog.SetDefault(old)
	w, err := openWorld(dir, logger)
	if err != nil {
		return outcome{start: err, log: l.String()}
	}
	defer func() { _ = w.db.Close() }() // a file that is broken may not close well either
	wrong, asBefore := w.examine(in)
	return outcome{wrong, nil, asBefore, l.String()}
}
