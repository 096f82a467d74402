package main

import (
	"bufio"
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keywright": main, "kms": kmsMain})
}

// kmsMain is the program "kms OPERATION JSON" of the scripts: it makes one signed call to $URL as $KEY with $SECRET and
// prints the answer. Status 1 is an answer with an error.
func kmsMain() {
	status, body, err := call(os.Getenv("URL"), os.Getenv("KEY"), os.Getenv("SECRET"), os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	fmt.Println(body)
	if status != http.StatusOK {
		os.Exit(1)
	}
}

func call(endpoint, key, secretKey, operation, body string) (status int, answer string, err error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return 0, "", err
	}
	signed := sigv4.Request{Method: http.MethodPost, Path: "/", Host: u.Host, Body: []byte(body), Header: []sigv4.Field{
		{Name: "Content-Type", Value: "application/x-amz-json-1.1"}, {Name: "X-Amz-Target", Value: "TrentService." + operation},
	}}
	extra := sigv4.Sign(&signed, sigv4.Credential{AccessKeyID: key, Secret: secret.FromString(secretKey)}, "us-east-1", "kms", time.Now())
	req, err := http.NewRequest(http.MethodPost, endpoint, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for _, f := range append(signed.Header, extra...) {
		req.Header.Set(f.Name, f.Value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": startServer, "capture": capture, "secretfree": secretFree, "httpget": httpGet, "flip": flip,
			"database": database,
		},
		Condition: func(cond string) (bool, error) {
			if cond != "postgres" {
				return false, errors.New("unknown condition " + cond)
			}
			return os.Getenv("KEYWRIGHT_POSTGRES") != "", nil
		},
	})
}

// database is "database FILES…": it makes a schema in the database that KEYWRIGHT_POSTGRES names, sets $DATABASE to its URL with the
// password, $URL_OF_DATABASE to the one without, $DBPASS to the password, and names it as the store of each configuration.
func database(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: database FILES...")
	}
	u, err := url.Parse(os.Getenv("KEYWRIGHT_POSTGRES"))
	ts.Check(err)
	schema := "test_" + strings.ReplaceAll(arn.NewUUID(), "-", "")
	db, err := sql.Open("pgx", u.String())
	ts.Check(err)
	_, err = db.Exec("CREATE SCHEMA " + schema)
	ts.Check(err)
	ts.Defer(func() {
		_, err := db.Exec("DROP SCHEMA " + schema + " CASCADE")
		ts.Check(errors.Join(err, db.Close()))
	})
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	password, _ := u.User.Password()
	ts.Setenv("DATABASE", u.String())
	u.User = url.User(u.User.Username())
	ts.Setenv("URL_OF_DATABASE", u.String())
	ts.Setenv("DBPASS", password)
	for _, file := range args {
		path := ts.MkAbs(file)
		text, err := os.ReadFile(path)
		ts.Check(err)
		text = append(text, "store:\n  dsn: "+u.String()+"\n  passwordEnv: DBPASS\n"...)
		ts.Check(os.WriteFile(path, text, 0o600))
	}
}

var readyLine = regexp.MustCompile(`Keywright is ready on (\S+)`)

// startServer is "start NAME ARGS…": it runs keywright with the arguments, waits until it is ready, sets $URL and, for
// dev, $KEY and $SECRET, and $ADMIN if there is an admin listener. "start -stop NAME" ends it with SIGTERM, and
// "start -kill NAME" with SIGKILL; what it printed then is in the file NAME.out.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME ARGS...")
	}
	if args[0] == "-stop" || args[0] == "-kill" {
		found, ok := running.Load(ts.MkAbs(args[1]))
		if !ok {
			ts.Fatalf("%s does not run", args[1])
		}
		s := found.(*background)
		signal := syscall.SIGTERM
		if args[0] == "-kill" {
			signal = syscall.SIGKILL
		}
		err := s.end(signal)
		if signal == syscall.SIGTERM {
			ts.Check(err)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]+".out"), s.output.Bytes(), 0o600))
		return
	}
	path, err := lookPath(ts)
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), scriptEnv(ts)
	s := &background{cmd: cmd}
	cmd.Stderr = &s.output
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = s.end(syscall.SIGKILL) })
	running.Store(ts.MkAbs(args[0]), s)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		line := lines.Text()
		s.output.WriteString(line + "\n")
		if v, ok := strings.CutPrefix(line, "export AWS_ACCESS_KEY_ID="); ok {
			ts.Setenv("KEY", v)
		}
		if v, ok := strings.CutPrefix(line, "export AWS_SECRET_ACCESS_KEY="); ok {
			ts.Setenv("SECRET", v)
		}
		if v, ok := strings.CutPrefix(line, "Health is on "); ok {
			ts.Setenv("ADMIN", strings.TrimSuffix(v, "/readyz"))
		}
		if m := readyLine.FindStringSubmatch(line); m != nil {
			ts.Setenv("URL", m[1])
			return
		}
	}
	_ = cmd.Wait()
	ts.Fatalf("%s ended before it was ready: %s", args[0], s.output.String())
}

// running are the servers of all scripts, which run beside each other, by the absolute path of their name.
var running sync.Map // of *background

type background struct {
	cmd    *exec.Cmd
	output safeBuffer
	once   sync.Once
}

func (b *background) end(s syscall.Signal) (err error) {
	b.once.Do(func() {
		_ = b.cmd.Process.Signal(s)
		err = b.cmd.Wait()
	})
	return err
}

// safeBuffer is a bytes.Buffer for two writers.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) WriteString(p string) { _, _ = s.Write([]byte(p)) }

func (s *safeBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

func (s *safeBuffer) String() string { return string(s.Bytes()) }

func lookPath(ts *testscript.TestScript) (string, error) {
	for _, dir := range strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if info, err := os.Stat(dir + "/keywright"); err == nil && !info.IsDir() {
			return dir + "/keywright", nil
		}
	}
	return "", exec.ErrNotFound
}

func scriptEnv(ts *testscript.TestScript) []string {
	env := os.Environ()
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "PHRASE", "DBPASS"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	return env
}

// capture is "capture NAME REGEXP": it sets a variable to the first group in the last standard output.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture NAME REGEXP")
	}
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("%s does not match", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// secretFree is "secretfree TEXT DIR": no file below the directory has the text in it.
func secretFree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || args[0] == "" {
		ts.Fatalf("usage: secretfree TEXT DIR")
	}
	files := 0
	for _, dir := range []string{args[1], args[1] + "/audit"} {
		entries, err := os.ReadDir(ts.MkAbs(dir))
		ts.Check(err)
		for _, e := range entries {
			if !e.Type().IsRegular() {
				continue
			}
			text, err := os.ReadFile(ts.MkAbs(dir + "/" + e.Name()))
			ts.Check(err)
			files++
			if bytes.Contains(text, []byte(args[0])) {
				ts.Fatalf("%s/%s holds the secret", dir, e.Name())
			}
		}
	}
	if files < 3 {
		ts.Fatalf("only %d files in %s", files, args[1])
	}
}

// httpGet is "httpget URL STATUS REGEXP".
func httpGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: httpget URL STATUS REGEXP")
	}
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if fmt.Sprint(resp.StatusCode) != args[1] || !regexp.MustCompile(args[2]).Match(text) {
		ts.Fatalf("status %d: %s", resp.StatusCode, text)
	}
}

// flip is "flip FILE TEXT": it changes one octet behind the first occurrence of the text.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE TEXT")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	at := bytes.Index(b, []byte(args[1]))
	if at < 0 {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	b[at+len(args[1])] ^= 1
	ts.Check(os.WriteFile(path, b, 0o600))
}
