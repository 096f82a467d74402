package kill_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/keywright/keywright/conformance/server"
)

// ownKey is what a worker knows of a key that it made. A fact that was tried but not acknowledged may hold or not.
type ownKey struct {
	id                     string
	policy, policyTried    string // Sid that the policy has
	deletes, deletionTried bool
	blobs                  []sealed
	grants                 []*ownGrant
}

// ownGrant is a grant: known from its answer on, until it is revoked.
type ownGrant struct {
	id             string
	revoked, tried bool
}

type sealed struct{ blob, plaintext []byte }

// ownAlias is an alias and the id of its target; none is empty.
type ownAlias struct{ name, target, tried string }

// worker makes keys and aliases of its own, so that it knows what each must look like.
type worker struct {
	n       int
	rng     *mrand.Rand
	client  *kms.Client
	keys    []*ownKey
	aliases []*ownAlias
	acked   []string // request ids
	err     error    // a refusal that should not have been
}

// run works until the server is gone.
func (w *worker) run() {
	for {
		err := w.step()
		var refusal smithy.APIError
		if errors.As(err, &refusal) {
			w.err = fmt.Errorf("worker %d: %w", w.n, err)
			return
		}
		if err != nil {
			return // killed: the outcome of this step is unknown
		}
	}
}

// ack notes the request id of an acknowledged call.
func (w *worker) ack(m middleware.Metadata) {
	id, _ := awsmiddleware.GetRequestIDMetadata(m)
	w.acked = append(w.acked, id)
}

// step makes one call. Facts move from tried to known only after the answer.
func (w *worker) step() error {
	k := w.pick()
	if k == nil || w.rng.IntN(100) < 25 {
		return w.createKey()
	}
	switch n := w.rng.IntN(100); {
	case n < 25:
		return w.pointAlias(k)
	case n < 50:
		return w.putPolicy(k)
	case n < 62:
		return w.schedule(k)
	case n < 82:
		return w.grant(k)
	}
	return w.encrypt(k)
}

// pick returns one of the newest keys that is not about to go, or nil.
func (w *worker) pick() *ownKey {
	for range 5 {
		if n := len(w.keys); n > 0 {
			if k := w.keys[n-1-w.rng.IntN(min(n, 20))]; !k.deletes && !k.deletionTried {
				return k
			}
		}
	}
	return nil
}

var background = context.Background()

func (w *worker) createKey() error {
	out, err := w.client.CreateKey(background, &kms.CreateKeyInput{})
	if err != nil {
		return err
	}
	w.ack(out.ResultMetadata)
	w.keys = append(w.keys, &ownKey{id: *out.KeyMetadata.KeyId})
	return nil
}

func (w *worker) pointAlias(k *ownKey) error {
	if n := len(w.aliases); n > 0 && w.rng.IntN(2) == 0 {
		a := w.aliases[w.rng.IntN(n)]
		if a.target == "" || a.tried != "" {
			return nil // left over from a kill
		}
		a.tried = k.id
		out, err := w.client.UpdateAlias(background, &kms.UpdateAliasInput{AliasName: &a.name, TargetKeyId: &k.id})
		if err != nil {
			return err
		}
		w.ack(out.ResultMetadata)
		a.target, a.tried = k.id, ""
		return nil
	}
	a := &ownAlias{name: fmt.Sprintf("alias/kill/%d/%d", w.n, len(w.aliases)), tried: k.id}
	w.aliases = append(w.aliases, a)
	out, err := w.client.CreateAlias(background, &kms.CreateAliasInput{AliasName: &a.name, TargetKeyId: &k.id})
	if err != nil {
		return err
	}
	w.ack(out.ResultMetadata)
	a.target, a.tried = k.id, ""
	return nil
}

func (w *worker) putPolicy(k *ownKey) error {
	if k.policyTried != "" {
		return nil // left over from a kill
	}
	k.policyTried = fmt.Sprintf("Sid%d", w.rng.Uint64())
	policy := `{"Version":"2012-10-17","Statement":[{"Sid":"` + k.policyTried + `","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` +
		server.Account + `:root"},"Action":"kms:*","Resource":"*"}]}`
	out, err := w.client.PutKeyPolicy(background, &kms.PutKeyPolicyInput{KeyId: &k.id, Policy: &policy})
	if err != nil {
		return err
	}
	w.ack(out.ResultMetadata)
	k.policy, k.policyTried = k.policyTried, ""
	return nil
}

func (w *worker) schedule(k *ownKey) error {
	k.deletionTried = true
	out, err := w.client.ScheduleKeyDeletion(background, &kms.ScheduleKeyDeletionInput{KeyId: &k.id, PendingWindowInDays: aws.Int32(7)})
	if err != nil {
		return err
	}
	w.ack(out.ResultMetadata)
	k.deletes, k.deletionTried = true, false
	return nil
}

// grant makes a grant, or revokes one in three.
func (w *worker) grant(k *ownKey) error {
	if n := len(k.grants); n > 0 && w.rng.IntN(3) == 0 {
		g := k.grants[w.rng.IntN(n)]
		if g.revoked || g.tried {
			return nil
		}
		g.tried = true
		out, err := w.client.RevokeGrant(background, &kms.RevokeGrantInput{KeyId: &k.id, GrantId: &g.id})
		if err != nil {
			return err
		}
		w.ack(out.ResultMetadata)
		g.revoked, g.tried = true, false
		return nil
	}
	out, err := w.client.CreateGrant(background, &kms.CreateGrantInput{
		KeyId: &k.id, GranteePrincipal: aws.String("arn:aws:iam::" + server.OtherAccount + ":root"), Operations: []types.GrantOperation{types.GrantOperationDecrypt},
	})
	if err != nil {
		return err
	}
	w.ack(out.ResultMetadata)
	k.grants = append(k.grants, &ownGrant{id: *out.GrantId})
	return nil
}

func (w *worker) encrypt(k *ownKey) error {
	plaintext := make([]byte, 16+w.rng.IntN(100))
	_, _ = rand.Read(plaintext)
	out, err := w.client.Encrypt(background, &kms.EncryptInput{KeyId: &k.id, Plaintext: plaintext})
	if err != nil {
		return err
	}
	w.ack(out.ResultMetadata)
	k.blobs = append(k.blobs, sealed{out.CiphertextBlob, plaintext})
	return nil
}
