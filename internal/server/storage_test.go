package server_test

import (
	"strings"
	"testing"

	"github.com/keywright/keywright/internal/server"
)

func TestStoreOfAConfiguration(t *testing.T) {
	const head = "data: d\nseals:\n  - {kind: key-file, file: k}\nstore:\n  "
	for _, c := range []struct{ store, want string }{
		{"dsn: postgres://u@h/d?sslmode=verify-full", ""},
		{"dsn: postgres://u@h1,h2/d?sslmode=verify-full&target_session_attrs=read-write\n  passwordFile: p\n  patience: 5s", ""},
		{"dsn: postgres://u:hunter2@h/d", "a password does not belong there"},
		{"dsn: postgres://u@h/d?password=hunter2", "a password does not belong there"},
		{"dsn: postgres://u@h/d?sslcert=c&sslkey=k&sslpassword=hunter2", "set PGSSLPASSWORD"},
		{"dsn: 'postgres://u:hunter2@[h/d'", "it cannot be read"},
		{"dsn: mysql://u@h/d", "begins with postgres://"},
		{"dsn: host=h password=hunter2", "begins with postgres://"},
		{"passwordEnv: X", "no database is named"},
		{"dsn: postgres://u@h/d\n  passwordFile: p\n  passwordEnv: X", "not from both"},
		{"dsn: postgres://u@h/d\n  timeout: -1s", "a negative time"},
		{"dsn: postgres://u@h/d\n  pasword: hunter2", "field pasword not found"},
	} {
		config, err := server.ParseConfig([]byte(head + c.store + "\n"))
		if c.want == "" && (err != nil || config.Store.DSN == "") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.store, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", c.store, err)
		}
	}
}

func TestParseStorage(t *testing.T) {
	s, err := server.ParseStorage("postgres://u:hunter2@127.0.0.1/d?sslmode=disable")
	if err != nil || s.DSN != "postgres://u@127.0.0.1/d?sslmode=disable" {
		t.Errorf("%s, %v", s.DSN, err)
	}
	for _, bad := range []string{"postgres://u:hunter2@[h/d", "postgres://u@h/d?sslpassword=hunter2", "", "mysql://u:hunter2@h/d"} {
		if _, err := server.ParseStorage(bad); bad != "" && (err == nil || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestParsePlace(t *testing.T) {
	c := server.Config{Data: "/data", Store: server.Storage{DSN: "postgres://u@h/d", PasswordEnv: "X"}}
	for _, x := range []struct {
		text     string
		dir, dsn string
		password bool
	}{
		{"", "", c.Store.DSN, true},
		{"postgres://u@h/d", "", c.Store.DSN, true},
		{"postgres://u@other/d", "", "postgres://u@other/d", false},
		{"sqlite:/x", "/x", "", false},
	} {
		p, err := server.ParsePlace(x.text, c)
		if err != nil || p.Dir != x.dir || p.Storage.DSN != x.dsn || (p.Storage.PasswordEnv == "X") != x.password {
			t.Errorf("%q: %+v, %v", x.text, p, err)
		}
	}
	for _, bad := range []string{"sqlite:", "/x", "postgres://u:hunter2@h/d"} {
		if _, err := server.ParsePlace(bad, c); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
