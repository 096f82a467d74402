// Command bench measures Keywright beside an empty HTTP server on the same machine, in turn, in one run: requests per
// second over loopback, and CPU time per request of the server process. Requests are signed beforehand; signature check,
// authorization and audit are on, as in every Keywright. It prints a table, writes it to a file, and fails if a case is
// under its floor or an answer is wrong.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// kind is one measured operation.
type kind struct {
	name        string
	connections int
	floor       float64 // of the empty server's requests per second
	requests    func(*target) ([]request, error)
	bare        func() (bare, error) // the primitive that the server runs for each request; nil where it is not measured
	bareFloor   float64              // of the requests per second of an empty server that calls the primitive
	durability  string               // of audit records; empty for written
}

func (k kind) chosen(only string) bool { return strings.Contains(k.name, only) }

// result is what the rounds of a case came to.
type result struct {
	kind
	null, keywright    float64 // requests per second, median
	nullCPU, keyCPU    float64 // microseconds of server CPU per request, median
	ratio, cpuRatio    float64 // medians of the rounds' own ratios
	lowest, highest    float64 // of the rounds' ratios
	answers, inspected int
	bareRate, bareCPU  float64 // calls of the bare primitive per second on all processors, and microseconds of CPU of each; medians
	bareRatio          float64 // of requests to calls per second of a processor that works for nothing else, median of the rounds'
	signing            float64 // requests per second of an empty server that calls the primitive, median
	signingRatio       float64 // of Keywright's to those, median of the rounds'
	busy               float64 // part of the processors' time that was used under load, median
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	null := flag.Bool("null-server", false, "be the empty server (the benchmark starts itself this way)")
	primitive := flag.String("primitive", "", "case whose primitive the empty server calls for each request")
	rounds := flag.Int("rounds", 5, "rounds of each case")
	length := flag.Duration("time", 2*time.Second, "length of one measurement")
	binary := flag.String("binary", "bin/keywright", "the program to measure")
	out := flag.String("out", "bench/RESULTS.md", "file for the table; empty for none")
	only := flag.String("only", "", "measure only cases whose name has this in it, those of several servers included")
	flag.Parse()
	if *null {
		b, err := primitiveOf(*primitive)
		if err != nil {
			log.Fatal(err)
		}
		serveNull(b)
		return
	}
	if err := run(*binary, *rounds, *length, *out, *only); err != nil {
		log.Fatal(err)
	}
}

func run(binary string, rounds int, length time.Duration, out, only string) error {
	base := os.Getenv(database)
	compared := slices.ContainsFunc(sharedKinds, func(k shared) bool { return k.chosen(only) })
	switch measured := slices.ContainsFunc(kinds, func(k kind) bool { return k.chosen(only) }); {
	case !measured && !compared:
		return fmt.Errorf("no case has %q in its name", only)
	case !measured && base == "":
		return fmt.Errorf("cases with %q in their names need a database, which %s names", only, database)
	}
	dir, err := os.MkdirTemp("", "keywright-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	empty, err := startNull("")
	if err != nil {
		return err
	}
	defer empty.stop()
	servers := map[string]*target{} // by the durability of audit records
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()

	var results []result
	for _, k := range kinds {
		if !k.chosen(only) {
			continue
		}
		durability := cmp.Or(k.durability, written)
		if servers[durability] == nil {
			if servers[durability], err = startKeywright(binary, filepath.Join(dir, durability), durability); err != nil {
				delete(servers, durability)
				return err
			}
		}
		r, err := measure(k, empty, servers[durability], rounds, length)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		log.Printf("%-16s %.2f of null (%.2f to %.2f), CPU %.2f of null", r.name, r.ratio, r.lowest, r.highest, r.cpuRatio)
		results = append(results, r)
	}
	table := report(results, rounds, length)
	var several []sharedResult
	if base != "" && compared {
		var at idle
		if several, at, err = compareServers(binary, dir, base, only, rounds, length); err != nil {
			return err
		}
		table += reportServers(several, at)
	}
	fmt.Print("\n" + table)
	if out != "" {
		if err := os.WriteFile(out, []byte(table), 0o644); err != nil {
			return err
		}
	}
	return judge(results, several)
}

// judge returns an error if a case is under its floor or over its ceiling.
func judge(results []result, several []sharedResult) error {
	for _, r := range several {
		if r.ceiling > 0 && r.ratio > r.ceiling {
			return fmt.Errorf("%s with three servers takes %.2f times one server's CPU, the ceiling is %.2f", r.name, r.ratio, r.ceiling)
		}
	}
	for _, r := range results {
		if r.bareRatio > incredible {
			return fmt.Errorf("%s reaches %.2f of the bare primitive: no server can, so the machine was busy with something else", r.name, r.bareRatio)
		}
		if r.signingRatio < r.bareFloor {
			return fmt.Errorf("%s reaches %.2f of an empty server that calls the primitive, the floor is %.2f", r.name, r.signingRatio, r.bareFloor)
		}
		if r.ratio < r.floor {
			return fmt.Errorf("%s reaches %.2f of the empty server, the floor is %.2f", r.name, r.ratio, r.floor)
		}
	}
	return nil
}

// incredible is the ratio to a bare primitive above which the measurement says nothing: a server does the primitive and more.
const incredible = 1.1

// measure runs the rounds of a case: in each, first the empty server, then Keywright, with the same requests.
func measure(k kind, empty, server *target, rounds int, length time.Duration) (result, error) {
	r := result{kind: k}
	var null, key, nullCPU, keyCPU, ratios, cpuRatios, bareRates, bareCPUs, bareRatios, signing, signingRatios, busy []float64
	var primitive bare
	var caller *target
	if k.bare != nil {
		var err error
		if primitive, err = k.bare(); err != nil {
			return r, err
		}
		if caller, err = startNull(k.name); err != nil {
			return r, err
		}
		defer caller.stop()
	}
	for round := range rounds + 1 {
		requests, err := k.requests(server) // signed anew: a signature holds for five minutes
		if err != nil {
			return r, err
		}
		time1, time2 := length, length
		if round == 0 { // warm-up, not counted
			time1, time2 = length/4, length/4
		}
		a, err := load(empty, requests, k.connections, time1, false)
		if err != nil {
			return r, fmt.Errorf("empty server: %w", err)
		}
		if err := server.settle(); err != nil {
			return r, err
		}
		b, err := load(server, requests, k.connections, time2, true)
		if err != nil {
			return r, fmt.Errorf("keywright: %w", err)
		}
		if round == 0 {
			continue
		}
		if primitive != nil {
			if err := server.settle(); err != nil {
				return r, err
			}
			rate, cpu, err := primitive.drive(length)
			if err != nil {
				return r, fmt.Errorf("bare primitive: %w", err)
			}
			c, err := load(caller, requests, k.connections, length, false)
			if err != nil {
				return r, fmt.Errorf("empty server with the primitive: %w", err)
			}
			signing, signingRatios = append(signing, c.rate), append(signingRatios, b.rate/c.rate)
			bareRates, bareCPUs, bareRatios = append(bareRates, rate), append(bareCPUs, cpu), append(bareRatios, cpu/b.cpu)
		}
		busy = append(busy, b.busy)
		null, key = append(null, a.rate), append(key, b.rate)
		nullCPU, keyCPU = append(nullCPU, a.cpu), append(keyCPU, b.cpu)
		ratios, cpuRatios = append(ratios, b.rate/a.rate), append(cpuRatios, b.cpu/a.cpu)
		r.answers += b.answers
		r.inspected += b.inspected
	}
	r.null, r.keywright, r.nullCPU, r.keyCPU = median(null), median(key), median(nullCPU), median(keyCPU)
	r.busy = median(busy)
	r.ratio, r.cpuRatio = median(ratios), median(cpuRatios)
	r.lowest, r.highest = slices.Min(ratios), slices.Max(ratios)
	if primitive != nil {
		r.bareRate, r.bareCPU, r.bareRatio = median(bareRates), median(bareCPUs), median(bareRatios)
		r.signing, r.signingRatio = median(signing), median(signingRatios)
	}
	if r.inspected == 0 {
		return r, fmt.Errorf("no answer was inspected")
	}
	return r, nil
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func report(results []result, rounds int, length time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark\n\nMade by `make bench` on %s, %d cores, %s. Each figure is the median of %d rounds of %s; a round\n", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), rounds, length)
	b.WriteString("measures the empty server (net/http: reads the body, answers as many octets) and then Keywright (`keywright dev --data`,\n" +
		"audit records written before each answer and synced every second, or synced before it, as a production server does, in the case\nthat says so; new keys synced before each answer)\n" +
		"with the same signed requests over loopback; the load generator shares the cores. Ratios are Keywright to the empty server\nof the same round.\n\n```\n")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = io.WriteString(w, "case\tconnections\tnull req/s\tkeywright req/s\tratio\tfloor\tlowest\thighest\tnull µs CPU\tkeywright µs CPU\tCPU ratio\tanswers\tinspected\t\n")
	for _, r := range results {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.1f\t%.1f\t%.2f\t%d\t%d\t\n", r.name, r.connections, r.null, r.keywright, r.ratio, r.floor, r.lowest, r.highest, r.nullCPU, r.keyCPU, r.cpuRatio, r.answers, r.inspected)
	}
	_ = w.Flush()
	b.WriteString("```\n")
	reportBare(&b, results)
	return b.String()
}

// reportBare writes what is known beside bare primitives.
func reportBare(b *strings.Builder, results []result) {
	if !slices.ContainsFunc(results, func(r result) bool { return r.bare != nil }) {
		return
	}
	b.WriteString("\nBeside the primitive of Go's standard library: called bare, by the benchmark itself on all cores, and by an empty server for each\n" +
		"request, both in the same round. of bare is what a second of a processor yields, of the server's and of the bare primitive's, because\n" +
		"the load generator takes its share of the cores from servers alone. busy is how much of the cores' time Keywright and the generator had.\n\n```\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = io.WriteString(w, "case\tbare calls/s\tempty req/s\tkeywright req/s\tof empty\tfloor\tbare µs CPU\tkeywright µs CPU\tof bare\tbusy\t\n")
	for _, r := range results {
		if r.bare != nil {
			_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%.2f\t%.2f\t\n", r.name, r.bareRate, r.signing, r.keywright, r.signingRatio, r.bareFloor, r.bareCPU, r.keyCPU, r.bareRatio, r.busy)
		}
	}
	_ = w.Flush()
	b.WriteString("```\n")
}
