package main

import (
	"os"
	"syscall"

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
	{store.ErrLocked, "stop the server that runs on this data directory first; one process at a time writes to it"},
	{seal.ErrLastSeal, "add another seal first with: keywright seal add"},
	{seal.ErrNoSuchSeal, "list the seals with: keywright seal status"},
	{server.ErrSealMissing, "name every seal of keywright seal status in the configuration, or remove those that are gone with keywright seal remove"},
	{server.ErrLockedOut, "name one of the other seals in the configuration first"},
	{os.ErrExist, "nothing is overwritten: name another file, or move the old one away"},
	{seal.ErrOpen, "check that the configuration names the seal's right key file or passphrase; keywright seal status lists the seals"},
	{server.ErrPlainHTTP, "name a certificate and a key under tls in the configuration, or listen on 127.0.0.1"},
	{iam.ErrForeignKey, "give this account an access key id of its own"},
	{iam.ErrAccountExists, "choose another account id"},
	{syscall.EADDRINUSE, "another program listens there: stop it, or choose another address"},
	{os.ErrPermission, "run keywright as the user who owns its files"},
}
