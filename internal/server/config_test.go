package server_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/server"
)

const fullConfig = `
listen: 0.0.0.0:443
tls:
  certificate: tls/cert.pem
  key: /etc/key.pem
  reload: 1m
admin: 127.0.0.1:4600
data: data
seals:
  - kind: key-file
    name: main
    file: unseal.key
  - kind: passphrase
    env: PHRASE
audit:
  dir: audit
  durability: written
  flushEvery: 20ms
  checkpointEvery: 5s
  segmentSize: 1048576
  segmentAge: 24h
  compress: true
  retention: 8760h
attestation:
  roots: roots.pem
log: {format: json, level: debug}
traces:
  endpoint: http://127.0.0.1:4318
  ratio: 0.25
  headersFile: headers
drain: 10s
schedule: 500ms
limits:
  headerTimeout: 1s
  readTimeout: 2s
  writeTimeout: 3s
  idleTimeout: 4s
  cachedKeys: 5
quotas:
  enforce: unlimited
  values:
  - {name: KMS keys, value: 6, account: 000011112222}
  - name: Cryptographic operations (symmetric) request rate
    region: us-east-1
    value: 0.5
`

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	if err := os.WriteFile(path, []byte(fullConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := server.LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	six, half := 6.0, 0.5
	want := server.Config{
		Listen: "0.0.0.0:443", TLS: &server.TLS{Certificate: filepath.Join(dir, "tls/cert.pem"), Key: "/etc/key.pem", Reload: time.Minute},
		Admin: "127.0.0.1:4600", Data: filepath.Join(dir, "data"),
		Seals: []server.Seal{{Kind: seal.KindKeyFile, Name: "main", File: filepath.Join(dir, "unseal.key")}, {Kind: seal.KindPassphrase, Env: "PHRASE"}},
		Audit: server.Audit{
			Dir: filepath.Join(dir, "audit"), Durability: "written", FlushEvery: 20 * time.Millisecond, CheckpointEvery: 5 * time.Second,
			SegmentSize: 1 << 20, SegmentAge: 24 * time.Hour, Compress: true, Retention: 365 * 24 * time.Hour,
		},
		Attestation: server.Attestation{Roots: filepath.Join(dir, "roots.pem")},
		Log:         server.Log{Format: "json", Level: "debug"},
		Traces:      server.Traces{Endpoint: "http://127.0.0.1:4318", Ratio: 0.25, HeadersFile: filepath.Join(dir, "headers")},
		Drain:       10 * time.Second, Schedule: 500 * time.Millisecond,
		Limits: server.Limits{HeaderTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 3 * time.Second, IdleTimeout: 4 * time.Second, CachedKeys: 5},
		Quotas: quota.Settings{Enforce: quota.EnforceUnlimited, Values: []quota.Value{
			{Name: "KMS keys", Account: "000011112222", Value: &six},
			{Name: "Cryptographic operations (symmetric) request rate", Region: "us-east-1", Value: &half},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	const least = "data: d\nseals: [{kind: key-file, file: k}]\n"
	if _, err := server.ParseConfig([]byte(least)); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                             "no data directory",
		"[]":                           "cannot unmarshal",
		least + "lisen: x\n":           "line 3: field lisen not found",
		least + "audit: {dri: x}\n":    "field dri not found",
		least + "data: e\n":            "already defined",
		least + "---\n" + least:        "more than one document",
		least + "listen: 10.0.0.1:1\n": "plain HTTP",
		least + "drain: -1s\n":         "drain: a negative time",
		least + "audit: {checkpointEvery: 61s}\n":                                     "audit: checkpointEvery: more than a minute",
		least + "drain: 1 parsec\n":                                                   "cannot unmarshal",
		least + "limits: {cachedKeys: -1}":                                            "negative number",
		least + "quotas: {enforce: some}":                                             "quotas: enforce is aws or unlimited",
		least + "traces: {endpoint: 'http://collector.example:4318', headersFile: h}": "traces: headers are sent over https, or to a loopback address",
		least + "audit: {sinks: [{kind: stdout, name: lookup}]}":                      "audit: sinks: number 1: the name lookup is that of the look-up index",
		least + "quotas: {values: [{name: nothing, value: 1}]}":                       `quotas: values: number 1: there is no quota "nothing"`,
		least + "log: {format: xml}":                                                  `log: format: "xml" is neither text nor json`,
		least + "log: {level: loud}":                                                  `log: level: "loud" is none of`,
		least + "traces: {ratio: 1}":                                                  "traces: there is no endpoint",
		least + "traces: {endpoint: 'a:b'}":                                           "traces: the endpoint must be",
		least + "traces: {endpoint: 'http://a', ratio: 2}":                            "traces: the ratio must be",
		"data: d\nseals: [{kind: magic}]":                                             `unknown kind "magic"`,
		"data: d\nseals: [{kind: key-file}]":                                          "has a file and nothing else",
		"data: d\nseals: [{kind: passphrase, file: a, env: b}]":                       "not from both",
	} {
		if _, err := server.ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.8.8.8:1": true, "[::1]:1": true, "localhost:1": true,
		"0.0.0.0:1": false, ":1": false, "[::]:1": false, "10.0.0.1:1": false, "example.test:1": false, "127.0.0.1": false, "": false,
		"localhost.example.test:1": false, "[::ffff:10.0.0.1]:1": false,
	} {
		if got := server.Loopback(address); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add(fullConfig)
	f.Add("data: &a d\nseals: [*a]")
	f.Add("{")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := server.ParseConfig([]byte(text)); err == nil && (c.Data == "" || len(c.Seals) == 0) {
			t.Errorf("%q gives %+v", text, c)
		}
	})
}
