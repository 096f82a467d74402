package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/dev"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/server"
)

const (
	defaultControl  = "127.0.0.1:4598"
	controlVariable = "KEYWRIGHT_CONTROL" // what clients find the endpoint by
	noControl       = "none"
	controlHint     = "keywright dev prints the URL of its control endpoint: set " + controlVariable + " to it"
)

var _ pipeline.Meddler = (*dev.Control)(nil)

// controlled is the control endpoint of a server that is about to run. Nil means none.
type controlled struct {
	*dev.Control
	seed     []byte
	listener net.Listener // nil for none
	token    string       // what the endpoint is asked with; of this start only
	door     *http.Server
}

// openControl reads the seed and opens the endpoint's listener, on which nothing answers before attach.
func (o *devOptions) openControl() (*controlled, error) {
	c := &controlled{Control: dev.New()}
	if o.seed != "" {
		var err error
		if c.seed, err = os.ReadFile(o.seed); err != nil {
			return nil, fmt.Errorf("reading the seed: %w", err)
		}
	}
	at := o.control
	switch {
	case at == noControl:
		return c, nil
	case at == "" && o.listen == server.DefaultListen:
		at = defaultControl
	case at == "":
		at = "127.0.0.1:0"
	case !server.Loopback(at):
		return nil, withHint(fmt.Errorf("the control endpoint does not listen on %s: whoever reaches it moves the clock", at), "use a loopback address such as "+defaultControl)
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, withHint(fmt.Errorf("listening for control: %w", err), "choose another address with --control, or none")
	}
	c.listener, c.token = l, rand.Text()
	return c, nil
}

// steer has the server that is made with the configuration ask the Control.
func (c *controlled) steer(config *server.Config) {
	config.Now, config.Wall, config.Meddler = c.Clock().Now, time.Now, c.Control
}

// attach seeds the server and begins to serve.
func (c *controlled) attach(ctx context.Context, r dev.Rooms) error {
	if err := c.Attach(ctx, r, c.seed); err != nil {
		return err
	}
	if c.listener != nil {
		c.door = &http.Server{Handler: c.Handler(c.token), ReadTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 8 << 10}
		go func() { _ = c.door.Serve(c.listener) }() // it ends with close
	}
	return nil
}

func (c *controlled) url() string {
	if c.listener == nil {
		return ""
	}
	return dev.URL(c.token, c.listener.Addr().String())
}

func (c *controlled) close() error {
	switch {
	case c.door != nil:
		return c.door.Close()
	case c.listener != nil:
		return c.listener.Close()
	}
	return nil
}

// steering is what the commands that ask a running development server have in common.
type steering struct{ url string }

func (s *steering) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.url, "control", "", "URL of the control endpoint with its token (default $"+controlVariable+", which keywright dev prints)")
}

func (s *steering) ask(c *cobra.Command, method, path string, body, answer any) error {
	client, err := dev.Dial(cmp.Or(s.url, os.Getenv(controlVariable)))
	if err != nil {
		return withHint(err, controlHint)
	}
	err = client.Ask(c.Context(), method, path, body, answer)
	var unreachable net.Error
	if errors.As(err, &unreachable) {
		return withHint(err, controlHint)
	}
	return err
}

func devClockCommand() *cobra.Command {
	var s steering
	move := func(c *cobra.Command, m dev.Movement) error {
		var r dev.Reading
		if err := s.ask(c, http.MethodPost, "/v1/clock", m, &r); err != nil {
			return err
		}
		return printReading(c, r)
	}
	group := &cobra.Command{
		Use: "clock", Short: "Show, move or stop the clock of the development server", Args: cobra.NoArgs,
		Long: `Show, move or stop the clock of the development server. What falls due on the way forward, rotations, deletions and the expiry of material, has
happened when the command returns. Signatures are compared with the real time all the while.`,
		RunE: func(c *cobra.Command, _ []string) error {
			var r dev.Reading
			if err := s.ask(c, http.MethodGet, "/v1/clock", nil, &r); err != nil {
				return err
			}
			return printReading(c, r)
		},
	}
	advance := &cobra.Command{
		Use: "advance DURATION", Short: "Let time pass, such as 365d or 1d12h", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := dev.ParseDuration(args[0])
			if err != nil {
				return err
			}
			return move(c, dev.Movement{Advance: d})
		},
	}
	set := &cobra.Command{
		Use: "set TIME", Short: "Set the clock, to a time such as 2030-01-31T12:00:00Z", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			at, err := time.Parse(time.RFC3339, args[0])
			if err != nil {
				return withHint(fmt.Errorf("%q is no time", args[0]), "an example is 2030-01-31T12:00:00Z")
			}
			return move(c, dev.Movement{Set: &at})
		},
	}
	freeze := &cobra.Command{
		Use: "freeze", Short: "Stop the clock", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return move(c, dev.Movement{Freeze: true}) },
	}
	goOn := &cobra.Command{
		Use: "run", Short: "Let a stopped clock go on from where it stands", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return move(c, dev.Movement{Run: true}) },
	}
	for _, c := range []*cobra.Command{group, advance, set, freeze, goOn} {
		s.flags(c)
	}
	group.AddCommand(advance, set, freeze, goOn)
	return group
}

func printReading(c *cobra.Command, r dev.Reading) error {
	line := r.Now.Format(time.RFC3339) + "  " + r.Offset + " from the real time"
	if r.Frozen {
		line += ", stopped"
	}
	return printAll(c.OutOrStdout(), line)
}

func devSeedCommand() *cobra.Command {
	var s steering
	c := &cobra.Command{
		Use: "seed FILE", Short: "Make keys with known material, from a YAML file", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("reading the seed: %w", err)
			}
			var made struct{ Keys int }
			if err := s.ask(c, http.MethodPost, "/v1/seed", text, &made); err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), fmt.Sprintf("Seeded %d keys", made.Keys))
		},
	}
	s.flags(c)
	return c
}

// faultFlags adds the flags that say which calls a fault hits.
func faultFlags(c *cobra.Command, f *dev.Fault, account *string) {
	c.Flags().StringVar(&f.Service, "service", "", "kms, sts, iam, cloudtrail or servicequotas (default kms)")
	c.Flags().StringVar(&f.Operation, "operation", "", "operation, such as Decrypt (default: all)")
	c.Flags().StringVar(&f.Key, "key", "", "id, ARN or alias of the key that the calls are about (default: any)")
	c.Flags().StringVar(account, "account", "", "account of the caller (default: any)")
}

func devFaultCommand() *cobra.Command {
	group := &cobra.Command{Use: "fault", Short: "Have calls fail, take long, or lose their answer", Args: cobra.NoArgs, RunE: needsSubcommand}
	group.AddCommand(devFaultAddCommand(), devFaultListCommand(), devFaultRemoveCommand())
	return group
}

func devFaultAddCommand() *cobra.Command {
	var s steering
	var f dev.Fault
	var account, latency string
	c := &cobra.Command{
		Use: "add", Short: "Add a fault, and print its id", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			f.Account = arn.Account(account)
			if latency != "" {
				if f.Latency, err = dev.ParseDuration(latency); err != nil {
					return err
				}
			}
			return addFault(c, &s, f)
		},
	}
	s.flags(c)
	faultFlags(c, &f, &account)
	c.Flags().StringVar(&f.Error, "error", "", "error code, such as KMSInternalException")
	c.Flags().StringVar(&f.Message, "message", "", "its message")
	c.Flags().StringVar(&latency, "latency", "", "how long calls wait, such as 250ms")
	c.Flags().StringVar(&f.Connection, "connection", "", "reset: break the connection in place of the call; lose: do the call and lose its answer")
	c.Flags().IntVar(&f.Times, "times", 0, "how often (default: until it is removed)")
	c.Flags().Float64Var(&f.Probability, "probability", 0, "how likely, between 0 and 1 (default: always)")
	return c
}

func addFault(c *cobra.Command, s *steering, f dev.Fault) error {
	var made dev.Fault
	if err := s.ask(c, http.MethodPost, "/v1/faults", f, &made); err != nil {
		return err
	}
	return printAll(c.OutOrStdout(), made.ID)
}

func devFaultListCommand() *cobra.Command {
	var s steering
	c := &cobra.Command{
		Use: "list", Short: "List the faults", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var list struct{ Faults []dev.Fault }
			if err := s.ask(c, http.MethodGet, "/v1/faults", nil, &list); err != nil {
				return err
			}
			lines := []string{"ID	SERVICE	OPERATION	KEY	WHAT	HITS"}
			for _, f := range list.Faults {
				what := f.Error + f.Connection
				if f.Latency > 0 {
					what += " after " + time.Duration(f.Latency).String()
				}
				if f.Rate > 0 {
					what += fmt.Sprintf(" above %g/s", f.Rate)
				}
				lines = append(lines, fmt.Sprintf("%s	%s	%s	%s	%s	%d", f.ID, f.Service, cmp.Or(f.Operation, "all"), cmp.Or(f.Key, "any"), what, f.Hits))
			}
			return table(c, lines)
		},
	}
	s.flags(c)
	return c
}

func devFaultRemoveCommand() *cobra.Command {
	var s steering
	c := &cobra.Command{
		Use: "remove [ID]", Short: "Remove a fault, or all of them", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			path := "/v1/faults"
			if len(args) > 0 {
				path += "/" + args[0]
			}
			return s.ask(c, http.MethodDelete, path, nil, nil)
		},
	}
	s.flags(c)
	return c
}

func devThrottleCommand() *cobra.Command {
	var s steering
	f := dev.Fault{Error: "ThrottlingException"}
	var account string
	c := &cobra.Command{
		Use: "throttle", Short: "Have calls above a rate answered with ThrottlingException, and print the id of that fault", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.Rate <= 0 {
				return errors.New("--rate: a positive number of calls a second")
			}
			f.Account = arn.Account(account)
			return addFault(c, &s, f)
		},
	}
	s.flags(c)
	faultFlags(c, &f, &account)
	c.Flags().Float64Var(&f.Rate, "rate", 0, "calls a second that each account may make in a Region")
	required(c, "rate")
	return c
}

func devResetCommand() *cobra.Command {
	var s steering
	c := &cobra.Command{
		Use: "reset", Short: "Take everything away between two tests, and seed the server again", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return s.ask(c, http.MethodPost, "/v1/reset", nil, nil) },
	}
	s.flags(c)
	return c
}
