package cluster_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keywright/keywright/conformance/server"
)

// TestReadYourWrites gives rights on one of three servers and takes them away, while all servers make other changes. The next request
// there knows of it; requests to the others do that begin maxStaleness after the answer.
func TestReadYourWrites(t *testing.T) {
	c := newCluster(t, maxStaleness)
	rounds := server.Number(t, "KEYWRIGHT_WRITES", 10)
	stop := c.changes()
	var wg sync.WaitGroup
	rights := []*right{
		c.disableKey(), c.putKeyPolicy(), c.revokeGrant(), c.updateAlias(), c.updateAccessKey(),
		c.deleteAlias(), c.scheduleDeletion(), c.deleteMaterial(), c.deleteUserPolicy(), c.deleteAccessKey(),
	}
	for _, r := range rights {
		wg.Go(func() {
			for n := range rounds {
				if t.Failed() {
					return
				}
				c.readWrites(r, n%len(c.nodes))
			}
		})
	}
	wg.Wait()
	changes := stop()
	t.Logf("maxStaleness %s; %d changes of %d kinds, each seen at once by the next request to the same server and in time on two others, beside %d other changes",
		maxStaleness, 2*rounds*len(rights), len(rights), changes)
	if changes < int64(rounds) {
		t.Error("there was no load to speak of")
	}
}

// heard does something until the server has heard from its database in time, which changes nothing before.
func heard(do func() error) error {
	for began := time.Now(); ; {
		if err := do(); code(err) != unavailable || time.Since(began) > soon {
			return err
		}
	}
}

// readWrites gives a right and takes it away, on one server.
func (c *cluster) readWrites(r *right, on int) {
	t := c.t
	var has func(*node) (bool, error)
	look := func(at int, want bool, when string) {
		var yes bool
		err := heard(func() (err error) {
			yes, err = has(c.nodes[at])
			return err
		})
		// Who has not heard of a user, a key or an alias yet says so: that is a no.
		if code(err) == noAnswer || yes != want {
			t.Errorf("%s, changed by server %d: server %d, %s: %v, %v; want %v", r.name, on, at, when, yes, err, want)
		}
	}
	for _, want := range []bool{true, false} {
		err := heard(func() (err error) {
			if want {
				has, err = r.give(c.nodes[on])
				return err
			}
			return r.take(c.nodes[on])
		})
		if err != nil {
			t.Errorf("%s on server %d: %v", r.name, on, err)
			return
		}
		answered := time.Now()
		look(on, want, "the next request")
		time.Sleep(time.Until(answered.Add(maxStaleness)))
		for at := range c.nodes {
			look(at, want, "in time")
		}
	}
}

// changes has all servers change keys that nobody else uses until stop is called, which returns how many changes there were.
func (c *cluster) changes() (stop func() int64) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	var made atomic.Int64
	for _, n := range c.nodes {
		client, id := n.KMS(), c.newKey("")
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(mathrand.IntN(20)) * time.Millisecond):
				}
				text := fmt.Sprint(mathrand.Uint64())
				_, err := client.UpdateKeyDescription(background, &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: &text})
				switch code(err) {
				case "":
					made.Add(1)
				case unavailable:
				default:
					c.t.Errorf("other changes: %v", err)
				}
			}
		})
	}
	return func() int64 {
		close(done)
		wg.Wait()
		return made.Load()
	}
}

func (c *cluster) deleteAlias() *right {
	id, alias := c.newKey(""), "alias/comes-and-goes"
	clients := map[*node]*kms.Client{}
	for _, n := range c.nodes {
		clients[n] = n.KMS()
	}
	has := func(at *node) (bool, error) {
		_, err := clients[at].Encrypt(background, &kms.EncryptInput{KeyId: &alias, Plaintext: []byte("probe")})
		return err == nil, err
	}
	return &right{
		"DeleteAlias", func(on *node) (func(*node) (bool, error), error) {
			_, err := clients[on].CreateAlias(background, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &id})
			return has, err
		}, func(on *node) error {
			_, err := clients[on].DeleteAlias(background, &kms.DeleteAliasInput{AliasName: &alias})
			return err
		},
	}
}

func (c *cluster) scheduleDeletion() *right {
	id := c.newKey("")
	has := c.encrypts(user{}, id, wrongState)
	waits := false
	return &right{
		"ScheduleKeyDeletion", func(on *node) (func(*node) (bool, error), error) {
			if waits {
				if _, err := on.KMS().CancelKeyDeletion(background, &kms.CancelKeyDeletionInput{KeyId: &id}); err != nil {
					return nil, err
				}
				waits = false
			}
			_, err := on.KMS().EnableKey(background, &kms.EnableKeyInput{KeyId: &id})
			return has, err
		}, func(on *node) error {
			_, err := on.KMS().ScheduleKeyDeletion(background, &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
			waits = err == nil
			return err
		},
	}
}

// deleteMaterial deletes imported key material and imports it again.
func (c *cluster) deleteMaterial() *right {
	out, err := c.nodes[0].KMS().CreateKey(background, &kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if err != nil {
		c.t.Fatal(err)
	}
	id, material := out.KeyMetadata.KeyId, make([]byte, 32)
	_, _ = rand.Read(material)
	has := c.encrypts(user{}, *id, wrongState)
	return &right{
		"DeleteImportedKeyMaterial", func(on *node) (func(*node) (bool, error), error) {
			p, err := on.KMS().GetParametersForImport(background, &kms.GetParametersForImportInput{
				KeyId: id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
			})
			if err != nil {
				return nil, err
			}
			public, err := x509.ParsePKIXPublicKey(p.PublicKey)
			if err != nil {
				return nil, err
			}
			key, ok := public.(*rsa.PublicKey)
			if !ok {
				return nil, errors.New("the wrapping key is no RSA key")
			}
			wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, key, material, nil)
			if err != nil {
				return nil, err
			}
			_, err = on.KMS().ImportKeyMaterial(background, &kms.ImportKeyMaterialInput{
				KeyId: id, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
			})
			return has, err
		}, func(on *node) error {
			_, err := on.KMS().DeleteImportedKeyMaterial(background, &kms.DeleteImportedKeyMaterialInput{KeyId: id})
			return err
		},
	}
}

func (c *cluster) deleteUserPolicy() *right {
	u := c.newUser("userpolicy")
	id := c.newKey("")
	has := c.encrypts(u, id, "AccessDeniedException")
	name, document := aws.String("encrypts"), aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`)
	return &right{
		"DeleteUserPolicy", func(on *node) (func(*node) (bool, error), error) {
			_, err := on.IAM().PutUserPolicy(background, &iam.PutUserPolicyInput{UserName: &u.name, PolicyName: name, PolicyDocument: document})
			return has, err
		}, func(on *node) error {
			_, err := on.IAM().DeleteUserPolicy(background, &iam.DeleteUserPolicyInput{UserName: &u.name, PolicyName: name})
			return err
		},
	}
}

// deleteAccessKey deletes an access key and makes another one.
func (c *cluster) deleteAccessKey() *right {
	u := c.newUser("anotherkey")
	id := c.newKey(u.arn)
	return &right{
		"DeleteAccessKey", func(on *node) (func(*node) (bool, error), error) {
			out, err := on.IAM().CreateAccessKey(background, &iam.CreateAccessKeyInput{UserName: &u.name})
			if err != nil {
				return nil, err
			}
			u.keyID, u.secret = *out.AccessKey.AccessKeyId, *out.AccessKey.SecretAccessKey
			return c.encrypts(u, id, "UnrecognizedClientException"), nil
		}, func(on *node) error {
			_, err := on.IAM().DeleteAccessKey(background, &iam.DeleteAccessKeyInput{UserName: &u.name, AccessKeyId: &u.keyID})
			return err
		},
	}
}
