// Package server runs the keywright binary for tests in Go: `keywright dev` on a free loopback port, or `keywright server` with a
// configuration, and clients for it.
package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Credentials of the accounts that every Server has.
const (
	Account      = "111122223333"
	KeyID        = "AKIAKEYWRIGHTGOCLI00"
	Secret       = "one secret of the tests"
	OtherAccount = "444455556666"
	OtherKeyID   = "AKIAKEYWRIGHTGOCLI01"
	OtherSecret  = "another secret of the tests"
	Region       = "us-east-1"
)

// Server is a running process.
type Server struct {
	URL     string
	Started time.Duration // from the start of the process to its ready line

	keyID, secret string // of the first account's root user
	log           string
	process       *exec.Cmd
	client        *http.Client
}

// binary returns the server to test.
func binary() string {
	if b := os.Getenv("KEYWRIGHT_BINARY"); b != "" {
		return b
	}
	return filepath.Join("..", "..", "bin", "keywright")
}

// Start starts a server on dir, or in memory where dir is empty, and has the test stop it. What it logs is appended to
// the file log. Flags are further ones of keywright dev.
func Start(t testing.TB, dir, log string, flags ...string) *Server {
	t.Helper()
	s, err := Try(dir, log, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill() })
	return s
}

var ready = regexp.MustCompile(`ready on (https?://[0-9.:]+)`)

// Try is Start for a server that may refuse to start; the error then has what it said.
func Try(dir, log string, flags ...string) (*Server, error) {
	args := []string{
		"dev", "--listen", "127.0.0.1:0", "--root-access-key-id", KeyID, "--root-secret-access-key", Secret,
		"--account", OtherAccount + "=" + OtherKeyID + ":" + OtherSecret,
	}
	if dir != "" {
		args = append(args, "--data", dir)
	}
	return launch(log, KeyID, Secret, append(args, flags...)...)
}

// Serve runs `keywright server` with a configuration, and clients with an access key of its installation. The caller ends it.
func Serve(config, log, keyID, secret string) (*Server, error) {
	return launch(log, keyID, secret, "server", "--config", config)
}

func launch(log, keyID, secret string, args ...string) (*Server, error) {
	path, err := filepath.Abs(binary())
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	before, err := out.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	s := &Server{keyID: keyID, secret: secret, log: log, process: exec.Command(path, args...), client: &http.Client{Transport: whole{&http.Transport{MaxIdleConnsPerHost: 64}}}}
	s.process.Stdout, s.process.Stderr = out, out
	began := time.Now()
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w (run make build, or set KEYWRIGHT_BINARY)", path, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.process.Wait() }()
	for {
		text, err := os.ReadFile(log)
		if err != nil {
			return nil, err
		}
		if m := ready.FindSubmatch(text[before:]); m != nil {
			s.URL, s.Started = string(m[1]), time.Since(began)
			return s, nil
		}
		select {
		case err := <-ended:
			text, _ := os.ReadFile(log) // with its last words
			return nil, fmt.Errorf("the server ended: %w\n%s", err, text[min(before, int64(len(text))):])
		case <-time.After(2 * time.Millisecond):
		}
		if time.Since(began) > 30*time.Second {
			s.Kill()
			return nil, fmt.Errorf("the server was not ready in time:\n%s", text[before:])
		}
	}
}

// Run runs another command of the binary and returns what it printed. The error has it, too.
func Run(args ...string) (string, error) {
	out, err := exec.Command(binary(), args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("keywright %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Kill ends the process at once, as a power cut would, and waits until it is gone.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop asks the process to end and waits until it has.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

func (s *Server) end(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	s.client.CloseIdleConnections() // net/http waits five seconds for connections that never sent a request
	pid := s.process.Process.Pid
	_ = syscall.Kill(pid, sig)
	for syscall.Kill(pid, 0) == nil {
		time.Sleep(time.Millisecond)
	}
	s.process = nil
}

// Memory returns how many octets of memory the process has resident. It skips the test where the system does not tell.
func (s *Server) Memory(t testing.TB) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	m := resident.FindSubmatch(text)
	if err != nil || m == nil {
		t.Skipf("no resident memory of the server: %v", err)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

var resident = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// whole is a transport that has read a request's body before it sends the request. The SDK closes the body as soon as there is an
// answer, and net/http, which may still be looking whether the body has ended, then takes it for cut off and closes the connection
// under the answer.
type whole struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return w.Transport.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return w.Transport.RoundTrip(r)
}

// Log returns all that was logged to the server's file.
func (s *Server) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s *Server) config(keyID, secret, token string) aws.Config {
	return aws.Config{
		Region: Region, BaseEndpoint: &s.URL, HTTPClient: s.client,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret, SessionToken: token}, nil
		}),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// KMS returns a client of the first account's root user that does not retry.
func (s *Server) KMS() *kms.Client { return kms.NewFromConfig(s.config(s.keyID, s.secret, "")) }

// OtherKMS is KMS for the second account.
func (s *Server) OtherKMS() *kms.Client {
	return kms.NewFromConfig(s.config(OtherKeyID, OtherSecret, ""))
}

// KMSWith is KMS with other credentials.
func (s *Server) KMSWith(keyID, secret, token string) *kms.Client {
	return kms.NewFromConfig(s.config(keyID, secret, token))
}

// STS returns an STS client of the first account's root user.
func (s *Server) STS() *sts.Client { return sts.NewFromConfig(s.config(s.keyID, s.secret, "")) }

// IAM returns an IAM client of the first account's root user.
func (s *Server) IAM() *iam.Client { return iam.NewFromConfig(s.config(s.keyID, s.secret, "")) }

// AuditLines returns the records in the audit log of dir, one JSON text each.
func AuditLines(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "audit", "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.TrimRight(string(text), "\x00") // which a server writes ahead
		lines = append(lines, strings.Split(strings.TrimSuffix(whole, "\n"), "\n")...)
	}
	return lines
}

// Context returns a context for one short test.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
