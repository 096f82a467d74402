package policydiff_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
)

// engine is the other engine, running.
type engine struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// start runs the engine for the length of the test. Without its packages, which scripts/setup installs, there is nothing to
// compare with.
func start(t *testing.T) *engine {
	t.Helper()
	if _, err := os.Stat("node_modules"); err != nil {
		t.Fatal("the engine is not installed: run scripts/setup")
	}
	cmd := exec.Command("node", "engine.mjs")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // the engine ends with its input
		if err := cmd.Wait(); err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	return &engine{in, bufio.NewReader(out)}
}

// send asks a question. receive returns the answers in the order of the questions.
func (e *engine) send(q *question) error {
	who := ""
	if p := callers[q.caller]; p != nil {
		who = p.ARN
	}
	if q.identity {
		who = callers["user"].ARN // it insists on somebody
	}
	line := mustJSON(map[string]any{
		"identity": q.identity, "policy": json.RawMessage(q.document()), "principal": who,
		"action": q.action, "resource": q.resource, "context": q.values(),
	})
	_, err := e.in.Write(append(line, '\n'))
	return err
}

func (e *engine) receive() (string, error) {
	line, err := e.out.ReadBytes('\n')
	if err != nil {
		return "", fmt.Errorf("reading the engine's answer: %w", err)
	}
	var answer struct{ Verdict, Error string }
	if err := json.Unmarshal(line, &answer); err != nil {
		return "", fmt.Errorf("reading the engine's answer: %w", err)
	}
	if answer.Verdict == "" {
		return "", errors.New(answer.Error)
	}
	return answer.Verdict, nil
}

func (e *engine) ask(q *question) (string, error) {
	if err := e.send(q); err != nil {
		return "", err
	}
	return e.receive()
}
