package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/store"
)

// Storage says where keys and everything else but audit records are kept. Its zero value means the data directory.
type Storage struct {
	// DSN is the URL of a database on PostgreSQL, which other servers may use at the same time, without a password:
	// postgres://keywright@db1,db2/keywright?target_session_attrs=read-write&sslmode=verify-full&sslrootcert=/etc/ca.pem.
	// Without TLS only a database on this machine is used. The password of a client certificate's key, too, comes from elsewhere: from
	// the environment variable PGSSLPASSWORD.
	DSN string `yaml:"dsn"`
	// PasswordFile is a file whose first line is the password of the database.
	PasswordFile string `yaml:"passwordFile"`
	// PasswordEnv is the environment variable with the password. With neither, libpq's variables and password file are looked at.
	PasswordEnv string `yaml:"passwordEnv"`
	// Timeout bounds each statement on the database. Zero means 5 s.
	Timeout time.Duration `yaml:"timeout"`
	// Patience is for how long a change is tried again when the connection is lost or other servers are in the way, and
	// for how long /readyz lets the database be away. Zero means 10 s.
	Patience time.Duration `yaml:"patience"`
	// MaxStaleness bounds for how long something that another server on the database has changed is still relied on here: a disabled
	// key, a policy, a grant, an alias, an access key. Zero means 1 s.
	MaxStaleness time.Duration `yaml:"maxStaleness"`
	// ServeStaleFor is for how long requests that need nothing from the database are served while it does not answer, by what was so
	// when it last did. Up to MaxStaleness it changes nothing.
	ServeStaleFor time.Duration `yaml:"serveStaleFor"`
	// Connections is how many queries may run at once, besides changes and looks at what others changed, which take five connections at most. Zero means 8.
	Connections int `yaml:"connections"`

	password secret.Bytes // that ParseStorage took out of a URL
}

// ParseStorage makes a Storage of a URL that may have a password, which is not in DSN then.
func ParseStorage(dsn string) (Storage, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return Storage{}, errors.New("the URL of the database cannot be read") // the error would show it
	}
	s := Storage{DSN: dsn}
	if password, set := u.User.Password(); set {
		s.password = secret.FromString(password)
		u.User = url.User(u.User.Username())
		s.DSN = u.String()
	}
	return s, s.check()
}

// These say that a secret stands where everybody can read it.
var (
	errPasswordInDSN    = errors.New("dsn: a password does not belong there: name a passwordFile or a passwordEnv")
	errKeyPasswordInDSN = errors.New("dsn: the password of a client certificate's key (sslpassword) does not belong there: set PGSSLPASSWORD in the environment")
)

func (s *Storage) check() error {
	if s.DSN == "" {
		if s.PasswordFile != "" || s.PasswordEnv != "" {
			return errors.New("dsn: no database is named")
		}
		return nil
	}
	u, err := url.Parse(s.DSN)
	switch {
	case err != nil:
		return errors.New("dsn: it cannot be read") // the error would show it
	case u.Scheme != "postgres" && u.Scheme != "postgresql":
		return errors.New("dsn: want a URL that begins with postgres://")
	case s.PasswordFile != "" && s.PasswordEnv != "":
		return errors.New("the password comes from a file or from the environment, not from both")
	case s.Timeout < 0 || s.Patience < 0 || s.MaxStaleness < 0 || s.ServeStaleFor < 0 || s.Connections < 0:
		return errors.New("a negative time or number")
	}
	if _, set := u.User.Password(); set || u.Query().Has("password") {
		return errPasswordInDSN
	}
	if u.Query().Has("sslpassword") {
		return errKeyPasswordInDSN
	}
	return nil
}

// secret returns the password of the database; empty if there is none here.
func (s *Storage) secret() (secret.Bytes, error) {
	switch {
	case s.PasswordFile != "":
		text, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return secret.Bytes{}, fmt.Errorf("reading the password of the database: %w", err)
		}
		defer clear(text)
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) == 0 {
			return secret.Bytes{}, fmt.Errorf("the password file %s has an empty first line", s.PasswordFile)
		}
		return secret.Copy(line), nil
	case s.PasswordEnv != "":
		text := os.Getenv(s.PasswordEnv)
		if text == "" {
			return secret.Bytes{}, fmt.Errorf("the environment variable %s has no password", s.PasswordEnv)
		}
		return secret.FromString(text), nil
	}
	return s.password, nil
}

// options returns how to open the store of a configuration.
func (c *Config) options() (store.Options, error) {
	password, err := c.Store.secret()
	return store.Options{
		Dir: c.Data, DSN: c.Store.DSN, Password: password, Timeout: c.Store.Timeout, Patience: c.Store.Patience,
		Readers: c.Store.Connections, Now: c.Now,
	}, err
}

// openStore opens the store of a configuration after edit, if not nil, changed the options.
func (c *Config) openStore(ctx context.Context, edit func(*store.Options)) (*store.DB, error) {
	o, err := c.options()
	if err != nil {
		return nil, err
	}
	if edit != nil {
		edit(&o)
	}
	return store.Open(ctx, o)
}

// Place is where a store is: a data directory or a database.
type Place struct {
	Dir     string
	Storage Storage
}

// ErrPlace says that a text names no place of a store.
var ErrPlace = errors.New("want sqlite:DIRECTORY or a URL that begins with postgres://")

// ParsePlace reads the name of a place. An empty one is that of the configuration; a database that the configuration names, too, has
// what else it says of it.
func ParsePlace(text string, c Config) (Place, error) {
	if text == "" {
		text = "sqlite:" + c.Data
		if c.Store.DSN != "" {
			text = c.Store.DSN
		}
	}
	dir, file := strings.CutPrefix(text, "sqlite:")
	switch {
	case file && dir != "":
		return Place{Dir: dir}, nil
	case text == c.Store.DSN:
		return Place{Storage: c.Store}, nil
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		p := Place{Storage: Storage{DSN: text}}
		return p, p.Storage.check()
	}
	return Place{}, ErrPlace
}

func (p Place) open(ctx context.Context, existing bool) (*store.DB, error) {
	c := Config{Data: p.Dir, Store: p.Storage}
	if existing && p.Dir != "" {
		if _, err := os.Stat(p.Dir); errors.Is(err, os.ErrNotExist) { // do not make the directory of a misspelt name
			return nil, fmt.Errorf("%s: %w", p.Dir, store.ErrNotInitialized)
		}
	}
	return c.openStore(ctx, func(o *store.Options) { o.Existing = existing })
}

// Migrated is what MigrateStore did.
type Migrated struct {
	Installation string
	Counts       store.Counts // of rows that verify in the target
	store.Transferred
}

// MigrateStore copies an installation to another place: every row of the source is verified with one of the configured seals, and
// every row of the target again. What is remembered of audit logs stays: they do not move with it. Interrupted, it goes on where it was. Nothing may use either place meanwhile.
func MigrateStore(ctx context.Context, c Config, from, to Place, ask Ask, progress func(string, int64)) (done Migrated, err error) {
	source, err := from.open(ctx, true)
	if err != nil {
		return done, fmt.Errorf("the source: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	in, err := unseal(ctx, source, c.Seals, ask)
	if err != nil {
		return done, fmt.Errorf("the source: %w", err)
	}
	counts, err := in.Store.Verify(ctx, nil)
	if err != nil {
		return done, fmt.Errorf("the source: %w", err)
	}
	target, err := to.open(ctx, false)
	if err != nil {
		return done, fmt.Errorf("the target: %w", err)
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	if done.Transferred, err = store.Transfer(ctx, source, target, auditState, progress); err != nil {
		return done, err
	}
	s, err := target.Unseal(ctx, in.Barrier)
	if err != nil {
		return done, fmt.Errorf("the target: %w", err)
	}
	if done.Counts, err = s.Verify(ctx, nil); err == nil && done.Counts != counts {
		err = fmt.Errorf("%d rows verify in another number than in the source", done.Rows)
	}
	done.Installation = target.Installation()
	if err != nil {
		return done, fmt.Errorf("the target: %w", err)
	}
	return done, nil
}
