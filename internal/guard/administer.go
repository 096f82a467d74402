package guard

import (
	"errors"
	"fmt"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
)

// administration is the eventSource of what administrators do to the installation, outside of any service.
const (
	administration = "administration.keywright"
	administrator  = "Keywright administrator"
)

// Administer does what an administrator of the installation asked for: a change of accounts, of their control policies or
// of registered services. Its record, in the trail of the account that it concerns, is written first, and only then commit
// makes the change. A record whose change could not be committed is followed by one that says so. show tells the
// record what was asked for; it must show no secret.
func (g *Guard) Administer(name string, account arn.Account, show func(*audit.Fields), commit func() error) error {
	if name == "" || commit == nil {
		return errors.New("administration without a name or a change")
	}
	parameters := new(audit.Fields)
	if show != nil {
		show(parameters)
	}
	r := audit.Record{
		Identity: audit.Identity{Type: "AWSAccount", AccountID: string(account), InvokedBy: administrator},
		Time:     g.config.Now(), Source: administration, Name: name, SourceIP: internalActor, UserAgent: administrator,
		Parameters: parameters, EventID: arn.NewUUID(), EventType: audit.ServiceEvent, Recipient: account,
	}
	if err := g.config.Recorder.Append(r.AppendJSON(nil)); err != nil {
		return fmt.Errorf("recording %s: %w", name, err)
	}
	if err := commit(); err != nil {
		g.failed(&r, err)
		return errors.Join(err, g.config.Recorder.Append(r.AppendJSON(nil)))
	}
	return nil
}
