package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keywright/keywright/conformance/server"
)

// sharedKeys is how many keys all write to: so many that the time to find an order of the calls about each does not grow beyond all bounds.
const sharedKeys = 36

// duesPerRound is how many rotations come due in what a fail-over takes with all that is done before, and more; so do as many deletions.
const duesPerRound = 200

// grace is for how long after the end of a disturbance a server may still refuse: until it has given up what does not answer.
const grace = 3 * time.Second

// disturbance is a time in which requests to a server may fail, or to all of them.
type disturbance struct {
	node       int  // -1: all
	killed     bool // the server, which then says nothing
	begin, end time.Time
}

// excuses reports whether a failure is what a disturbance brings about: that the server says that the database does not answer.
func (d disturbance) excuses(f failure) bool {
	return (d.node == f.node || d.node < 0) && f.begin.Before(d.end) && f.end.After(d.begin) && (d.killed || code(f.err) == unavailable)
}

// failure is a cryptographic call that failed.
type failure struct {
	node       int
	begin, end time.Time
	err        error
}

// made is what somebody tried to make: a key and an alias of it. Facts are known from their answers on.
type made struct {
	id                     string
	alias                  string
	keyUnknown             bool
	aliasMade, aliasDenied bool
}

// storm is three servers, what is done to them, and all that clients were told meanwhile.
type storm struct {
	*cluster
	history *history
	shared  []string // keys of the history
	stop    chan struct{}
	wg      sync.WaitGroup

	mu           sync.RWMutex // nodes and disturbances change
	disturbances []disturbance
	failures     []failure
	crypto       atomic.Int64
	made         []*made
	sealed       [][]byte // ciphertexts that were answered
}

// TestFaults kills primaries and servers, and spoils connections, under load.
func TestFaults(t *testing.T) {
	failovers, kills := server.Number(t, "KEYWRIGHT_FAILOVERS", 1), server.Number(t, "KEYWRIGHT_NODE_KILLS", 3)
	w := &world{t: t, dir: server.Room(t)}
	w.primary, w.standby = filepath.Join(w.dir, "pg0"), filepath.Join(w.dir, "pg1")
	first := server.Postgres(t, "start", w.primary)
	second := server.Postgres(t, "standby", w.standby, w.primary)
	defer func() {
		server.Postgres(t, "stop", w.primary)
		server.Postgres(t, "stop", w.standby)
	}()
	c := plan(t, w.dir, time.Second, first, second)
	dues := c.inherit(failovers * duesPerRound)
	c.startAll()
	var out []time.Duration
	disturbances := 0
	for round := range failovers {
		s := &storm{cluster: c, history: newHistory(c.maxStaleness), stop: make(chan struct{})}
		s.run()
		for range (kills + failovers - 1) / failovers {
			s.killNode()
		}
		for i := range spoils {
			s.spoil(rand.IntN(len(c.nodes)), (round+i)%len(spoils))
		}
		out = append(out, s.failOver(w))
		s.settle()
		s.verify()
		disturbances += len(s.disturbances)
		if t.Failed() {
			return
		}
		if round < failovers-1 {
			w.replace(c)
		}
	}
	c.verifyDue(dues, failovers*((kills+failovers-1)/failovers), disturbances)
	t.Logf("%d fail-overs; from the kill of the primary to the next acknowledged change: %s", failovers, spread(out))
}

// world is the databases: those that run, of which the primary is the first.
type world struct {
	t                     *testing.T
	dir, primary, standby string
	n                     int
}

// replace makes a standby in the place of a primary that was killed, and has the relays lead there.
func (w *world) replace(c *cluster) {
	w.n++
	next := filepath.Join(w.dir, fmt.Sprintf("pg%d", w.n+1))
	host := parse(w.t, server.Postgres(w.t, "standby", next, w.standby)).Host
	server.Postgres(w.t, "stop", w.primary)
	for _, n := range c.nodes {
		n.relays[(w.n+1)%2].lead(host)
	}
	w.primary, w.standby = w.standby, next
}

// run starts the load: writers of shared keys, makers of keys, and cryptography on every server.
func (s *storm) run() {
	for range sharedKeys {
		s.shared = append(s.shared, s.newKey(""))
	}
	id := s.newKey("")
	for i := range s.nodes {
		s.begin(func() { s.write(s.client(i)) }, 4)
		s.begin(func() { s.make(s.client(i)) }, 1)
		s.begin(func() { s.encrypt(i, id) }, 1)
	}
	time.Sleep(time.Second / 2)
}

// begin has some goroutines do something again and again until the storm is over.
func (s *storm) begin(step func(), n int) {
	for range n {
		s.wg.Go(func() {
			for {
				select {
				case <-s.stop:
					return
				default:
				}
				step()
				time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
			}
		})
	}
}

// client returns a client of a server.
func (s *storm) client(i int) *kms.Client {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.nodes[i].KMS()
}

// anywhere returns a client of any server.
func (s *storm) anywhere() *kms.Client { return s.client(rand.IntN(len(s.nodes))) }

// classify says what came of a change: nothing, or what its answer says, or nobody knows what.
func classify(err error) (out output, none bool) {
	switch c := code(err); {
	case errors.Is(err, syscall.ECONNREFUSED), c == unavailable:
		return output{}, true
	case c == "", c == wrongState:
		return output{code: c}, false
	case c == noAnswer, c == "KMSInternalException":
		return output{code: unknown}, false
	default:
		return output{code: c}, false
	}
}

// write makes one change of a shared key, or looks at it.
func (s *storm) write(client *kms.Client) {
	in := input{key: s.shared[rand.IntN(len(s.shared))]}
	began := time.Now()
	var err error
	var saw keyState
	switch rand.IntN(8) {
	case 0, 1:
		in.call = enable
		_, err = client.EnableKey(background, &kms.EnableKeyInput{KeyId: &in.key})
	case 2, 3:
		in.call = disable
		_, err = client.DisableKey(background, &kms.DisableKeyInput{KeyId: &in.key})
	case 4:
		in.call, in.description = describe, fmt.Sprint(rand.Uint64())
		_, err = client.UpdateKeyDescription(background, &kms.UpdateKeyDescriptionInput{KeyId: &in.key, Description: &in.description})
	case 5:
		in.call = schedule
		_, err = client.ScheduleKeyDeletion(background, &kms.ScheduleKeyDeletionInput{KeyId: &in.key, PendingWindowInDays: aws.Int32(7)})
	case 6:
		in.call = cancel
		_, err = client.CancelKeyDeletion(background, &kms.CancelKeyDeletionInput{KeyId: &in.key})
	default:
		in.call = look
		saw, err = s.look(client, in.key)
	}
	out, none := classify(err)
	if none || in.call == look && err != nil {
		return
	}
	out.saw = saw
	s.history.add(in, began, out)
}

func (s *storm) look(client *kms.Client, id string) (keyState, error) {
	out, err := client.DescribeKey(background, &kms.DescribeKeyInput{KeyId: &id})
	if err != nil {
		return keyState{}, err
	}
	return keyState{string(out.KeyMetadata.KeyState), aws.ToString(out.KeyMetadata.Description)}, nil
}

// make makes a key, and an alias of it on any server.
func (s *storm) make(client *kms.Client) {
	m := &made{alias: fmt.Sprintf("alias/storm/%x", rand.Uint64())}
	key, err := client.CreateKey(background, &kms.CreateKeyInput{})
	out, none := classify(err)
	if none {
		return
	}
	s.mu.Lock()
	s.made = append(s.made, m)
	s.mu.Unlock()
	if out.code != "" {
		m.keyUnknown = true
		s.must(errIf(out.code != unknown, err))
		return
	}
	m.id = *key.KeyMetadata.KeyId
	_, err = s.anywhere().CreateAlias(background, &kms.CreateAliasInput{AliasName: &m.alias, TargetKeyId: &m.id})
	out, none = classify(err)
	m.aliasMade, m.aliasDenied = out.code == "" && !none, none
	s.must(errIf(!none && out.code != "" && out.code != unknown && out.code != "NotFoundException", err)) // another server may not know the key yet
	m.aliasDenied = m.aliasDenied || out.code == "NotFoundException"
}

func errIf(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// encrypt encrypts and decrypts on one server, which must succeed but in a disturbance.
func (s *storm) encrypt(i int, id string) {
	client := s.client(i)
	begin := time.Now()
	out, err := client.Encrypt(background, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("storm")})
	if err == nil {
		_, err = client.Decrypt(background, &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob})
	}
	s.crypto.Add(2)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failures = append(s.failures, failure{i, begin, time.Now(), err})
	} else if len(s.sealed) < 1000 {
		s.sealed = append(s.sealed, out.CiphertextBlob)
	}
}

// disturb does something to a server, or to all, and notes how long it lasted.
func (s *storm) disturb(node int, killed bool, what func()) {
	begin := time.Now()
	what()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.disturbances = append(s.disturbances, disturbance{node, killed, begin, time.Now().Add(grace)})
}

// killNode kills a server as a power cut would, and starts it again.
func (s *storm) killNode() {
	i := rand.IntN(len(s.nodes))
	s.disturb(i, true, func() {
		n := s.nodes[i]
		n.Kill()
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		fresh := *n
		s.start(&fresh)
		s.mu.Lock()
		n.Server = fresh.Server
		s.mu.Unlock()
	})
	time.Sleep(time.Duration(100+rand.IntN(200)) * time.Millisecond)
}

// spoils are what is done to the connections of one server with its database.
var spoils = []func(*relay){
	func(r *relay) { r.drop(false) },
	func(r *relay) { r.drop(true) },
	func(r *relay) { r.slow(30 * time.Millisecond) },
	func(r *relay) { r.hush(true) },
	func(r *relay) { r.halfClose(true) },
	func(r *relay) { r.halfClose(false) },
}

func (s *storm) spoil(node, way int) {
	s.disturb(node, false, func() {
		for _, r := range s.nodes[node].relays {
			spoils[way](r)
		}
		time.Sleep(time.Duration(200+rand.IntN(600)) * time.Millisecond)
		for _, r := range s.nodes[node].relays {
			r.heal()
		}
	})
	time.Sleep(200 * time.Millisecond)
}

// failOver kills the primary and promotes its standby. It returns how long no change was acknowledged.
func (s *storm) failOver(w *world) (took time.Duration) {
	s.disturb(-1, false, func() {
		began := time.Now()
		server.Postgres(s.t, "kill", w.primary)
		server.Postgres(s.t, "promote", w.standby)
		until(s.t, "a change is acknowledged", func() bool {
			client := s.anywhere()
			key, err := client.CreateKey(background, &kms.CreateKeyInput{})
			s.mu.Lock()
			defer s.mu.Unlock()
			if err == nil {
				s.made = append(s.made, &made{id: *key.KeyMetadata.KeyId})
			}
			return err == nil
		})
		took = time.Since(began)
	})
	return took
}

// settle ends the load after some time without disturbances.
func (s *storm) settle() {
	time.Sleep(time.Second / 2)
	close(s.stop)
	s.wg.Wait()
	time.Sleep(2 * s.maxStaleness)
}

// verify looks whether everything that was acknowledged is there, once, and whether what clients were told makes sense.
func (s *storm) verify() {
	t := s.t
	for i := range s.nodes { // what all servers see in the end
		client := s.client(i)
		for _, id := range s.shared {
			began := time.Now()
			saw, err := s.look(client, id)
			if err != nil {
				t.Errorf("server %d: %v", i, err)
				continue
			}
			s.history.add(input{id, look, ""}, began, output{saw: saw})
		}
		for _, blob := range s.sealed[max(0, len(s.sealed)-100):] {
			if _, err := client.Decrypt(background, &kms.DecryptInput{CiphertextBlob: blob}); err != nil {
				t.Errorf("server %d does not open a ciphertext that was answered: %v", i, err)
			}
		}
		s.verifyMade(client)
	}
	if result := s.history.check(3 * time.Minute); result != porcupine.Ok {
		t.Errorf("no order of %d calls explains their answers: %s", len(s.history.all), result)
	}
	outside := 0
	for _, f := range s.failures {
		if !slices.ContainsFunc(s.disturbances, func(d disturbance) bool { return d.excuses(f) }) {
			outside++
			t.Errorf("server %d, to which nothing was done that would bring it about, failed at %s: %v", f.node, f.begin.Format(time.TimeOnly), f.err)
		}
	}
	t.Logf("%d calls in the history (%v), %d keys and aliases made, %d calls of Encrypt and Decrypt, of which %d failed, %d of them outside of disturbances",
		len(s.history.all), s.history.count, len(s.made), s.crypto.Load(), len(s.failures), outside)
	if s.history.count[""] < 50 || len(s.made) < 10 || s.crypto.Load() < 100 {
		t.Error("the load was too small to show anything")
	}
}

// verifyMade looks for every key and alias that was made.
func (s *storm) verifyMade(client *kms.Client) {
	t := s.t
	keys, aliases := map[string]int{}, map[string]string{}
	for p := kms.NewListKeysPaginator(client, &kms.ListKeysInput{Limit: aws.Int32(1000)}); p.HasMorePages(); {
		page, err := p.NextPage(background)
		if err != nil {
			t.Error(err)
			return
		}
		for _, k := range page.Keys {
			if keys[*k.KeyId]++; keys[*k.KeyId] > 1 {
				t.Errorf("the key %s is there twice", *k.KeyId)
			}
		}
	}
	for p := kms.NewListAliasesPaginator(client, &kms.ListAliasesInput{Limit: aws.Int32(100)}); p.HasMorePages(); {
		page, err := p.NextPage(background)
		if err != nil {
			t.Error(err)
			return
		}
		for _, a := range page.Aliases {
			if _, twice := aliases[*a.AliasName]; twice {
				t.Errorf("the alias %s is there twice", *a.AliasName)
			}
			aliases[*a.AliasName] = aws.ToString(a.TargetKeyId)
		}
	}
	for _, m := range s.made {
		target, there := aliases[m.alias]
		switch {
		case m.keyUnknown:
		case m.id != "" && keys[m.id] != 1:
			t.Errorf("the key %s was acknowledged and is not there", m.id)
		case m.aliasMade && !there:
			t.Errorf("the alias %s was acknowledged and is not there", m.alias)
		case m.aliasDenied && there:
			t.Errorf("the alias %s was refused and is there", m.alias)
		case there && target != m.id:
			t.Errorf("the alias %s leads to %s and not to %s", m.alias, target, m.id)
		}
	}
}
