package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keywright/keywright/conformance/server"
)

// right is something that is taken away on one server and then must not be had on another one.
type right struct {
	name string
	// give has it be there and returns what looks on a server whether it still is. The error is what is neither yes nor no.
	give func(on *node) (func(at *node) (bool, error), error)
	take func(on *node) error
}

// lateness is how long after the answer to a revocation the last success on another server was.
type lateness struct {
	begun    []time.Duration // of the beginning of the last call that succeeded; negative where it was before the answer
	answered []time.Duration // of its answer
}

// TestRevocation takes rights away on one of three servers under load, and looks when the others notice.
func TestRevocation(t *testing.T) {
	c := newCluster(t, maxStaleness)
	trials := server.Number(t, "KEYWRIGHT_REVOCATIONS", 20)
	stop := c.load()
	var wg sync.WaitGroup
	var unheard atomic.Int64
	rights := []*right{c.disableKey(), c.putKeyPolicy(), c.revokeGrant(), c.updateAlias(), c.updateAccessKey()}
	late := make([]lateness, len(rights))
	for i, r := range rights {
		wg.Go(func() {
			for n := range trials {
				if t.Failed() {
					return
				}
				c.trial(r, n%len(c.nodes), &late[i], &unheard)
			}
		})
	}
	wg.Wait()
	calls, refused := stop()
	t.Logf("maxStaleness %s; beside it %d calls of Encrypt and Decrypt; %d were refused because the database was not heard in time", maxStaleness, calls, refused+unheard.Load())
	for i, r := range rights {
		if n := len(late[i].begun); n < trials {
			t.Errorf("%s: %d trials of %d", r.name, n, trials)
			continue
		}
		t.Logf("%-16s %4d trials, last success elsewhere after the answer: begun %s; answered %s", r.name, trials, spread(late[i].begun), spread(late[i].answered))
	}
	if calls < int64(trials) {
		t.Error("there was no load to speak of")
	}
}

// trial takes a right away once and watches the other servers. A call that began after the bound and succeeded is a violation: the
// server decided it later still.
func (c *cluster) trial(r *right, on int, late *lateness, unheard *atomic.Int64) {
	t := c.t
	var has func(*node) (bool, error)
	until(t, r.name+" can be undone", func() (done bool) {
		var err error
		if has, err = r.give(c.nodes[on]); err != nil && code(err) != unavailable {
			t.Errorf("%s: giving: %v", r.name, err)
		}
		return err == nil
	})
	for i, n := range c.nodes {
		until(t, r.name+" is to be had everywhere", func() bool {
			yes, err := has(n) // refused in any way as long as nobody there has heard, for example, of a user that is new
			if code(err) == noAnswer {
				t.Errorf("%s: server %d: %v", r.name, i, err)
			}
			return yes
		})
	}
	type seen struct{ begun, answered time.Time }
	started := time.Now()
	last := slices.Repeat([]seen{{started, started}}, len(c.nodes)) // they have just succeeded
	done := make(chan struct{})
	var watchers sync.WaitGroup
	for i, n := range c.nodes {
		if i == on {
			continue
		}
		watchers.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
				begun := time.Now()
				yes, err := has(n)
				switch {
				case code(err) == unavailable:
					unheard.Add(1)
				case err != nil:
					t.Errorf("%s: server %d: %v", r.name, i, err)
					return
				case yes:
					last[i] = seen{begun, time.Now()}
				}
			}
		})
	}
	time.Sleep(time.Duration(rand.Int64N(int64(maxStaleness / 2)))) // wherever the servers are between two looks
	err := r.take(c.nodes[on])
	for code(err) == unavailable { // nothing has changed: what an SDK does then
		unheard.Add(1)
		err = r.take(c.nodes[on])
	}
	answered := time.Now()
	if err != nil {
		t.Errorf("%s: %v", r.name, err)
	}
	time.Sleep(maxStaleness + maxStaleness/4)
	close(done)
	watchers.Wait()
	worst := slices.MaxFunc(last, func(a, b seen) int { return a.begun.Compare(b.begun) })
	late.begun = append(late.begun, worst.begun.Sub(answered))
	late.answered = append(late.answered, worst.answered.Sub(answered))
	if d := worst.begun.Sub(answered); d > maxStaleness {
		t.Errorf("%s: a call that began %s after the answer succeeded on another server", r.name, d)
	}
}

// spread describes how times are distributed.
func spread(all []time.Duration) string {
	all = slices.Sorted(slices.Values(all))
	at := func(p int) time.Duration { return all[min(len(all)*p/100, len(all)-1)].Round(100 * time.Microsecond) }
	return fmt.Sprintf("p50 %s p99 %s max %s", at(50), at(99), at(100))
}

// load has all servers encrypt and decrypt until stop is called, which returns how many calls there were, and how many of them were
// refused because the database was not heard in time.
func (c *cluster) load() (stop func() (calls, refused int64)) {
	id := c.newKey("")
	done := make(chan struct{})
	var wg sync.WaitGroup
	var calls, refused atomic.Int64
	for _, n := range c.nodes {
		client := n.KMS()
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(2 * time.Millisecond):
				}
				out, err := client.Encrypt(background, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("load")})
				if err == nil {
					_, err = client.Decrypt(background, &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob})
				}
				calls.Add(2)
				switch code(err) {
				case "":
				case unavailable:
					refused.Add(1)
				default:
					c.t.Errorf("load: %v", err)
				}
			}
		})
	}
	return func() (int64, int64) {
		close(done)
		wg.Wait()
		return calls.Load(), refused.Load()
	}
}

// newKey makes a key that root and, if given, another principal may use.
func (c *cluster) newKey(principal string) string {
	c.t.Helper()
	out, err := c.nodes[0].KMS().CreateKey(background, &kms.CreateKeyInput{Policy: keyPolicy(principal)})
	if err != nil {
		c.t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId
}

// keyPolicy lets root do everything and a principal encrypt.
func keyPolicy(principal string) *string {
	statement := `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + server.Account + `:root"},"Action":"kms:*","Resource":"*"}`
	if principal != "" {
		statement += `,{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"kms:Encrypt","Resource":"*"}`
	}
	return aws.String(`{"Version":"2012-10-17","Statement":[` + statement + `]}`)
}

// user is an IAM user with an access key, who may do nothing.
type user struct{ name, arn, keyID, secret string }

func (c *cluster) newUser(name string) user {
	c.t.Helper()
	client := c.nodes[0].IAM()
	made, err := client.CreateUser(background, &iam.CreateUserInput{UserName: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := client.CreateAccessKey(background, &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	return user{name, *made.User.Arn, *key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey}
}

// encrypts returns what looks whether a user, or root where keyID is empty, can encrypt with a key; otherwise they are refused with a code.
func (c *cluster) encrypts(u user, id, refusal string) func(*node) (bool, error) {
	clients := map[*node]*kms.Client{}
	for _, n := range c.nodes {
		clients[n] = n.KMS()
		if u.keyID != "" {
			clients[n] = n.KMSWith(u.keyID, u.secret, "")
		}
	}
	return func(at *node) (bool, error) {
		_, err := clients[at].Encrypt(background, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("probe")})
		if code(err) == refusal {
			return false, nil
		}
		return err == nil, err
	}
}

// must has what prepares a trial fail the test.
func (c *cluster) must(err error) {
	if err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) disableKey() *right {
	id := c.newKey("")
	has := c.encrypts(user{}, id, "DisabledException")
	return &right{
		"DisableKey", func(on *node) (func(*node) (bool, error), error) {
			_, err := on.KMS().EnableKey(background, &kms.EnableKeyInput{KeyId: &id})
			return has, err
		}, func(on *node) error {
			_, err := on.KMS().DisableKey(background, &kms.DisableKeyInput{KeyId: &id})
			return err
		},
	}
}

func (c *cluster) putKeyPolicy() *right {
	u := c.newUser("policy")
	id := c.newKey(u.arn)
	has := c.encrypts(u, id, "AccessDeniedException")
	put := func(on *node, principal string) error {
		_, err := on.KMS().PutKeyPolicy(background, &kms.PutKeyPolicyInput{KeyId: &id, Policy: keyPolicy(principal)})
		return err
	}
	return &right{
		"PutKeyPolicy", func(on *node) (func(*node) (bool, error), error) {
			return has, put(on, u.arn)
		}, func(on *node) error { return put(on, "") },
	}
}

func (c *cluster) revokeGrant() *right {
	u := c.newUser("grant")
	id := c.newKey("")
	has := c.encrypts(u, id, "AccessDeniedException")
	var grant *string
	return &right{
		"RevokeGrant", func(on *node) (func(*node) (bool, error), error) {
			out, err := on.KMS().CreateGrant(background, &kms.CreateGrantInput{
				KeyId: &id, GranteePrincipal: &u.arn, Operations: []types.GrantOperation{types.GrantOperationEncrypt},
			})
			if err == nil {
				grant = out.GrantId
			}
			return has, err
		}, func(on *node) error {
			_, err := on.KMS().RevokeGrant(background, &kms.RevokeGrantInput{KeyId: &id, GrantId: grant})
			return err
		},
	}
}

// updateAlias moves an alias between two keys: what is taken away is that it leads to the first.
func (c *cluster) updateAlias() *right {
	keys := []string{c.newKey(""), c.newKey("")}
	alias := "alias/moves"
	_, err := c.nodes[0].KMS().CreateAlias(background, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &keys[0]})
	c.must(err)
	clients := map[*node]*kms.Client{}
	for _, n := range c.nodes {
		clients[n] = n.KMS()
	}
	return &right{
		"UpdateAlias", func(*node) (func(*node) (bool, error), error) {
			from := "arn:aws:kms:" + server.Region + ":" + server.Account + ":key/" + keys[0]
			return func(at *node) (bool, error) {
				out, err := clients[at].Encrypt(background, &kms.EncryptInput{KeyId: &alias, Plaintext: []byte("probe")})
				return err == nil && *out.KeyId == from, err
			}, nil
		}, func(on *node) error {
			_, err := on.KMS().UpdateAlias(background, &kms.UpdateAliasInput{AliasName: &alias, TargetKeyId: &keys[1]})
			if err == nil {
				slices.Reverse(keys)
			}
			return err
		},
	}
}

func (c *cluster) updateAccessKey() *right {
	u := c.newUser("accesskey")
	has := c.encrypts(u, c.newKey(u.arn), "UnrecognizedClientException")
	set := func(on *node, status iamtypes.StatusType) error {
		_, err := on.IAM().UpdateAccessKey(background, &iam.UpdateAccessKeyInput{UserName: &u.name, AccessKeyId: &u.keyID, Status: status})
		return err
	}
	return &right{
		"UpdateAccessKey", func(on *node) (func(*node) (bool, error), error) {
			return has, set(on, iamtypes.StatusTypeActive)
		}, func(on *node) error { return set(on, iamtypes.StatusTypeInactive) },
	}
}

// cuts are the ways in which a server can lose its database.
var cuts = []struct {
	name string
	cut  func(*relay)
}{
	{"connections are refused", func(r *relay) { r.drop(true) }},
	{"nothing comes through", func(r *relay) { r.hush(true) }},
	{"all that is asked stays without an answer", func(r *relay) {
		r.hush(true)
		r.halfClose(true)
	}},
}

// TestCut cuts one of three servers off its database: it stops within the bound, the others go on, and it comes back.
func TestCut(t *testing.T) {
	c := newCluster(t, maxStaleness)
	id := c.newKey("")
	has := c.encrypts(user{}, id, unavailable)
	rounds := server.Number(t, "KEYWRIGHT_CUTS", len(cuts))
	var stopped, back []time.Duration
	for round := range rounds {
		n, way := c.nodes[2], cuts[round%len(cuts)]
		works := func() bool {
			yes, err := has(n)
			c.must(err)
			return yes
		}
		until(t, "the server works", works)
		time.Sleep(time.Duration(rand.Int64N(int64(maxStaleness))))
		cut := time.Now()
		way.cut(n.relays[0])
		last := cut
		for time.Since(cut) < 5*maxStaleness {
			begun := time.Now()
			if works() {
				last = begun
			}
			if yes, err := has(c.nodes[round%2]); !yes {
				t.Errorf("%s: a server that was not cut off does not work: %v", way.name, err)
			}
		}
		d := last.Sub(cut)
		if stopped = append(stopped, d); d > maxStaleness {
			t.Errorf("%s: a call that began %s later succeeded", way.name, d)
		}
		healed := time.Now()
		n.relays[0].heal()
		until(t, way.name+", and that is over: the server works", works)
		back = append(back, time.Since(healed))
	}
	t.Logf("maxStaleness %s; %d cuts: last success begun %s after the cut; back %s after its end", maxStaleness, rounds, spread(stopped), spread(back))
}
