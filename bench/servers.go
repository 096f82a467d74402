package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is a server under load.
type target struct {
	addr string
	cmd  *exec.Cmd
	keys map[use]*made // those of asymmetric and HMAC cases, made once
}

// serveNull is the empty server: what net/http costs for reading a body and answering one of the same size. It calls the primitive of
// a case for each request, if it is given one.
func serveNull(primitive bare) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("ready on http://%s\n", l.Addr())
	filler := bytes.Repeat([]byte("x"), 1<<20)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if primitive != nil {
			if err := primitive(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(filler[:len(body)])
	}), ReadHeaderTimeout: time.Minute}
	log.Fatal(server.Serve(l))
}

// startNull starts the empty server, which calls the primitive of the named case for each request; "" for none.
func startNull(primitive string) (*target, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(exec.Command(self, "-null-server", "-primitive", primitive))
}

const (
	accessKey = "AKIABENCHMARKBENCHMA"
	secretKey = "benchmark/benchmark/benchmark/benchmark"
	region    = "us-east-1"
)

// The durabilities of audit records: what keywright dev has if nothing is said, and what a server has.
const (
	written = "written"
	synced  = "synced"
)

// startKeywright starts a server whose data is in the directory.
func startKeywright(binary, dir, durability string) (*target, error) {
	return start(exec.Command(binary, "dev", "--control", "none", "--listen", "127.0.0.1:0", "--data", dir, "--audit-durability", durability,
		"--root-access-key-id", accessKey, "--root-secret-access-key", secretKey))
}

var readyLine = regexp.MustCompile(`ready on http://(\S+)`)

// start runs a server and waits for the line that says where it listens.
func start(cmd *exec.Cmd) (*target, error) {
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return &target{addr: m[1], cmd: cmd, keys: map[use]*made{}}, nil
		}
	}
	_ = cmd.Process.Kill()
	return nil, fmt.Errorf("%s ended before it was ready: %w", cmd.Path, cmd.Wait())
}

func (t *target) stop() {
	_ = t.cmd.Process.Signal(syscall.SIGTERM)
	_ = t.cmd.Wait()
}

// cpu returns the user and system time that the server has used.
func (t *target) cpu() (time.Duration, error) { return ticks(t.cmd.Process.Pid, 2) }

// ticks returns the user and system time that a process has used, from proc(5) with its ticks of 10 ms: two fields, and two more for
// its children that have ended.
func ticks(pid, fields int) (time.Duration, error) {
	all, err := stat(pid)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, text := range all[11 : 11+fields] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("unexpected process status %q", all)
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond, nil
}

// parent returns the process that started another one.
func parent(pid int) (int, error) {
	all, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(all[1])
}

// stat returns what proc(5) tells of a process behind its name.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), ") ") // the name before may have spaces
	all := strings.Fields(rest)
	if len(all) < 15 {
		return nil, fmt.Errorf("unexpected process status %q", text)
	}
	return all, nil
}

// settle waits until the server has nothing left to do in the background, such as making keys for its pool.
func (t *target) settle() error {
	const look, busy = 200 * time.Millisecond, 20 * time.Millisecond
	before, err := t.cpu()
	for end := time.Now().Add(time.Minute); err == nil; {
		time.Sleep(look)
		var now time.Duration
		if now, err = t.cpu(); err == nil && now-before <= busy {
			return nil
		}
		if before = now; time.Now().After(end) {
			return fmt.Errorf("%s is busy though nobody asks it for anything", t.cmd.Path)
		}
	}
	return err
}
