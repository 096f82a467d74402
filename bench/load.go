package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// request is one signed HTTP request, ready to be written, and what is known of its answer.
type request struct {
	raw    []byte
	verify func(body []byte) error // checks a sampled answer
}

// sampleEvery is how many answers pass by their status alone before one is inspected.
const sampleEvery = 500

// outcome is what one measurement came to.
type outcome struct {
	rate               float64 // requests per second
	cpu                float64 // microseconds of the server's CPU per request
	busy               float64 // part of all processors' time that the server and this process had
	answers, inspected int
}

// connection is a TCP connection with a reader.
type connection struct {
	net.Conn
	in *bufio.Reader
}

func dial(addr string) (*connection, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &connection{c, bufio.NewReaderSize(c, 16<<10)}, nil
}

// load drives the target from a number of keep-alive connections, each with one request at a time. Every answer must
// have status 200; of Keywright's, a sample is inspected.
func load(t *target, requests []request, connections int, length time.Duration, inspect bool) (outcome, error) {
	conns := make([]*connection, connections)
	for i := range conns {
		c, err := dial(t.addr)
		if err != nil {
			return outcome{}, err
		}
		defer func() { _ = c.Close() }()
		conns[i] = c
	}
	before, err := t.cpu()
	if err != nil {
		return outcome{}, err
	}
	ownBefore, err := used()
	if err != nil {
		return outcome{}, err
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	var answers, inspected atomic.Int64
	failures := make(chan error, connections)
	start := time.Now()
	timer := time.AfterFunc(length, func() { stop.Store(true) })
	defer timer.Stop()
	for i, c := range conns {
		wg.Go(func() {
			n, sampled, err := drive(c, requests, i, &stop, inspect)
			answers.Add(int64(n))
			inspected.Add(int64(sampled))
			if err != nil {
				stop.Store(true)
				failures <- err
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	after, err := t.cpu()
	ownAfter, err2 := used()
	close(failures)
	if err := errors.Join(err, err2, <-failures); err != nil {
		return outcome{}, err
	}
	n := float64(answers.Load())
	return outcome{
		rate: n / elapsed.Seconds(), cpu: float64((after - before).Microseconds()) / n,
		busy:    (after - before + ownAfter - ownBefore).Seconds() / elapsed.Seconds() / float64(runtime.NumCPU()),
		answers: int(answers.Load()), inspected: int(inspected.Load()),
	}, nil
}

// drive sends requests over one connection until stop is set, and returns how many were answered and inspected.
func drive(c *connection, requests []request, first int, stop *atomic.Bool, inspect bool) (n, sampled int, err error) {
	var body []byte
	for at := first; !stop.Load(); at++ {
		r := &requests[at%len(requests)]
		if _, err := c.Write(r.raw); err != nil {
			return n, sampled, err
		}
		status, b, err := readAnswer(c.in, body)
		if err != nil {
			return n, sampled, err
		}
		body = b
		if status != 200 {
			return n, sampled, fmt.Errorf("status %d: %s", status, body)
		}
		if inspect && n%sampleEvery == 0 {
			if err := r.verify(body); err != nil {
				return n, sampled, fmt.Errorf("wrong answer %s: %w", body, err)
			}
			sampled++
		}
		n++
	}
	return n, sampled, nil
}

// readAnswer reads an HTTP/1.1 response with a Content-Length into buf. It is as small as can be, because it shares the
// cores with the server that is measured.
func readAnswer(in *bufio.Reader, buf []byte) (status int, body []byte, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("status line %q", line)
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "Content-Length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, nil, fmt.Errorf("header %q", line)
			}
		}
	}
	if length < 0 {
		return 0, nil, errors.New("an answer without Content-Length")
	}
	if cap(buf) < length {
		buf = make([]byte, length)
	}
	body = buf[:length]
	_, err = io.ReadFull(in, body)
	return status, body, err
}
