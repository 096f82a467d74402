package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/server"
)

func statusCommand() *cobra.Command {
	var a asking
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Say how the running server is", Args: cobra.NoArgs,
		Long: `Say how the running server is: whether it could answer a request now, its seals, store, audit log and keys, the nodes
that share its database, and what expires next. The exit status is 0 if it is ready and 1 if it is not, or does not run.`,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.status(c)
			if err != nil {
				return err
			}
			if asJSON {
				text, err := json.MarshalIndent(s, "", "  ")
				if err != nil {
					return fmt.Errorf("writing the status: %w", err)
				}
				err = printAll(c.OutOrStdout(), string(text))
				return errors.Join(err, notReady(s))
			}
			return errors.Join(table(c, statusLines(s)), notReady(s))
		},
	}
	a.flags(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// errNotRunning says that there is no server to ask.
var errNotRunning = errors.New("no server answers")

// status asks the running server. Unlike other questions, this one is not for an installation that no server runs on.
func (a *asking) status(c *cobra.Command) (s admin.Status, err error) {
	socket := a.socket
	if socket == "" {
		config, err := server.LoadConfig(a.config)
		if err != nil {
			return s, err
		}
		socket = config.Socket()
	}
	if !listens(socket) {
		return s, withHint(fmt.Errorf("%w on %s", errNotRunning, socket), "start it with keywright server --config FILE, and see its log if it does not stay")
	}
	return s, admin.Dial(socket).Ask(c.Context(), admin.MethodStatus, admin.Nothing{}, &s)
}

// notReady is the error of a server that is not ready, or nil.
func notReady(s admin.Status) error {
	if s.Ready {
		return nil
	}
	return withHint(fmt.Errorf("the server is not ready: %s", s.Reason), "see docs/runbooks/KeywrightNotReady.md")
}

// statusLines is a status for people.
func statusLines(s admin.Status) []string {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY: " + s.Reason
	}
	lines := []string{
		"State\t" + ready,
		fmt.Sprintf("Version\t%s, up for %s", s.Version, span(s.Now.Sub(s.Started))),
		"API\t" + s.Listen,
	}
	if s.Certificate != nil {
		lines = append(lines, "Certificate\tends "+when(s, *s.Certificate))
	}
	for _, x := range s.Seals {
		lines = append(lines, fmt.Sprintf("Seal\t%s %s, since %s", x.Kind, x.Name, x.Created.Format(time.DateOnly)))
	}
	lines = append(lines, fmt.Sprintf("Store\t%s, schema %d", octets(s.Store.Octets), s.Store.Schema))
	lines = append(lines, clusterLines(s)...)
	lines = append(lines, auditLines(s)...)
	return append(lines, keyLines(s)...)
}

func clusterLines(s admin.Status) []string {
	c := s.Cluster
	if c == nil {
		return nil
	}
	names := make([]string, len(c.Live))
	for i, n := range c.Live {
		names[i] = n.Node + " " + n.Version
	}
	work := "on another node"
	if c.Leads {
		work = "on this node"
	}
	fresh := fmt.Sprintf("at most %.1f s behind other nodes", c.Staleness)
	if c.Failing {
		fresh += "; the database does not answer"
	}
	return []string{
		fmt.Sprintf("Node\t%s, one of %d: %s", c.Node, len(names), strings.Join(names, ", ")),
		"Scheduled work\t" + work,
		"Freshness\t" + fresh,
		fmt.Sprintf("Clock\t%+.1f s from the database's", c.ClockOffset),
	}
}

func auditLines(s admin.Status) []string {
	a := s.Audit
	where := "in memory"
	if a.Dir != "" {
		where = fmt.Sprintf("%s, %d segments, %s, %s", a.Dir, a.Segments, octets(a.Octets), a.Durability)
	}
	lines := []string{
		"Audit log\t" + where,
		fmt.Sprintf("Audit records\t%d kept, the next is number %d, %d not yet on disk", a.Kept, a.Next, a.Unsynced),
	}
	if a.Checkpoint != nil {
		lines = append(lines, fmt.Sprintf("Checkpoint\tover %d records, %s", a.Checkpoint.Records, when(s, a.Checkpoint.Time)))
	}
	for _, x := range a.Sinks {
		line := fmt.Sprintf("Sink\t%s, %d records behind", x.Name, x.Lag)
		if x.Error != "" {
			line += ", failing: " + oneLine(x.Error)
		}
		lines = append(lines, line)
	}
	return lines
}

func keyLines(s admin.Status) []string {
	k := s.Keys
	if k.Counted.IsZero() {
		return nil
	}
	var states []string
	var total int64
	for _, state := range slices.Sorted(maps.Keys(k.States)) {
		states = append(states, fmt.Sprintf("%d %s", k.States[state], state))
		total += k.States[state]
	}
	line := fmt.Sprintf("Keys\t%d", total)
	if len(states) > 0 {
		line += ": " + strings.Join(states, ", ")
	}
	lines := []string{line}
	if k.Refused > 0 {
		lines = append(lines, fmt.Sprintf("Refused rows\t%d keys were changed outside Keywright", k.Refused))
	}
	for _, x := range []struct {
		what string
		at   *time.Time
	}{{"Next deletion", k.Deletion}, {"Next expiry", k.Expiry}, {"Next rotation", k.Rotation}} {
		if x.at != nil {
			lines = append(lines, x.what+"\t"+when(s, *x.at))
		}
	}
	return lines
}

// when is a time and how far it is away, by the server's clock.
func when(s admin.Status, at time.Time) string {
	text := at.UTC().Format(time.DateTime) + " UTC, "
	if d := at.Sub(s.Now); d >= 0 {
		return text + "in " + span(d)
	}
	return text + span(s.Now.Sub(at)) + " ago"
}

// span is a duration as people say it.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day:
		return fmt.Sprintf("%d days", d/day)
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", d/time.Hour)
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%d seconds", d/time.Second)
}

// octets is a size as people say it.
func octets(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d octets", n)
}
