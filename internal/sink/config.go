package sink

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/secret"
)

// The kinds of sinks.
const (
	KindFile    = "file"
	KindStdout  = "stdout"
	KindSyslog  = "syslog"
	KindWebhook = "webhook"
	KindKafka   = "kafka"
)

// Config describes a sink. Fields that its kind does not have must be zero.
type Config struct {
	// Kind is file, stdout, syslog, webhook or kafka. Required.
	Kind string `yaml:"kind"`
	// Name names the sink and the file with its position: lower-case letters, digits and hyphens. A sink with a new name
	// begins with the oldest record. Required.
	Name string `yaml:"name"`
	// Batch is how many records are delivered at a time, at most. Zero means 500.
	Batch int `yaml:"batch"`
	// Timeout is how long the other side may take for a batch (webhook) or a connection (syslog). Zero means 10 s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxBackoff is the longest pause between two tries. Zero means 30 s.
	MaxBackoff time.Duration `yaml:"maxBackoff"`

	// Path is where a file sink writes. Required for it.
	Path string `yaml:"path"`

	// Network is unix, unixgram, udp, tcp or tls. Required for syslog.
	Network string `yaml:"network"`
	// Address is the path of the socket, or host:port. Required for syslog.
	Address string `yaml:"address"`
	// Facility is the facility of the messages (RFC 5424, section 6.2.1). Zero means 13, log audit.
	Facility int `yaml:"facility"`
	// Settle is how long a syslog connection must live on until what was sent over it counts as delivered, because nothing
	// confirms it. Zero means 5 s.
	Settle time.Duration `yaml:"settle"`

	// URL is where a webhook posts to: HTTPS, or HTTP on a loopback address. Required for it.
	URL string `yaml:"url"`
	// Secret is what a webhook signs its requests with. Required for it.
	Secret *Secret `yaml:"secret"`

	// Brokers are the host:port of some of Kafka's brokers. Required for it.
	Brokers []string `yaml:"brokers"`
	// Topic is where records go. Required for Kafka.
	Topic string `yaml:"topic"`
	// TLS has Kafka's brokers asked over TLS.
	TLS bool `yaml:"tls"`
	// SASL says who Kafka is told to be asked by. Without it nobody.
	SASL *SASL `yaml:"sasl"`

	// CA is a PEM file with what the other side's certificate must lead to: of a webhook, syslog over TLS, or Kafka with TLS.
	// Empty means the system's.
	CA string `yaml:"ca"`
	// Certificate and Key are PEM files to authenticate with, where CA may stand. Both or none.
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Defaults returns what the fields mean that are zero, for those kinds that have them.
func Defaults() Config {
	return Config{Batch: defaultBatch, Timeout: defaultTimeout, MaxBackoff: maxBackoff, Settle: defaultSettle, Facility: logAudit}
}

// SASL is who a Kafka client says it is.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. Required. PLAIN needs TLS.
	Mechanism string `yaml:"mechanism"`
	// User is the name. Required.
	User string `yaml:"user"`
	// Password is where its password is. Required.
	Password *Secret `yaml:"password"`
}

// Secret says where a secret is: exactly one of the two.
type Secret struct {
	// File has the secret in it. White space at its end does not count.
	File string `yaml:"file"`
	// Env is the environment variable with the secret.
	Env string `yaml:"env"`
}

func (s *Secret) check() error {
	if s == nil || (s.File == "") == (s.Env == "") {
		return errors.New("want either file or env")
	}
	return nil
}

// read returns the secret. The error does not have it.
func (s *Secret) read() (secret.Bytes, error) {
	text := os.Getenv(s.Env)
	if s.File != "" {
		b, err := os.ReadFile(s.File)
		if err != nil {
			return secret.Bytes{}, err
		}
		text = string(b)
	}
	if text = strings.TrimRight(text, " \t\r\n"); text == "" {
		return secret.Bytes{}, errors.New("the secret is empty")
	}
	return secret.FromString(text), nil
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// fields lists the fields that only some kinds have.
func (c *Config) fields() []struct {
	name  string
	set   bool
	kinds []string
} {
	return []struct {
		name  string
		set   bool
		kinds []string
	}{
		{"timeout", c.Timeout != 0, []string{KindSyslog, KindWebhook}},
		{"path", c.Path != "", []string{KindFile}},
		{"network", c.Network != "", []string{KindSyslog}},
		{"address", c.Address != "", []string{KindSyslog}},
		{"facility", c.Facility != 0, []string{KindSyslog}},
		{"settle", c.Settle != 0, []string{KindSyslog}},
		{"url", c.URL != "", []string{KindWebhook}},
		{"secret", c.Secret != nil, []string{KindWebhook}},
		{"brokers", c.Brokers != nil, []string{KindKafka}},
		{"topic", c.Topic != "", []string{KindKafka}},
		{"tls", c.TLS, []string{KindKafka}},
		{"sasl", c.SASL != nil, []string{KindKafka}},
		{"ca", c.CA != "", []string{KindSyslog, KindWebhook, KindKafka}},
		{"certificate", c.Certificate != "", []string{KindSyslog, KindWebhook, KindKafka}},
		{"key", c.Key != "", []string{KindSyslog, KindWebhook, KindKafka}},
	}
}

// Check reports what no sink could run with. It opens nothing.
func (c *Config) Check() error {
	if !slices.Contains([]string{KindFile, KindStdout, KindSyslog, KindWebhook, KindKafka}, c.Kind) {
		return fmt.Errorf("kind %q: want file, stdout, syslog, webhook or kafka", c.Kind)
	}
	if !nameForm.MatchString(c.Name) {
		return fmt.Errorf("name %q: want lower-case letters, digits and hyphens", c.Name)
	}
	for _, f := range c.fields() {
		if f.set && !slices.Contains(f.kinds, c.Kind) {
			return fmt.Errorf("%s: a %s sink has none", f.name, c.Kind)
		}
	}
	if c.Batch < 0 || c.Batch > maxBatch || c.Timeout < 0 || c.MaxBackoff < 0 || c.Settle < 0 || c.Facility < 0 || c.Facility > 23 {
		return fmt.Errorf("batch, timeout, maxBackoff, settle or facility: out of range (a batch has at most %d records)", maxBatch)
	}
	if (c.Certificate == "") != (c.Key == "") {
		return errors.New("certificate and key: want both or none")
	}
	switch c.Kind {
	case KindFile:
		return needed("path", c.Path)
	case KindSyslog:
		return c.checkSyslog()
	case KindWebhook:
		return c.checkWebhook()
	case KindKafka:
		return c.checkKafka()
	}
	return nil
}

func needed(name, value string) error {
	if value == "" {
		return fmt.Errorf("%s: must be given", name)
	}
	return nil
}

func (c *Config) checkSyslog() error {
	if !slices.Contains([]string{"unix", "unixgram", "udp", "tcp", "tls"}, c.Network) {
		return fmt.Errorf("network %q: want unix, unixgram, udp, tcp or tls", c.Network)
	}
	if c.Network != "tls" && (c.CA != "" || c.Certificate != "") {
		return errors.New("ca and certificate: for the network tls only")
	}
	return needed("address", c.Address)
}

func (c *Config) checkWebhook() error {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.User != nil { // an error of Parse would have the URL in it
		return errors.New("url: want an absolute URL without user and password")
	}
	if u.Scheme != "https" {
		ip, err := netip.ParseAddr(u.Hostname())
		if u.Scheme != "http" || u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
			return errors.New("url: want https, or http on a loopback address")
		}
	}
	if err := c.Secret.check(); err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	return nil
}

func (c *Config) checkKafka() error {
	if len(c.Brokers) == 0 || slices.Contains(c.Brokers, "") {
		return errors.New("brokers: must be given")
	}
	if !c.TLS && (c.CA != "" || c.Certificate != "") {
		return errors.New("ca and certificate: for tls only")
	}
	if s := c.SASL; s != nil {
		if !slices.Contains([]string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}, s.Mechanism) {
			return errors.New("sasl: mechanism: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
		}
		if s.Mechanism == "PLAIN" && !c.TLS {
			return errors.New("sasl: PLAIN without tls would show the password")
		}
		if err := needed("sasl: user", s.User); err != nil {
			return err
		}
		if err := s.Password.check(); err != nil {
			return fmt.Errorf("sasl: password: %w", err)
		}
	}
	return needed("topic", c.Topic)
}

// CheckAll checks every sink, and that no two have one name or both write to standard output.
func CheckAll(all []Config) error {
	names, stdout := map[string]bool{}, 0
	for i := range all {
		c := &all[i]
		if err := c.Check(); err != nil {
			return fmt.Errorf("number %d: %w", i+1, err)
		}
		if names[c.Name] {
			return fmt.Errorf("number %d: there are two sinks %s", i+1, c.Name)
		}
		names[c.Name] = true
		if c.Kind == KindStdout {
			stdout++
		}
	}
	if stdout > 1 {
		return errors.New("there is one standard output only")
	}
	return nil
}

// Paths returns the paths in the configuration that may be relative to its file.
func (c *Config) Paths() []*string {
	paths := []*string{&c.Path, &c.CA, &c.Certificate, &c.Key}
	if c.Network == "unix" || c.Network == "unixgram" {
		paths = append(paths, &c.Address)
	}
	if c.Secret != nil {
		paths = append(paths, &c.Secret.File)
	}
	if c.SASL != nil && c.SASL.Password != nil {
		paths = append(paths, &c.SASL.Password.File)
	}
	return paths
}
