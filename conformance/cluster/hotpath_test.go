package cluster_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// statements counts what a client of PostgreSQL has executed, and how often it has waited for an answer, as its messages go by. It
// understands as much of the protocol as that takes, without TLS.
type statements struct {
	started bool // the first message, which has no type, is over
	head    []byte
	skip    int // octets of the message that are still to come
	count   int
	trips   int // to the database and back
}

// add reads the next piece of what a client sends.
func (s *statements) add(piece []byte) {
	for len(piece) > 0 {
		if s.skip > 0 {
			n := min(s.skip, len(piece))
			s.skip, piece = s.skip-n, piece[n:]
			continue
		}
		s.head, piece = append(s.head, piece[0]), piece[1:]
		size := 5 // a type and a length, which counts itself
		if !s.started {
			size = 4
		}
		if len(s.head) < size {
			continue
		}
		if s.started && (s.head[0] == 'E' || s.head[0] == 'Q') { // Execute, Query
			s.count++
		}
		if s.started && (s.head[0] == 'S' || s.head[0] == 'Q' || s.head[0] == 'p') { // Sync, Query, and what proves the password
			s.trips++
		}
		s.skip = int(binary.BigEndian.Uint32(s.head[size-4:])) - 4
		s.started, s.head = true, s.head[:0]
	}
}

// TestStatements has the counter count, however the octets are cut into pieces.
func TestStatements(t *testing.T) {
	message := func(kind string, n int) string {
		return kind + string(binary.BigEndian.AppendUint32(nil, uint32(n+4))) + string(make([]byte, n))
	}
	all := message("", 20) + message("Q", 30) + message("P", 9) + message("B", 0) + message("E", 5) + message("S", 0) + message("Q", 1<<17)
	for _, size := range []int{1, 2, 3, 7, 64, len(all)} {
		var s statements
		for from := 0; from < len(all); from += size {
			s.add([]byte(all[from:min(from+size, len(all))]))
		}
		if s.count != 3 || s.trips != 3 {
			t.Errorf("in pieces of %d: %d statements and %d round trips and not 3", size, s.count, s.trips)
		}
	}
}

// TestHotPath counts the statements that a server which knows the keys sends to its database while it uses them: those of its own
// works, however many calls there are.
func TestHotPath(t *testing.T) {
	c := newCluster(t, time.Hour) // so that nobody looks meanwhile
	n := c.nodes[0]
	client, id := n.KMS(), c.newKey("")
	pair, err := client.CreateKey(background, &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	signs, text := pair.KeyMetadata.KeyId, []byte("hot")
	var blob, signature []byte
	calls := []struct {
		name string
		call func() error
	}{
		{"Encrypt", func() error {
			out, err := client.Encrypt(background, &kms.EncryptInput{KeyId: &id, Plaintext: text})
			if err == nil {
				blob = out.CiphertextBlob
			}
			return err
		}},
		{"Decrypt", func() error {
			_, err := client.Decrypt(background, &kms.DecryptInput{CiphertextBlob: blob})
			return err
		}},
		{"GenerateDataKey", func() error {
			_, err := client.GenerateDataKey(background, &kms.GenerateDataKeyInput{KeyId: &id, KeySpec: types.DataKeySpecAes256})
			return err
		}},
		{"Sign", func() error {
			out, err := client.Sign(background, &kms.SignInput{KeyId: signs, Message: text, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			if err == nil {
				signature = out.Signature
			}
			return err
		}},
		{"Verify", func() error {
			_, err := client.Verify(background, &kms.VerifyInput{KeyId: signs, Message: text, Signature: signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			return err
		}},
		{"DescribeKey", func() error {
			_, err := client.DescribeKey(background, &kms.DescribeKeyInput{KeyId: &id})
			return err
		}},
	}
	// That the counter counts shows an operation that memory cannot answer.
	cold := func() error {
		_, err := client.ListKeys(background, &kms.ListKeysInput{})
		return err
	}
	const times = 500
	repeat := func(call func() error) int {
		before := n.relays[0].carried().count
		for range times {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}
		return n.relays[0].carried().count - before
	}
	for _, each := range calls {
		if err := each.call(); err != nil { // and now it knows the key
			t.Fatal(err)
		}
	}
	for _, each := range calls {
		count := repeat(each.call)
		t.Logf("%d calls of %s: %d statements", times, each.name, count)
		if count >= times/5 {
			t.Errorf("%d calls of %s made %d statements", times, each.name, count)
		}
	}
	if count := repeat(cold); count < times {
		t.Errorf("%d calls of ListKeys made %d statements: the counter does not count", times, count)
	}
}
