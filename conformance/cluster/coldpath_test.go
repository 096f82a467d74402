package cluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// How often a Decrypt may wait for the database with a key that the server has not used, and the first request of a process, which also reads
// the access key and the account, and whose connection, if it was idle for a second, is asked whether it lives.
const (
	maxTrips  = 3
	maxFirst  = maxTrips + 1
	idleFirst = 1500 * time.Millisecond
)

// TestColdPath counts how often a server that has just been started waits for its database while it decrypts with keys of others.
func TestColdPath(t *testing.T) {
	c := newCluster(t, time.Hour) // so that nobody looks meanwhile
	var blobs [][]byte
	for range 20 {
		id := c.newKey("")
		out, err := c.nodes[0].KMS().Encrypt(background, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("cold")})
		c.must(err)
		blobs = append(blobs, out.CiphertextBlob)
	}
	n := c.nodes[1]
	first := maxFirst + 1
	var later []int
	for round := range 3 { // what the server does besides comes between, sometimes
		n.Stop()
		c.start(n)
		time.Sleep(idleFirst) // what it does at its start is over
		for i, blob := range blobs {
			before := n.relays[0].carried().trips
			out, err := n.KMS().Decrypt(background, &kms.DecryptInput{CiphertextBlob: blob})
			c.must(err)
			if string(out.Plaintext) != "cold" {
				t.Fatalf("decrypted to %q", out.Plaintext)
			}
			if trips := n.relays[0].carried().trips - before; i > 0 {
				later = append(later, trips)
			} else {
				t.Logf("round %d: the first request makes %d round trips", round, trips)
				first = min(first, trips)
			}
		}
	}
	slices.Sort(later)
	t.Logf("further Decrypts, each with another key: %d at the median", later[len(later)/2])
	median := later[len(later)/2]
	if first > maxFirst || first == 0 || median > maxTrips || median == 0 {
		t.Errorf("a first request waits %d times for the database, another Decrypt %d times, at most %d and %d", first, median, maxFirst, maxTrips)
	}
}
