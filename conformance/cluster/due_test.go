package cluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keywright/keywright/conformance/server"
)

// What servers do on their own, as the audit log has it.
const (
	rotate = "RotateKey"
	remove = "DeleteKey"
)

// due is what is to be done to a key at a time.
type due struct {
	event, id string
	at        time.Time
}

// what is a due without its time, as a record tells it.
func (d due) what() due { return due{event: d.event, id: d.id} }

// dueEvery is between two things that are due.
const dueEvery = 150 * time.Millisecond

// The shortest rotation period and the shortest waiting period of a deletion.
const (
	rotationPeriod = 90 * 24 * time.Hour
	deletionWindow = 7 * 24 * time.Hour
)

// past is a server for development in which keys were made long ago.
type past struct {
	t   *testing.T
	dir string
	*server.Server
	control, token string
}

var steered = regexp.MustCompile(`KEYWRIGHT_CONTROL='?http://([^@]+)@([0-9.:]+)`)

func newPast(t *testing.T, dir string) *past {
	t.Helper()
	s, err := server.Try(dir, dir+".log")
	if err != nil {
		t.Fatal(err)
	}
	m := steered.FindStringSubmatch(s.Log(t))
	if m == nil {
		t.Fatal("keywright dev printed no control endpoint")
	}
	return &past{t, dir, s, m[2], m[1]}
}

// at sets the clock.
func (p *past) at(when time.Time) {
	p.t.Helper()
	body := fmt.Sprintf(`{"set": %q}`, when.UTC().Format(time.RFC3339Nano))
	req, err := http.NewRequestWithContext(background, http.MethodPost, "http://"+p.control+"/v1/clock", bytes.NewReader([]byte(body)))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("X-Keywright-Dev", p.token)
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		p.t.Fatalf("setting the clock: %s", answer.Status)
	}
}

// keys makes keys of which one is to be rotated and one deleted every dueEvery from begin on.
func (p *past) keys(begin time.Time, n int) (all []due) {
	p.t.Helper()
	client := p.KMS()
	must := func(err error) {
		p.t.Helper()
		if err != nil {
			p.t.Fatal(err)
		}
	}
	for _, kind := range []struct {
		event  string
		before time.Duration
		do     func(id *string) error
	}{
		{rotate, rotationPeriod, func(id *string) error {
			_, err := client.EnableKeyRotation(background, &kms.EnableKeyRotationInput{KeyId: id, RotationPeriodInDays: aws.Int32(int32(rotationPeriod.Hours() / 24))})
			return err
		}},
		{remove, deletionWindow, func(id *string) error {
			_, err := client.ScheduleKeyDeletion(background, &kms.ScheduleKeyDeletionInput{KeyId: id, PendingWindowInDays: aws.Int32(int32(deletionWindow.Hours() / 24))})
			return err
		}},
	} {
		for i := range n {
			at := begin.Add(time.Duration(i) * dueEvery)
			p.at(at.Add(-kind.before))
			key, err := client.CreateKey(background, &kms.CreateKeyInput{})
			must(err)
			must(kind.do(key.KeyMetadata.KeyId))
			all = append(all, due{kind.event, *key.KeyMetadata.KeyId, at})
		}
	}
	return all
}

// inherit has the servers, which have not begun, go on with an installation in which keys were made whose dates come one after the other
// from when they start on.
func (c *cluster) inherit(n int) []due {
	c.t.Helper()
	p := newPast(c.t, filepath.Join(c.dir, "past"))
	all := p.keys(time.Now().Add(3*time.Second+time.Duration(n)*15*time.Millisecond), n) // some of it is due when they start
	p.Stop()
	key, err := os.ReadFile(filepath.Join(p.dir, "seal.key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "seal.key"), key, 0o600)
	}
	if err == nil {
		_, err = server.Run("store", "migrate", "--config", c.nodes[0].config, "--from", "sqlite:"+p.dir)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.keyID, c.secret = server.KeyID, server.Secret
	return all
}

// times returns how often something was done to a key, as a server sees it: 0 or more.
func (d due) times(client *kms.Client) (int, error) {
	if d.event == rotate {
		out, err := client.ListKeyRotations(background, &kms.ListKeyRotationsInput{KeyId: &d.id})
		if err != nil {
			return 0, err
		}
		return len(out.Rotations), nil
	}
	_, err := client.DescribeKey(background, &kms.DescribeKeyInput{KeyId: &d.id})
	var gone *types.NotFoundException
	if errors.As(err, &gone) {
		return 1, nil
	}
	return 0, err
}

// dueSoon is for how long at most something that is due may wait: a server whose attempt failed leaves the key alone for a minute.
const dueSoon = 2 * time.Minute

// verifyDue looks whether what had come due happened once and what had not did not, and what the audit logs say of it. A server that was
// killed between the record and the end of the transaction has left a record of what another one did later.
func (c *cluster) verifyDue(all []due, kills, disturbances int) {
	t := c.t
	ended := time.Now()
	ctx, cancel := context.WithTimeout(background, dueSoon)
	defer cancel()
	count := map[string]int{}
	for _, d := range all {
		for i, n := range c.nodes {
			client := n.KMS()
			times, err := d.times(client)
			for late := d.at.Before(ended); late && (times == 0 || err != nil) && ctx.Err() == nil; times, err = d.times(client) {
				time.Sleep(10 * time.Millisecond)
			}
			switch {
			case err != nil:
				t.Errorf("%s of %s: %v", d.event, d.id, err)
			case d.at.Before(ended) && times != 1, times > 1:
				t.Errorf("server %d: %s of %s, due %s before the end, happened %d times", i, d.event, d.id, ended.Sub(d.at), times)
			case times == 1 && d.at.After(time.Now()):
				t.Errorf("server %d: %s of %s happened before its time", i, d.event, d.id)
			}
			if i == 0 && times > 0 {
				count[d.event]++
			}
		}
	}
	done, failed := c.deeds()
	extra, unsure := 0, 0
	for _, d := range all {
		if d.at.After(ended) {
			continue
		}
		switch n := done[d.what()] - failed[d.what()]; {
		case done[d.what()] == 0:
			t.Errorf("%s of %s happened and is not recorded", d.event, d.id)
		case n < 1:
			unsure++
		default:
			extra += n - 1
		}
	}
	t.Logf("%d rotations and %d deletions came due and happened once; records of them: %d that a killed server left, %d of what nobody knew the outcome of",
		count[rotate], count[remove], extra, unsure)
	if extra > kills || unsure > disturbances {
		t.Errorf("with %d kills and %d disturbances there are %d records too many, and %d that say of what happened that it did not", kills, disturbances, extra, unsure)
	}
	if count[rotate] == 0 || count[remove] == 0 {
		t.Error("nothing came due")
	}
}

// deeds counts the records of all servers of what they did on their own, by event and key: those without an error, and those of failures.
func (c *cluster) deeds() (done, failed map[due]int) {
	done, failed = map[due]int{}, map[due]int{}
	for i := range c.nodes {
		for _, line := range server.AuditLines(c.t, filepath.Join(c.dir, fmt.Sprintf("data%d", i))) {
			var r struct {
				EventType, EventName, ErrorCode string
				Resources                       []struct{ ARN string }
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				c.t.Errorf("a record of server %d: %v", i, err)
			}
			if r.EventType != "AwsServiceEvent" || len(r.Resources) == 0 {
				continue
			}
			d := due{event: r.EventName, id: r.Resources[0].ARN[strings.LastIndex(r.Resources[0].ARN, "/")+1:]}
			if r.ErrorCode == "" {
				done[d]++
			} else {
				failed[d]++
			}
		}
	}
	return done, failed
}
