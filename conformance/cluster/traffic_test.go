package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// What a server may say to its database: four looks in a second, two statements that say that it lives and who else does, the lease every
// five, the one that has it a look at what is due, and the driver a ping where a connection was idle for a second; another query to hear of
// a change; and for a change of its own, one after the other, the round trips of decision 23.
const (
	idleStatements   = 9.0 // in a second
	heardStatements  = 2.0 // for a change by another server
	changeRoundTrips = 8.0
)

// TestTraffic measures what servers say to their database while nothing happens, and for a change.
func TestTraffic(t *testing.T) {
	c := newCluster(t, time.Second)
	id := c.newKey("")
	client := c.nodes[0].KMS()
	during := func(do func()) (each []traffic) {
		var before []traffic
		for _, n := range c.nodes {
			before = append(before, n.relays[0].carried())
		}
		do()
		for i, n := range c.nodes {
			each = append(each, n.relays[0].carried().minus(before[i]))
		}
		return each
	}
	time.Sleep(3 * time.Second) // what they do at their start is over
	const idle, changes = 8, 8
	rest := during(func() { time.Sleep(idle * time.Second) })
	for i, got := range rest {
		t.Logf("server %d that nobody asks, in a second: %s", i, got.per(idle))
		if perSecond := float64(got.count) / idle; perSecond < 1 || perSecond > idleStatements {
			t.Errorf("%.1f statements in a second, want 1 to %.1f", perSecond, idleStatements)
		}
	}
	took := time.Now()
	busy := during(func() {
		for i := range changes { // a second apart, so that no look finds two
			text := fmt.Sprintf("change %d", i)
			_, err := client.UpdateKeyDescription(background, &kms.UpdateKeyDescriptionInput{KeyId: &id, Description: &text})
			c.must(err)
			time.Sleep(time.Second)
		}
	})
	seconds := time.Since(took).Seconds()
	for i, got := range busy {
		but := func(n, was int) int { return n - int(float64(was)*seconds/idle) }
		got = traffic{but(got.count, rest[i].count), but(got.trips, rest[i].trips), but(got.octets, rest[i].octets)}
		t.Logf("server %d, for a change by server 0: %s", i, got.per(changes))
		if i > 0 && float64(got.count)/changes > heardStatements {
			t.Errorf("server %d makes %d statements to hear of %d changes", i, got.count, changes)
		}
		if trips := float64(got.trips) / changes; i == 0 && (trips < 1 || trips > changeRoundTrips) {
			t.Errorf("%d changes take %d round trips", changes, got.trips)
		}
	}
}
