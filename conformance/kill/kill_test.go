// Package kill_test kills the server under load, again and again, and looks whether everything that it acknowledged is
// there after the next start.
package kill_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/klauspost/compress/zstd"

	"github.com/keywright/keywright/conformance/server"
)

const workers = 8

// retention is how long audit records are kept: longer than it takes to kill a server, to start the next one and to verify its log.
const retention = time.Minute

// run is the whole test: a directory that lives through all kills.
type run struct {
	t       *testing.T
	dir     string
	log     string
	workers []*worker
	small   bool // segments of the audit log are small, compressed and removed
	audit   auditReader
	kept    string // file with the newest audit checkpoint, and
	key     string // with the key that verifies it, as an operator keeps them elsewhere
	// What was looked at so far.
	keys, aliases, policies, deletions, grants, plaintexts, records int
	slowest                                                         time.Duration
}

func TestKill(t *testing.T) {
	n := server.Number(t, "KEYWRIGHT_KILLS", 5)
	r := &run{t: t, dir: filepath.Join(t.TempDir(), "data"), log: filepath.Join(t.TempDir(), "log")}
	r.audit = auditReader{dir: filepath.Join(r.dir, "audit"), read: map[int]int{}, seen: map[string]int{}}
	for i := range workers {
		r.workers = append(r.workers, &worker{n: i, rng: rand.New(rand.NewPCG(1, uint64(i)))})
	}
	for i := range n {
		r.small = i%2 == 0
		from := r.load()
		s := r.restart()
		r.checkAudit()
		r.verifyAudit() // against the checkpoint of before the kill
		r.check(s.KMS(), from)
		s.Stop()
	}
	s := r.restart()
	r.bringBack(s.KMS())
	r.check(s.KMS(), make([]int, workers))
	s.Stop()
	t.Logf("%d kills: %d keys, %d aliases, %d policies, %d deletions, %d grants, %d ciphertexts and %d audit records were looked at; slowest start %v",
		n, r.keys, r.aliases, r.policies, r.deletions, r.grants, r.plaintexts, r.records, r.slowest.Round(time.Millisecond))
	if r.keys < 10*n || r.aliases < n || r.policies < n || r.deletions < n || r.grants < n || r.plaintexts < n {
		t.Error("the load was too small to show anything")
	}
	if r.audit.packed == 0 || len(r.audit.read) < n {
		t.Errorf("%d segments, of which %d were compressed, are too few to show anything", len(r.audit.read), r.audit.packed)
	}
}

func (r *run) restart() *server.Server {
	r.t.Helper()
	flags := []string{"--audit-durability", "synced"}
	if r.small { // so that kills meet their ends, their compression and their removal
		flags = append(flags, "--audit-segment-size", "20000", "--audit-compress", "--audit-retention", retention.String())
	}
	s := server.Start(r.t, r.dir, r.log, flags...)
	r.slowest = max(r.slowest, s.Started)
	return s
}

// load starts a server, lets all workers work, and kills it. It returns how many keys each had before, less some: the
// older ones among which the workers also work.
func (r *run) load() (from []int) {
	r.t.Helper()
	s := r.restart()
	var wg sync.WaitGroup
	for _, w := range r.workers {
		from = append(from, max(0, len(w.keys)-20))
		w.client = s.KMS()
		wg.Go(w.run)
	}
	time.Sleep(50*time.Millisecond + time.Duration(rand.IntN(250))*time.Millisecond)
	r.keepCheckpoint()
	s.Kill()
	wg.Wait()
	if err := r.audit.more(); err != nil { // what is acknowledged is on disk now, whatever the next server removes
		r.t.Fatal(err)
	}
	for _, w := range r.workers {
		if w.err != nil {
			r.t.Fatalf("the server refused what it should not: %v\n%s", w.err, s.Log(r.t))
		}
	}
	return from
}

// checkAudit looks for the record of every acknowledged call.
func (r *run) checkAudit() {
	r.t.Helper()
	if err := r.audit.more(); err != nil {
		r.t.Fatal(err)
	}
	for _, w := range r.workers {
		for _, id := range w.acked {
			if r.audit.seen[id] != 1 {
				r.t.Fatalf("the acknowledged call %s has %d audit records", id, r.audit.seen[id])
			}
			r.records++
		}
		w.acked = nil
	}
}

// verifyAudit verifies the audit log beside the server that writes to it, against the checkpoint and the key that were kept.
func (r *run) verifyAudit() {
	r.t.Helper()
	if out, err := server.Run("audit", "verify", r.audit.dir, "--checkpoint", r.kept, "--key", r.key); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
}

// keepCheckpoint keeps the newest checkpoint elsewhere, as an operator does.
func (r *run) keepCheckpoint() {
	r.t.Helper()
	checkpoint, err := server.Run("audit", "checkpoint", r.audit.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(r.audit.dir, "verifier.pub"))
	if err != nil {
		r.t.Fatal(err)
	}
	elsewhere := filepath.Dir(r.log)
	r.kept, r.key = filepath.Join(elsewhere, "checkpoint"), filepath.Join(elsewhere, "key")
	for path, text := range map[string][]byte{r.kept: []byte(checkpoint), r.key: key} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// check compares every worker's newest keys, an old one in ten, and all its aliases with what the server has.
func (r *run) check(c *kms.Client, from []int) {
	r.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for i, w := range r.workers {
		wg.Go(func() {
			v := &view{c: c}
			err := v.worker(w, from[i])
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			r.keys, r.aliases, r.policies = r.keys+v.keys, r.aliases+v.aliases, r.policies+v.policies
			r.deletions, r.grants, r.plaintexts = r.deletions+v.deletions, r.grants+v.grants, r.plaintexts+v.plaintexts
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
}

// bringBack takes back every deletion, so that old ciphertexts of these keys can be looked at too.
func (r *run) bringBack(c *kms.Client) {
	r.t.Helper()
	for _, w := range r.workers {
		for _, k := range w.keys {
			if !k.deletes {
				continue
			}
			if _, err := c.CancelKeyDeletion(background, &kms.CancelKeyDeletionInput{KeyId: &k.id}); err != nil {
				r.t.Fatal(err)
			}
			if _, err := c.EnableKey(background, &kms.EnableKeyInput{KeyId: &k.id}); err != nil {
				r.t.Fatal(err)
			}
			k.deletes = false
		}
	}
}

// view compares and counts.
type view struct {
	c                                                      *kms.Client
	keys, aliases, policies, deletions, grants, plaintexts int
}

func (v *view) worker(w *worker, from int) error {
	for i, k := range w.keys {
		if i >= from || w.rng.IntN(10) == 0 {
			if err := v.key(k); err != nil {
				return fmt.Errorf("key %s: %w", k.id, err)
			}
		}
	}
	for _, a := range w.aliases {
		if err := v.alias(a); err != nil {
			return fmt.Errorf("alias %s: %w", a.name, err)
		}
	}
	return nil
}

// key compares a key, and settles what was tried and not acknowledged: from now on it must stay as it is.
func (v *view) key(k *ownKey) error {
	v.keys++
	out, err := v.c.DescribeKey(background, &kms.DescribeKeyInput{KeyId: &k.id})
	if err != nil {
		return err
	}
	pending := out.KeyMetadata.KeyState == types.KeyStatePendingDeletion
	if pending != k.deletes && !(pending && k.deletionTried) || !pending && out.KeyMetadata.KeyState != types.KeyStateEnabled {
		return fmt.Errorf("its state is %s; deletion acknowledged: %v", out.KeyMetadata.KeyState, k.deletes)
	}
	k.deletes, k.deletionTried = pending, false
	if pending {
		v.deletions++
	}
	if err := v.policy(k); err != nil {
		return err
	}
	if err := v.grantsOf(k); err != nil {
		return err
	}
	for _, s := range k.blobs {
		out, err := v.c.Decrypt(background, &kms.DecryptInput{CiphertextBlob: s.blob})
		var state *types.KMSInvalidStateException
		switch {
		case pending && errors.As(err, &state):
		case err != nil:
			return fmt.Errorf("an old ciphertext: %w", err)
		case pending:
			return errors.New("a key that is pending deletion decrypts")
		case !bytes.Equal(out.Plaintext, s.plaintext):
			return errors.New("an old ciphertext decrypts to something else")
		default:
			v.plaintexts++
		}
	}
	return nil
}

func (v *view) policy(k *ownKey) error {
	out, err := v.c.GetKeyPolicy(background, &kms.GetKeyPolicyInput{KeyId: &k.id})
	if err != nil {
		return err
	}
	has := func(sid string) bool { return sid != "" && strings.Contains(*out.Policy, `"`+sid+`"`) }
	switch {
	case has(k.policyTried):
		k.policy = k.policyTried
	case has(k.policy):
		v.policies++
	case k.policy != "":
		return fmt.Errorf("its policy is not the acknowledged one with %s but %s", k.policy, *out.Policy)
	}
	k.policyTried = ""
	return nil
}

// grantsOf compares a key's grants. One whose making was not acknowledged may be there, and nobody knows its id.
func (v *view) grantsOf(k *ownKey) error {
	if len(k.grants) == 0 {
		return nil
	}
	there := map[string]bool{}
	for p := kms.NewListGrantsPaginator(v.c, &kms.ListGrantsInput{KeyId: &k.id}); p.HasMorePages(); {
		page, err := p.NextPage(background)
		if err != nil {
			return err
		}
		for _, g := range page.Grants {
			there[*g.GrantId] = true
		}
	}
	for _, g := range k.grants {
		if there[g.id] == g.revoked && !g.tried {
			return fmt.Errorf("the grant %s: there %v, its revocation acknowledged %v", g.id, there[g.id], g.revoked)
		}
		g.revoked, g.tried = !there[g.id], false
		v.grants++
	}
	return nil
}

func (v *view) alias(a *ownAlias) error {
	out, err := v.c.DescribeKey(background, &kms.DescribeKeyInput{KeyId: &a.name})
	var gone *types.NotFoundException
	switch {
	case errors.As(err, &gone) && a.target == "":
		return nil // it was never acknowledged
	case err != nil:
		return err
	}
	if id := *out.KeyMetadata.KeyId; id != a.target && id != a.tried {
		return fmt.Errorf("it points at %s, not at %s", id, a.target)
	}
	a.target, a.tried = *out.KeyMetadata.KeyId, ""
	v.aliases++
	return nil
}

// auditReader reads an audit log as it grows.
type auditReader struct {
	dir    string
	read   map[int]int    // octets read of each segment
	packed int            // how often a segment was read that was compressed
	seen   map[string]int // records of each request id
}

func (a *auditReader) more() error {
	paths, err := filepath.Glob(filepath.Join(a.dir, "audit-*.jsonl*"))
	if err != nil {
		return err
	}
	done := map[int]bool{}
	for _, path := range paths {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(path), "audit-%d.jsonl", &n); err != nil {
			return err
		}
		if done[n] || strings.HasSuffix(path, ".part") {
			continue
		}
		done[n] = true
		if err := a.segment(n); err != nil {
			return fmt.Errorf("segment %d: %w", n, err)
		}
	}
	return nil
}

// segment reads what is new in a segment, which may be compressed or removed meanwhile.
func (a *auditReader) segment(n int) error {
	path := filepath.Join(a.dir, fmt.Sprintf("audit-%08d.jsonl", n))
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if text, err = os.ReadFile(path + ".zst"); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			a.packed++
			text, err = unpack(text)
		}
	}
	if err != nil {
		return err
	}
	text = bytes.TrimRight(text, "\x00") // which a server writes ahead
	for line := range bytes.Lines(text[a.read[n]:]) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // the kill came within it: the next server removes it
		}
		var record struct {
			RequestID string `json:"requestID"`
		}
		if err := json.Unmarshal(line, &record); err != nil {
			return fmt.Errorf("a broken record after a restart: %w: %q", err, line)
		}
		a.seen[record.RequestID]++
		a.read[n] += len(line)
	}
	return nil
}

func unpack(b []byte) ([]byte, error) {
	dec, err := zstd.NewReader(nil)
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	return dec.DecodeAll(b, nil)
}
