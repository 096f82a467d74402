package cluster_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// maxTrips is how often the first request of a process may wait for the database: for the access key, for the account and for the key.
const maxTrips = 3

// TestColdPath counts how often a server that has just been started waits for its database while it decrypts with keys of others.
func TestColdPath(t *testing.T) {
	dir := room(t)
	db := dir + "/pg"
	url := postgres(t, "start", db)
	defer postgres(t, "stop", db)
	c := newCluster(t, dir, time.Hour, url) // so that nobody looks meanwhile
	var blobs [][]byte
	for range 20 {
		id := c.newKey("")
		out, err := c.nodes[0].KMS().Encrypt(background, &kms.EncryptInput{KeyId: &id, Plaintext: []byte("cold")})
		c.must(err)
		blobs = append(blobs, out.CiphertextBlob)
	}
	n := c.nodes[1]
	first := maxTrips + 1
	var later []int
	for round := range 3 { // what the server does besides comes between, sometimes
		n.Stop()
		c.start(n)
		time.Sleep(1500 * time.Millisecond) // what it does at its start is over
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
	if first > maxTrips || first == 0 || later[len(later)/2] != 1 {
		t.Errorf("a first Decrypt waits %d times for the database, others %d, at most %d and 1", first, later[len(later)/2], maxTrips)
	}
}
