package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// Room returns a directory that other users can enter, until the test ends: databases do not run as root.
func Room(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "keywright")
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // that is what it is for
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Postgres runs scripts/postgres and returns what it prints.
func Postgres(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("../../scripts/postgres", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("scripts/postgres %v: %v", args, err)
	}
	return strings.TrimSpace(string(out))
}

// Database starts a PostgreSQL of its own in the directory pg of a Room, until the test ends, and returns the Room and the URL.
func Database(t testing.TB) (dir, url string) {
	t.Helper()
	dir = Room(t)
	db := filepath.Join(dir, "pg")
	url = Postgres(t, "start", db)
	t.Cleanup(func() { Postgres(t, "stop", db) })
	return dir, url
}

var madeCredentials = regexp.MustCompile(`Access key id:\s+(\S+)\s+Secret access key:\s+(\S+)`)

// Init makes the installation of a configuration, with Account, and returns the credentials of its root user.
func Init(t testing.TB, config string) (keyID, secret string) {
	t.Helper()
	out, err := Run("init", "--config", config, "--account", Account)
	if err != nil {
		t.Fatal(err)
	}
	made := madeCredentials.FindStringSubmatch(out)
	if made == nil {
		t.Fatal("keywright init printed no access key")
	}
	return made[1], made[2]
}

// Number returns how often to do something: what an environment variable says, or otherwise.
func Number(t testing.TB, variable string, otherwise int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number of 1 or more", variable, text)
	}
	return n
}
