package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/server"
)

func auditCommand() *cobra.Command {
	group := &cobra.Command{Use: "audit", Short: "Verify, search and follow the audit log", Args: cobra.NoArgs, RunE: needsSubcommand}
	group.AddCommand(auditVerifyCommand(), auditCheckpointCommand(), auditKeyCommand(), auditBeginCommand(), auditSearchCommand(), auditTailCommand())
	return group
}

// errAltered says that an audit log is not what its checkpoints say. What was found has been printed.
var errAltered = errors.New("the audit log is not what its checkpoints say")

func auditVerifyCommand() *cobra.Command {
	var checkpoint, key string
	c := &cobra.Command{
		Use: "verify DIR", Short: "Prove that nothing in an audit log was changed, removed, reordered or cut off", Args: cobra.ExactArgs(1),
		Long: `Read a whole audit log and compare it with its signed checkpoints, and with one that you kept elsewhere. It needs the directory
and nothing else, also while a server writes to it. Without a checkpoint that was kept elsewhere, records that were cut off
together with the checkpoints that cover them are not missed; without a key that was kept elsewhere, whoever can write to
the directory can have signed everything anew.`,
		RunE: func(c *cobra.Command, args []string) error {
			o := audit.VerifyOptions{Dir: args[0]}
			if checkpoint != "" {
				text, err := os.ReadFile(checkpoint)
				if err != nil {
					return err
				}
				o.Checkpoint = text
			}
			if key != "" {
				text, err := os.ReadFile(key)
				if err != nil {
					return err
				}
				o.Key = string(text)
			}
			report, err := audit.Verify(c.Context(), o)
			if err != nil {
				return err
			}
			if err := printAll(c.OutOrStdout(), describeReport(report)...); err != nil {
				return err
			}
			if len(report.Findings) > 0 {
				return errAltered
			}
			return nil
		},
	}
	c.Flags().StringVar(&checkpoint, "checkpoint", "", "file with a checkpoint that was kept elsewhere, as keywright audit checkpoint prints it")
	c.Flags().StringVar(&key, "key", "", "file with the verifier key, kept elsewhere, as keywright audit key prints it")
	return c
}

// describeReport says what was found and how much it proves.
func describeReport(r *audit.Report) []string {
	var lines []string
	for i := range r.Findings {
		lines = append(lines, r.Findings[i].String())
	}
	if r.More > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", r.More))
	}
	if r.Newest != nil {
		lines = append(lines, fmt.Sprintf("Read records %d to before %d, %d octets, and %d checkpoints, the last of %s over %d records.",
			r.First, r.Next, r.Octets, r.Checkpoints, r.Newest.Time.Format(time.RFC3339), r.Newest.Size))
	}
	if len(r.Findings) > 0 {
		return lines
	}
	switch {
	case r.KeptFits:
		lines = append(lines, fmt.Sprintf("Nothing was changed, removed, reordered or cut off since the checkpoint that you kept, of %s over %d records.",
			r.Kept.Time.Format(time.RFC3339), r.Kept.Size))
	default:
		lines = append(lines, "The records are those of the last checkpoint in the directory.",
			"This is weaker than a checkpoint that was kept elsewhere (--checkpoint): what was cut off together with its checkpoints is not missed.")
	}
	if !r.KeyKept {
		lines = append(lines, "The key is the one in the directory: keep a copy of it elsewhere and name it with --key.")
	}
	if r.Beyond > 0 {
		lines = append(lines, fmt.Sprintf("%d records came after the last checkpoint: nothing is said about them.", r.Beyond))
	}
	return lines
}

// auditDirOf returns the directory of an audit log: the argument, or what the configuration says.
func auditDirOf(args []string, path string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	if path == "" {
		return "", withHint(errors.New("no audit log is named"), "name its directory, or the configuration with --config")
	}
	config, err := server.LoadConfig(path)
	return config.AuditDir(), err
}

func auditCheckpointCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "checkpoint [DIR]", Short: "Print the newest checkpoint of an audit log, to keep elsewhere", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := auditDirOf(args, path)
			if err != nil {
				return err
			}
			text, err := audit.NewestCheckpoint(dir)
			if err != nil {
				return err
			}
			_, err = c.OutOrStdout().Write(text)
			return err
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration file, in place of DIR")
	return c
}

func auditKeyCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "key", Short: "Print the key that verifies the checkpoints of the audit log, to keep elsewhere", Args: cobra.NoArgs,
		Long: `Print the verifier key of the audit log. It is taken from the installation, which a seal must open, and not from the directory
of the log, where somebody could have changed it. A server may run meanwhile.`,
		RunE: func(c *cobra.Command, _ []string) error {
			config, err := server.LoadConfig(path)
			if err != nil {
				return err
			}
			key, err := server.AuditKey(c.Context(), config, asker(c))
			if err != nil {
				return err
			}
			return printAll(c.OutOrStdout(), key)
		},
	}
	configFlag(c, &path)
	return c
}

func auditBeginCommand() *cobra.Command {
	var path, data string
	c := &cobra.Command{
		Use: "begin", Short: "Have the next start begin a new audit log, after the old one was moved away", Args: cobra.NoArgs,
		Long: `Have the installation forget which audit log it had. A server refuses to start on a log that is gone, or has fewer records than it
had: find out what happened with keywright audit verify, move the directory away as evidence, and run this while no server runs. The
next start begins a new log; if there is still one in the directory it is taken as it is, if its checkpoints fit. What was forgotten is
printed, and the next start records it as BeginAudit.`,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			var in *server.Installation
			if data != "" {
				in, err = openDev(c.Context(), &server.Config{Data: data}, &devOptions{})
			} else {
				var config server.Config
				if config, err = server.LoadConfig(path); err == nil {
					in, err = server.OpenInstallation(c.Context(), config, asker(c))
				}
			}
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, in.Close()) }()
			forgotten, err := in.BeginAudit(c.Context())
			if err != nil {
				return err
			}
			if forgotten != nil {
				err = printAll(c.OutOrStdout(), fmt.Sprintf("Forgotten: checkpoint %d of %s, over %d records, of %s.",
					forgotten.Number, forgotten.Origin, forgotten.Size, forgotten.Time.Format(time.RFC3339)))
				if err != nil {
					return err
				}
			}
			return printAll(c.OutOrStdout(), "The next start takes the audit log that it finds, or begins a new one.")
		},
	}
	c.Flags().StringVar(&path, "config", "", "configuration file of the installation")
	c.Flags().StringVar(&data, "data", "", "data directory of keywright dev, in place of --config")
	c.MarkFlagsMutuallyExclusive("config", "data")
	c.MarkFlagsOneRequired("config", "data")
	return c
}
