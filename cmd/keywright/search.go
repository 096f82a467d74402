package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/admin"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/trail"
)

// eventFlags are the flags that say which events are wanted.
type eventFlags struct {
	events       admin.Events
	since, until string
	values       map[string]*string // by the attribute's name in the API
	json         bool
}

func (e *eventFlags) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.events.Account, "account", "", "account whose trail it is")
	f.StringVar(&e.events.Region, "region", "", "Region; IAM's is the partition's first, us-east-1")
	f.StringVar(&e.since, "since", "", "earliest time: 2026-05-20T20:00:00Z, 2026-05-20, or a duration before now such as 90m or 7d")
	f.StringVar(&e.until, "until", "", "latest time, likewise; included")
	f.BoolVar(&e.json, "json", false, "print whole records, one a line, rather than a summary")
	e.values = map[string]*string{}
	for _, a := range []struct{ flag, name, usage string }{
		{"event-id", "EventId", "eventID"},
		{"event-name", "EventName", "operation, such as Decrypt"},
		{"read-only", "ReadOnly", "true or false"},
		{"username", "Username", "user, role session or federated user; root for root users"},
		{"resource-type", "ResourceType", "such as AWS::KMS::Key"},
		{"resource-name", "ResourceName", "ARN of a key, alias or role"},
		{"event-source", "EventSource", "such as kms.amazonaws.com"},
		{"access-key-id", "AccessKeyId", "access key that signed"},
	} {
		e.values[a.name] = f.String(a.flag, "", a.usage)
	}
}

// parse returns what is wanted.
func (e *eventFlags) parse(now time.Time) (admin.Events, error) {
	wanted := e.events
	for name, v := range e.values {
		if *v != "" {
			wanted.Attributes = append(wanted.Attributes, admin.Attribute{Key: name, Value: *v})
		}
	}
	for _, t := range []struct {
		flag, text string
		into       **time.Time
	}{{"since", e.since, &wanted.Since}, {"until", e.until, &wanted.Until}} {
		if t.text == "" {
			continue
		}
		at, err := parseMoment(t.text, now)
		if err != nil {
			return wanted, withHint(fmt.Errorf("--%s %q: %w", t.flag, t.text, err), "examples are 2026-05-20T20:00:00Z, 2026-05-20, 90m and 7d")
		}
		*t.into = &at
	}
	return wanted, nil
}

// parseMoment reads a time, a day, or how long before now.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return now.Add(-time.Duration(n) * 24 * time.Hour), err
	}
	d, err := time.ParseDuration(text)
	return now.Add(-d), err
}

func auditSearchCommand() *cobra.Command {
	var a asking
	var e eventFlags
	var dir string
	var most int
	c := &cobra.Command{
		Use: "search", Short: "Find events in the audit log, newest first", Args: cobra.NoArgs,
		Long: `Find events in the audit log, newest first: those that meet everything that is given. A running server answers from its index; without
one every record is looked at. Nothing is changed.`,
		RunE: func(c *cobra.Command, _ []string) error {
			wanted, err := e.parse(time.Now())
			if err != nil {
				return err
			}
			door, err := a.eventDoor(c, dir)
			if err != nil {
				return err
			}
			out := newEventPrinter(c.OutOrStdout(), e.json)
			q := admin.SearchEvents{Events: wanted}
			for left := most; most == 0 || left > 0; {
				if q.Limit = admin.MaxEvents; most > 0 {
					q.Limit = min(left, admin.MaxEvents)
				}
				page, err := door.search(c.Context(), q)
				if err != nil {
					return err
				}
				if err := out.print(page.Records); err != nil || !page.More {
					return err
				}
				left -= len(page.Records)
				q.Before = &page.Next
			}
			return nil
		},
	}
	a.whereFlags(c, &dir)
	e.flags(c)
	c.Flags().IntVarP(&most, "number", "n", 0, "how many at most (default: all)")
	return c
}

func auditTailCommand() *cobra.Command {
	var a asking
	var e eventFlags
	var dir string
	var most int
	var follow bool
	c := &cobra.Command{
		Use: "tail", Short: "Print the last events of the audit log, oldest first, and follow it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			wanted, err := e.parse(time.Now())
			if err != nil {
				return err
			}
			door, err := a.eventDoor(c, dir)
			if err != nil {
				return err
			}
			out := newEventPrinter(c.OutOrStdout(), e.json)
			q := admin.FollowEvents{Events: wanted, Limit: admin.MaxEvents}
			if err := lastEvents(c.Context(), door, &q, most, out); err != nil || !follow {
				return err
			}
			for c.Context().Err() == nil {
				page, err := door.follow(c.Context(), q)
				if err != nil {
					if c.Context().Err() != nil {
						return nil // it was told to stop
					}
					return err
				}
				q.From = &page.Next
				if err := out.print(page.Records); err != nil {
					return err
				}
			}
			return nil
		},
	}
	a.whereFlags(c, &dir)
	e.flags(c)
	c.Flags().IntVarP(&most, "number", "n", 10, "how many of the last events to print")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "stay and print what is recorded from then on")
	return c
}

// lastEvents prints the last events and has q begin behind the log as it was before.
func lastEvents(ctx context.Context, door *eventDoor, q *admin.FollowEvents, most int, out *eventPrinter) error {
	search := admin.SearchEvents{Events: q.Events, Limit: min(max(most, 1), admin.MaxEvents)}
	var last []json.RawMessage
	for {
		page, err := door.search(ctx, search)
		if err != nil {
			return err
		}
		if q.From == nil {
			q.From = &page.End
		}
		last = append(last, page.Records[:min(len(page.Records), most-len(last))]...)
		if !page.More || len(last) == most {
			break
		}
		search.Before = &page.Next
	}
	slices.Reverse(last)
	return out.print(last)
}

// eventDoor is where events are asked for: a running server, or the log itself.
type eventDoor struct {
	ask func(method string, question, answer any) error // nil for the log itself
	log audit.Source
}

// whereFlags are the flags that say which log it is.
func (a *asking) whereFlags(c *cobra.Command, dir *string) {
	c.Flags().StringVar(&a.config, "config", "", "configuration file of the installation")
	c.Flags().StringVar(&a.socket, "socket", "", "socket of a running server (default: admin.sock in its data directory)")
	c.Flags().StringVar(dir, "dir", "", "directory of an audit log, which is read without a server; a copy will do")
	c.MarkFlagsMutuallyExclusive("config", "socket", "dir")
	c.MarkFlagsOneRequired("config", "socket", "dir")
}

// eventDoor opens the door: a server's, if one runs, else the log in its directory, which needs no seal to be opened.
func (a *asking) eventDoor(c *cobra.Command, dir string) (*eventDoor, error) {
	socket := a.socket
	if a.config != "" {
		config, err := server.LoadConfig(a.config)
		if err != nil {
			return nil, err
		}
		if dir = config.AuditDir(); listens(config.Socket()) {
			socket = config.Socket()
		}
	}
	if socket != "" {
		client := admin.Dial(socket)
		return &eventDoor{ask: func(method string, question, answer any) error {
			return client.Ask(c.Context(), method, question, answer)
		}}, nil
	}
	log, err := audit.OpenReader(dir)
	return &eventDoor{log: log}, err
}

func (d *eventDoor) search(ctx context.Context, q admin.SearchEvents) (page admin.EventPage, err error) {
	if d.ask != nil {
		return page, d.ask(admin.MethodSearchEvents, q, &page)
	}
	query, err := q.Query()
	if err != nil {
		return page, err
	}
	before := trail.Newest
	if q.Before != nil {
		before = *q.Before
	}
	found, err := trail.Scan(ctx, d.log, query, before, q.Limit)
	return admin.NewEventPage(found), err
}

func (d *eventDoor) follow(ctx context.Context, q admin.FollowEvents) (page admin.EventPage, err error) {
	if d.ask != nil {
		return page, d.ask(admin.MethodFollowEvents, q, &page)
	}
	query, err := q.Query()
	if err != nil {
		return page, err
	}
	found, err := trail.Follow(ctx, d.log, query, *q.From, q.Limit)
	return admin.NewEventPage(found), err
}

// eventPrinter prints records.
type eventPrinter struct {
	out   io.Writer
	whole bool
	begun bool
}

func newEventPrinter(out io.Writer, whole bool) *eventPrinter {
	return &eventPrinter{out: out, whole: whole}
}

// summary is the form of a line; its columns are wide enough for what is common.
const summary = "%-20s  %-12s  %-14s  %-32s  %-24s  %-26s  %s"

func (p *eventPrinter) print(records []json.RawMessage) error {
	lines := make([]string, 0, len(records)+1)
	if !p.begun && !p.whole {
		lines = append(lines, fmt.Sprintf(summary, "TIME", "ACCOUNT", "REGION", "EVENT", "USER", "ERROR", "RESOURCES"))
	}
	p.begun = true
	for _, r := range records {
		if p.whole {
			lines = append(lines, string(r))
			continue
		}
		var e trail.Event
		if e.Parse(r) != nil {
			lines = append(lines, strconv.Quote(string(r)))
			continue
		}
		var names []string
		for _, res := range e.Resources {
			names = append(names, printable(res.Name))
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf(summary, time.Unix(e.Time, 0).UTC().Format(time.RFC3339), printable(e.Account), printable(e.Region),
			printable(e.Name), printable(e.Username), printable(e.ErrorCode), strings.Join(names, " ")), " "))
	}
	return printAll(p.out, lines...)
}

// printable is a value without what could steer a terminal. Empty ones are a dash.
func printable(v []byte) string {
	if len(v) == 0 {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, string(v))
}
