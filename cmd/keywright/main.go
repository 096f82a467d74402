// Command keywright is an AWS KMS that you run yourself. This package parses its command line, wires the rooms together
// and runs them; no rule of the domain lives here. Secrets come from files, the environment or the terminal, never from
// flags, but for the throw-away credentials of "keywright dev".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/server"
)

// version is set by the linker.
var version = ""

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// run executes a command line and returns the exit status: 0, or 1 with the error and what to do about it on stderr.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		lines := []string{"keywright: " + err.Error()}
		if hint := hintFor(err); hint != "" {
			lines = append(lines, "hint: "+hint)
		}
		_ = printAll(stderr, lines...) // there is nowhere else to say it
		return 1
	}
	return 0
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "keywright",
		Short:         "AWS KMS that you run yourself",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return withHint(err, "see keywright "+c.Name()+" --help")
	})
	root.AddCommand(devCommand(), serverCommand(), initCommand(), accountCommand(), controlCommand(), serviceCommand(), quotaCommand(), whyCommand(), whoCanCommand(), putKeyPolicyCommand(), auditCommand(), sealCommand(), backupCommand(), restoreCommand(), storeCommand(), statusCommand(), versionCommand())
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "keywright %s (%s, %s/%s)\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// hinted is an error with advice.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// withHint adds advice to an error; nil stays nil.
func withHint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

// hintFor returns the advice for an error: its own, or what is known of its kind.
func hintFor(err error) string {
	var sealed *server.SealedError
	if errors.As(err, &sealed) && !errors.Is(err, server.ErrLockedOut) {
		return hintForSealed(sealed)
	}
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	var damaged *audit.DamagedError
	if errors.As(err, &damaged) {
		return "find out where with keywright audit verify " + damaged.Dir + "; then move the directory away as evidence and run keywright audit begin: the next start begins a new log"
	}
	for _, k := range knownHints {
		if errors.Is(err, k.err) {
			return k.hint
		}
	}
	return ""
}
