package dev

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Header must be in every request to the door, with its token, which other users of the machine do not know. A web page cannot even
// send the header to another site without asking first (a CORS preflight, Fetch standard), and the door answers no such question.
const Header = "X-Keywright-Dev"

// Handler returns the door:
//
//	GET    /v1/clock        a Reading
//	POST   /v1/clock        Movement → Reading
//	POST   /v1/seed         a YAML file → {"keys": n}
//	GET    /v1/faults       {"faults": [Fault]}
//	POST   /v1/faults       Fault → Fault
//	DELETE /v1/faults       all of them
//	DELETE /v1/faults/{id}
//	POST   /v1/reset
//
// Answers are JSON; of an error they have a member "error". Who does not know the token gets nothing done; nobody does if it is empty.
func (c *Control) Handler(token string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/clock", answering(func(*http.Request) (any, error) { return c.clock.Read(), nil }))
	mux.HandleFunc("POST /v1/clock", answering(func(r *http.Request) (any, error) {
		var m Movement
		if err := read(r, &m); err != nil {
			return nil, err
		}
		return c.Move(r.Context(), m)
	}))
	mux.HandleFunc("POST /v1/seed", answering(func(r *http.Request) (any, error) {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		n, err := c.Seed(r.Context(), text)
		return map[string]int{"keys": n}, err
	}))
	mux.HandleFunc("GET /v1/faults", answering(func(*http.Request) (any, error) { return faultList{c.faults.all()}, nil }))
	mux.HandleFunc("POST /v1/faults", answering(func(r *http.Request) (any, error) {
		var f Fault
		if err := read(r, &f); err != nil {
			return nil, err
		}
		return c.faults.add(f)
	}))
	mux.HandleFunc("DELETE /v1/faults", answering(func(*http.Request) (any, error) {
		c.faults.clear()
		return struct{}{}, nil
	}))
	mux.HandleFunc("DELETE /v1/faults/{id}", answering(func(r *http.Request) (any, error) {
		if !c.faults.remove(r.PathValue("id")) {
			return nil, fmt.Errorf("there is no fault %.40q", r.PathValue("id"))
		}
		return struct{}{}, nil
	}))
	mux.HandleFunc("POST /v1/reset", answering(func(r *http.Request) (any, error) { return struct{}{}, c.Reset(r.Context()) }))
	return guarded(token, mux)
}

// faultList is the answer to GET /v1/faults.
type faultList struct {
	Faults []Fault `json:"faults"`
}

// problem is the body of an answer that is none.
type problem struct {
	Error string `json:"error"`
}

// guarded lets only those through that know the token and are no web page: what comes from one names its origin, cannot bring
// Header, and, if the page's own name was made to lead here, has that name as its Host.
func guarded(token string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site := r.Header.Get("Sec-Fetch-Site")
		switch {
		case r.Header.Get("Origin") != "" || site != "" && site != "none":
			say(w, http.StatusForbidden, problem{"the control endpoint answers no web pages"})
		case !loopbackHost(r.Host):
			say(w, http.StatusForbidden, problem{"the control endpoint is reached by a loopback address or localhost only"})
		case token == "" || subtle.ConstantTimeCompare([]byte(r.Header.Get(Header)), []byte(token)) != 1:
			say(w, http.StatusForbidden, problem{"the control endpoint wants the header " + Header + " with its token, which keywright dev prints before the @ of its URL"})
		default:
			r.Body = http.MaxBytesReader(w, r.Body, maxSeed+1)
			next.ServeHTTP(w, r)
		}
	})
}

// loopbackHost reports whether a Host header names this machine as only it can.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback()
}

// answering makes a handler of what answers a request.
func answering(do func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := do(r)
		if err != nil {
			say(w, http.StatusBadRequest, problem{err.Error()})
			return
		}
		say(w, http.StatusOK, answer)
	}
}

// read decodes the body of a request. An empty one is an empty object.
func read(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the request: %w", err)
	}
	if dec.More() {
		return errors.New("reading the request: more than one value")
	}
	return nil
}

func say(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		slog.Error("an answer of the control endpoint could not be written", "err", err)
		status, text = http.StatusInternalServerError, []byte(`{"error":"internal failure"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n')) // who asked is gone, then
}

// Client asks a door.
type Client struct {
	base, token string
	http        http.Client
}

// Dial returns a client of the door at a URL such as http://TOKEN@127.0.0.1:4598. It connects with the first question, and to this
// machine only: seeds have private keys, and go in clear.
func Dial(base string) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || !loopbackHost(u.Host) || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("that is no URL of a control endpoint, such as http://TOKEN@127.0.0.1:4598") // without it: it may have a token
	}
	return &Client{base: "http://" + u.Host, token: u.User.Username(), http: http.Client{
		Transport:     &http.Transport{Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// URL is what Dial takes for a door.
func URL(token, address string) string { return "http://" + token + "@" + address }

// Ask sends a request: body is sent as it is if it is a []byte, as JSON else, and not at all if it is nil. answer may be nil. The
// error is what the door says, or that it was not reached.
func (c *Client) Ask(ctx context.Context, method, path string, body, answer any) error {
	text, raw := body.([]byte)
	if !raw && body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("writing the question: %w", err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set(Header, c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the development server: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	text, err = io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var p problem
		if err := json.Unmarshal(text, &p); err != nil || p.Error == "" {
			return fmt.Errorf("%s is no control endpoint of keywright dev: it answers %s", c.base, resp.Status)
		}
		return errors.New(p.Error)
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
