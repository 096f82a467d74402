package server

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/audit"
	"github.com/keywright/keywright/internal/pipeline"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/sink"
)

// DefaultListen is where the API is served when nothing is said.
const DefaultListen = "127.0.0.1:4599"

// Config describes a server. The fields with a yaml name are those of the configuration file, where an unknown name is an
// error; durations are written as "30s".
type Config struct {
	// Listen is the address of the API, host:port; port 0 means any free one. Empty means 127.0.0.1:4599.
	Listen string `yaml:"listen"`
	// TLS is the certificate to serve HTTPS with. Without it the API is plain HTTP, which is refused unless Listen is a
	// loopback address.
	TLS *TLS `yaml:"tls"`
	// Admin is the address of /healthz, /readyz and /metrics, plain HTTP, without authentication. Empty means there is none.
	Admin string `yaml:"admin"`
	// AdminSocket is the path of the Unix socket for administrators, which only the owner of the process can open; "none" for
	// no socket. Empty means admin.sock in the data directory, and none without a data directory.
	AdminSocket string `yaml:"adminSocket"`
	// Data is the data directory, one for each server. It is required in a file; empty means that everything stays in memory.
	Data string `yaml:"data"`
	// Node names this server among those that share a database: each has an audit log of its own, and
	// does not start while another one of its name lives. It has up to 64 letters, digits, dots,
	// dashes and underscores. Empty means the name of the machine.
	Node string `yaml:"node"`
	// Store is a database in place of the one in the data directory.
	Store Storage `yaml:"store"`
	// Seals say how the root key is opened: the first that opens is enough. A file needs one at least.
	Seals []Seal `yaml:"seals"`
	// Audit says where records go.
	Audit Audit `yaml:"audit"`
	// Drain is how long running requests may take after the server was told to stop. Zero means 25 s.
	Drain time.Duration `yaml:"drain"`
	// Schedule is how often the server looks for rotations and deletions that are due. Zero means 1 s.
	Schedule time.Duration `yaml:"schedule"`
	// Log says how the server's own log is written.
	Log Log `yaml:"log"`
	// Traces says where OpenTelemetry traces go. Without it there are none.
	Traces Traces `yaml:"traces"`
	// Limits bound what a connection may take.
	Limits Limits `yaml:"limits"`
	// Quotas say what an account may have, and how often it may call. The zero value is those of AWS KMS.
	Quotas quota.Settings `yaml:"quotas"`
	// Regions are those that requests may be for: names, or published for those of AWS, or any. Empty means published. Quotas
	// are for an account in a Region, so that with any they bound nobody who makes up Regions.
	Regions []string `yaml:"regions"`
	// LoopbackProviders lets accounts register identity providers on loopback addresses of this machine. It is for
	// development: whoever administers an account could have the server talk to what listens beside it.
	LoopbackProviders bool `yaml:"loopbackProviders"`
	// Attestation says which attestation documents of enclaves are believed. Without it, requests that name a Recipient are
	// refused.
	Attestation Attestation `yaml:"attestation"`

	// Version is what the server calls itself in metrics, traces and keywright status.
	Version string `yaml:"-"`
	// Now is the clock. Nil means time.Now.
	Now func() time.Time `yaml:"-"`
	// Wall is the clock by which is judged what others have stamped with theirs: signatures, the tokens of identity providers
	// and attestation documents. Nil means Now.
	Wall func() time.Time `yaml:"-"`
	// Meddler stands between requests and operations, for tests of other programs. Nil means that nobody does.
	Meddler pipeline.Meddler `yaml:"-"`
	// Certificate serves HTTPS with certificates from memory, in place of TLS. Nil means that TLS decides.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error) `yaml:"-"`
}

// TLS names a certificate and its key. Both files are looked at again while the server runs, and a new pair is served
// from then on.
type TLS struct {
	// Certificate is a PEM file with the server's certificate first, then those that lead to its CA. Required.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file with the private key. Required.
	Key string `yaml:"key"`
	// Reload is how often the files are looked at. Zero means 10 s.
	Reload time.Duration `yaml:"reload"`
}

// Audit describes the audit log.
type Audit struct {
	// Dir is where its segments lie. Empty means the directory "audit" in the data directory.
	Dir string `yaml:"dir"`
	// Durability says what an answer waits for: "synced", until its record is on disk, or "written", until the operating
	// system has it, which a power cut can lose. Empty means synced.
	Durability string `yaml:"durability"`
	// FlushEvery is how long a record waits for the disk at most if Durability is written. Zero means 1 s.
	FlushEvery time.Duration `yaml:"flushEvery"`
	// CheckpointEvery is the shortest time between two signed checkpoints while records come, a minute at most. Zero means 1 s.
	CheckpointEvery time.Duration `yaml:"checkpointEvery"`
	// SegmentSize is after how many octets the next segment begins. Zero means 64 MiB.
	SegmentSize int64 `yaml:"segmentSize"`
	// SegmentAge is after how long the next segment begins. Zero means that age does not matter.
	SegmentAge time.Duration `yaml:"segmentAge"`
	// Compress has segments compressed when the next one has begun.
	Compress bool `yaml:"compress"`
	// Retention is how long a segment is kept after its last record. Zero means for ever.
	Retention time.Duration `yaml:"retention"`
	// Sinks are where records are carried besides. They need a data directory.
	Sinks []sink.Config `yaml:"sinks"`
}

// Attestation describes what is needed to verify attestation documents.
type Attestation struct {
	// Roots is a PEM file with the certificates that documents must lead to. It is read when the server starts.
	Roots string `yaml:"roots"`
}

// Limits bound connections and memory.
type Limits struct {
	HeaderTimeout time.Duration `yaml:"headerTimeout"` // for all header lines of a request; zero means ReadTimeout
	ReadTimeout   time.Duration `yaml:"readTimeout"`   // for a whole request; zero means 20 s
	WriteTimeout  time.Duration `yaml:"writeTimeout"`  // for an answer; zero means 60 s
	IdleTimeout   time.Duration `yaml:"idleTimeout"`   // between two requests; zero means 5 min
	CachedKeys    int           `yaml:"cachedKeys"`    // symmetric keys and aliases that stay ready in memory, of other keys fewer; zero means 10,000
}

// LoadConfig reads a configuration file. Relative paths in it start from the file's own directory.
func LoadConfig(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	c, err := ParseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return Config{}, fmt.Errorf("finding the configuration: %w", err)
	}
	for _, p := range c.paths() {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	return c, nil
}

// ParseConfig reads the text of a configuration file. An unknown name, a second document, and what no server could run
// with are errors.
func ParseConfig(text []byte) (Config, error) {
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("there is more than one document")
	}
	if c.Data == "" {
		return Config{}, errors.New("data: no data directory is named")
	}
	if len(c.Seals) == 0 {
		return Config{}, errors.New("seals: no seal is named")
	}
	return c, c.check()
}

// nodeForm is the form of a node's name, which every name of a host has, too.
var nodeForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// node returns the name of this server among those that share its database; "" if none do.
func (c *Config) node() (string, error) {
	if c.Store.DSN == "" || c.Node != "" {
		return c.Node, nil
	}
	name, err := os.Hostname()
	if err != nil || !nodeForm.MatchString(name) {
		return "", fmt.Errorf("this machine has no name that a node can have: %w", cmp.Or(err, errNoNode))
	}
	return name, nil
}

var errNoNode = errors.New("name it with node")

// paths are the members that name files.
func (c *Config) paths() []*string {
	all := []*string{&c.Data, &c.Audit.Dir, &c.Attestation.Roots, &c.Traces.HeadersFile, &c.Store.PasswordFile}
	if c.AdminSocket != noSocket {
		all = append(all, &c.AdminSocket)
	}
	if c.TLS != nil {
		all = append(all, &c.TLS.Certificate, &c.TLS.Key)
	}
	for i := range c.Seals {
		all = append(all, &c.Seals[i].File)
	}
	for i := range c.Audit.Sinks {
		all = append(all, c.Audit.Sinks[i].Paths()...)
	}
	return all
}

// check finds what cannot work before anything is opened.
func (c *Config) check() error {
	for i := range c.Seals {
		if err := c.Seals[i].check(); err != nil {
			return fmt.Errorf("seals: number %d: %w", i+1, err)
		}
	}
	if err := c.Store.check(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if c.Node != "" && !nodeForm.MatchString(c.Node) {
		return errors.New("node: up to 64 letters, digits, dots, dashes and underscores are a name")
	}
	if err := sink.CheckAll(c.Audit.Sinks); err != nil {
		return fmt.Errorf("audit: sinks: %w", err)
	}
	if i := slices.IndexFunc(c.Audit.Sinks, func(s sink.Config) bool { return s.Name == lookup }); i >= 0 {
		return fmt.Errorf("audit: sinks: number %d: the name %s is that of the look-up index", i+1, lookup)
	}
	if len(c.Audit.Sinks) > 0 && c.Data == "" {
		return errors.New("audit: sinks: need a data directory")
	}
	if c.Audit.Durability != "" {
		if _, err := audit.ParseDurability(c.Audit.Durability); err != nil {
			return err
		}
	}
	for name, d := range map[string]time.Duration{
		"audit: flushEvery": c.Audit.FlushEvery, "audit: checkpointEvery": c.Audit.CheckpointEvery, "audit: segmentAge": c.Audit.SegmentAge, "audit: retention": c.Audit.Retention,
		"drain": c.Drain, "schedule": c.Schedule, "limits: headerTimeout": c.Limits.HeaderTimeout, "limits: readTimeout": c.Limits.ReadTimeout,
		"limits: writeTimeout": c.Limits.WriteTimeout, "limits: idleTimeout": c.Limits.IdleTimeout,
	} {
		if d < 0 {
			return fmt.Errorf("%s: a negative time", name)
		}
	}
	if c.Audit.CheckpointEvery > time.Minute { // what the store remembers of the log is no younger
		return errors.New("audit: checkpointEvery: more than a minute")
	}
	if _, err := arn.RegionSet(c.Regions); err != nil {
		return fmt.Errorf("regions: %w", err)
	}
	if err := c.Quotas.Check(); err != nil {
		return fmt.Errorf("quotas: %w", err)
	}
	if c.Limits.CachedKeys < 0 || c.Audit.SegmentSize < 0 {
		return errors.New("limits: a negative number")
	}
	if err := errors.Join(c.Log.check(), c.Traces.check()); err != nil {
		return err
	}
	if t := c.TLS; t != nil && (t.Certificate == "" || t.Key == "" || t.Reload < 0) {
		return errors.New("tls: both certificate and key must be named")
	}
	if c.TLS == nil && c.Certificate == nil && !Loopback(c.listen()) {
		return fmt.Errorf("listen: %w: %s", ErrPlainHTTP, c.listen())
	}
	return nil
}

// ErrPlainHTTP says that the API would be served without TLS to others than this machine.
var ErrPlainHTTP = errors.New("plain HTTP is served on loopback addresses only")

// wall returns Wall, or what it means.
func (c *Config) wall() func() time.Time {
	if c.Wall != nil {
		return c.Wall
	}
	return c.Now
}

func (c *Config) listen() string {
	if c.Listen == "" {
		return DefaultListen
	}
	return c.Listen
}

// Loopback reports whether host:port is an address that only this machine reaches. No name is looked up: beside addresses
// only "localhost" counts.
func Loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
