// Package admin is the door for administrators of the installation: accounts, control policies, registered services, quotas, and
// explanations of who may do what. It speaks JSON over HTTP on a Unix socket in the data directory, or inside one process.
//
// It trusts whoever reaches it: the socket's file permissions are its authentication, and they are those of the data
// directory. It must never listen on a network, never hand out key material, and never answer an explanation to a caller of
// the API.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxBody bounds a question: the largest has a key policy in it.
const maxBody = 1 << 20

// prefix is where the methods are served.
const prefix = "/v1/"

// method answers one kind of question.
type method func(ctx context.Context, question json.RawMessage) (any, error)

// serve adapts a typed method.
func serve[Q, A any](do func(context.Context, *Q) (A, error)) method {
	return func(ctx context.Context, question json.RawMessage) (any, error) {
		q := new(Q)
		dec := json.NewDecoder(bytes.NewReader(question))
		dec.DisallowUnknownFields()
		if err := dec.Decode(q); err != nil {
			return nil, fmt.Errorf("reading the question: %w", err)
		}
		return do(ctx, q)
	}
}

// failure is the body of an answer that is none.
type failure struct {
	Error string `json:"error"`
}

// Handler returns the door: POST /v1/<method> with a JSON object as body.
func (a *Admin) Handler() http.Handler {
	methods := a.methods()
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+prefix+"{method}", func(w http.ResponseWriter, r *http.Request) {
		do, ok := methods[r.PathValue("method")]
		if !ok {
			say(w, http.StatusNotFound, failure{"there is no method " + r.PathValue("method")})
			return
		}
		question, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			say(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		if a.fresh != nil && !own[r.PathValue("method")] {
			if err := a.confirmed(r.Context()); err != nil {
				say(w, http.StatusServiceUnavailable, failure{err.Error()})
				return
			}
		}
		answer, err := do(r.Context(), question)
		if err != nil {
			say(w, http.StatusBadRequest, failure{err.Error()})
			return
		}
		say(w, http.StatusOK, answer)
	})
	return mux
}

// An administrator's command is no SDK that tries again, so the door does: for freshFor, and the pauses grow by freshPause.
const (
	freshFor   = 5 * time.Second
	freshPause = 100 * time.Millisecond
)

// confirmed waits until what is remembered of the store is known to hold. Nothing has been done yet, so that it may ask more than once.
func (a *Admin) confirmed(ctx context.Context) error {
	began := time.Now()
	for try := 1; ; try++ {
		err := a.fresh(ctx)
		if err == nil || time.Since(began) >= freshFor {
			return err
		}
		select {
		case <-time.After(time.Duration(try) * freshPause):
		case <-ctx.Done():
			return err
		}
	}
}

func say(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		slog.Error("an administrator's answer could not be written", "err", err)
		status, text = http.StatusInternalServerError, []byte(`{"error":"internal failure"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // who asked is gone, then
}

// Client asks a door.
type Client struct{ http http.Client }

// Dial returns a client of the door on a Unix socket. It connects with the first question.
func Dial(socket string) *Client {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Local returns a client of a door in the same process.
func Local(a *Admin) *Client { return &Client{http.Client{Transport: local{a.Handler()}}} }

// local is a http.RoundTripper that needs no network.
type local struct{ door http.Handler }

// RoundTrip implements http.RoundTripper.
func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	w := answer{header: http.Header{}, status: http.StatusOK}
	l.door.ServeHTTP(&w, r)
	return &http.Response{
		StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// Ask calls a method. answer may be nil. The error is what the door says, or that it was not reached.
func (c *Client) Ask(ctx context.Context, method string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("writing the question: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://keywright"+prefix+method, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := json.Unmarshal(text, &f); err != nil || f.Error == "" {
			return fmt.Errorf("the server answers %s", resp.Status)
		}
		return errors.New(f.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
