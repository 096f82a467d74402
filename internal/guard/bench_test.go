package guard_test

import (
	"fmt"
	"testing"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/guard"
	"github.com/keywright/keywright/internal/wire"
)

// course is a call whose decision is timed.
type course struct {
	name string
	*question
}

// run gives f a way to put the question again and again, within one call.
func (c *course) run(f func(put func() error)) {
	g := guard.New(guard.Config{Recorder: audit.NewMemory(1), Now: now, Directory: &c.controls})
	_, _ = g.Answer(c.meta, func(call *guard.Call) (wire.Output, error) {
		call.Identify(c.caller, c.region)
		call.Forward = c.forward
		f(func() error {
			_, err := call.Authorize(c.resource)
			return err
		})
		return nil, nil
	})
}

func courses(t testing.TB) []course {
	w := readWorld(t)
	var twenty []string
	for i := range 19 {
		twenty = append(twenty, fmt.Sprintf("Allow to user-%d kms:Encrypt,kms:Decrypt if StringEquals kms:EncryptionContext:stage = s%d", i, i))
		w.caller("user", fmt.Sprintf("user-%d", i), own, nil)
	}
	w.policies["key twenty"] = append(twenty, "Allow to root kms:*")
	for i := range 1000 {
		name := fmt.Sprintf("grantee-%d", i)
		w.caller("user", name, own, nil)
		w.grant("twenty", "g-"+name, name, []string{"Encrypt", "subset=stage:prod"})
	}
	var list []course
	for _, c := range []struct{ name, line string }{
		{"default", "allow root kms:Encrypt key/account : account"},
		{"twenty+1000grants", "allow root kms:Encrypt key/twenty : account"},
		{"identity", "allow bob kms:Encrypt key/account : account"},
		{"identity/twenty+1000grants", "allow bob kms:Encrypt key/twenty : account"},
		{"user", "allow alice kms:Encrypt key/alice : principal"},
		{"session", "allow dev/narrow kms:Encrypt key/dev : role"},
		{"foreign", "allow olga kms:Encrypt key/shared : account"},
		{"grant", "allow grantee-500 kms:Encrypt key/twenty ctx(stage:prod) : grant g-grantee-500"},
		{"condition", "allow alice kms:Encrypt key/if if(StringEquals kms:KeySpec = SYMMETRIC_DEFAULT & IpAddress aws:SourceIp = 192.0.2.0/24) : everybody"},
		{"controls", "allow bob kms:Encrypt key/account scp(full,no-decrypt) rcp(only-ours) : account"},
	} {
		list = append(list, course{c.name, w.read(c.line)})
	}
	return list
}

// A decision that allows costs no memory, whoever calls.
func TestDecisionsAllocateNothing(t *testing.T) {
	for _, c := range courses(t) {
		c.run(func(put func() error) {
			if err := put(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if n := testing.AllocsPerRun(100, func() { _ = put() }); n > 0 {
				t.Errorf("%s: %v allocations", c.name, n)
			}
		})
	}
}

// BenchmarkAuthorize times decisions. The default policy and one of 20 statements with 1,000 grants run in turn.
func BenchmarkAuthorize(b *testing.B) {
	for _, c := range courses(b) {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			c.run(func(put func() error) {
				for b.Loop() {
					if err := put(); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
