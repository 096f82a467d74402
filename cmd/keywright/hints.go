package main

import (
	"errors"
	"os"
	"strings"
	"syscall"

	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/cluster"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/server"
	"github.com/keywright/keywright/internal/store"
)

// knownHints is the advice for errors of the rooms below, most particular first.
var knownHints = []struct {
	err  error
	hint string
}{
	{store.ErrNotInitialized, "make the installation with: keywright init --config FILE"},
	{store.ErrInitialized, "it is ready: start it with keywright server --config FILE, or name another data directory"},
	{store.ErrNewer, "install the newer version again, or go back with a backup from before the upgrade: docs/upgrade.md"},
	{store.ErrLocked, "stop the server that runs on this data directory first; one process at a time writes to it"},
	{store.ErrUnavailable, "see whether the database runs, and whether its URL is right"},
	{store.ErrPlainDatabase, "set sslmode=verify-full in the URL of the database, and sslrootcert if its certificate is not of a public CA"},
	{store.ErrBackupElsewhere, "use pg_dump or pg_basebackup; see docs/cluster.md"},
	{store.ErrOtherInstallation, "name an empty database or data directory"},
	{store.ErrTransferring, "finish it with: keywright store migrate"},
	{store.ErrSourceChanged, "stop every server, empty the target, and migrate again"},
	{server.ErrPlace, "see keywright store migrate --help"},
	{seal.ErrLastSeal, "add another seal first with: keywright seal add"},
	{seal.ErrNoSuchSeal, "list the seals with: keywright seal status"},
	{server.ErrSealMissing, "name every seal of keywright seal status in the configuration, or remove those that are gone with keywright seal remove"},
	{server.ErrLockedOut, "name one of the other seals in the configuration first"},
	{os.ErrExist, "nothing is overwritten: name another file, or move the old one away"},
	{seal.ErrOpen, "check that the configuration names the seal's right key file or passphrase; keywright seal status lists the seals"},
	{server.ErrPlainHTTP, "name a certificate and a key under tls in the configuration, or listen on 127.0.0.1"},
	{server.ErrNoAuditKey, "start the server once: keywright server --config FILE"},
	{cluster.ErrNameTaken, "give each of them a name of its own with node in the configuration, or --node"},
	{audit.ErrCheckpoint, "check that the checkpoint and the key are those of this log"},
	{errAltered, "keep the directory as it is: it is evidence"},
	{iam.ErrForeignKey, "give this account an access key id of its own"},
	{iam.ErrAccountExists, "choose another account id"},
	{syscall.EADDRINUSE, "another program listens there: stop it, or choose another address"},
	{os.ErrPermission, "run keywright as the user who owns its files"},
}

// sealHints is the advice for what kept a seal from opening the root key.
var sealHints = []struct {
	err  error
	hint string
}{
	{os.ErrNotExist, "put the missing key file or passphrase file back where the configuration names it, from a copy: a new one opens nothing"},
	{seal.ErrKeyFileMode, "take the rights of others from the key file with chmod 600"},
	{os.ErrPermission, "run keywright as the user who owns the key file or passphrase file"},
	{server.ErrNoPassphrase, "set the passphrase's environment variable, or write the passphrase on the first line of its file"},
	{seal.ErrOpen, "check that the configuration names the seal's right key file or passphrase; keywright seal status lists the seals"},
}

// hintForSealed returns the advice for an installation that no seal opens: one seal is enough, but which of them the
// operator can mend only he knows, so it speaks of all.
func hintForSealed(err error) string {
	var all []string
	for _, k := range sealHints {
		if errors.Is(err, k.err) {
			all = append(all, k.hint)
		}
	}
	var own *hinted
	if errors.As(err, &own) {
		all = append(all, own.hint)
	}
	if len(all) == 0 {
		return "check the seals in the configuration; keywright seal status lists those that open the installation"
	}
	return strings.Join(all, "; or ")
}
