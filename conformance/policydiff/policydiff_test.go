package policydiff_test

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// rounds is how many questions are asked unless KEYWRIGHT_POLICY_DIFF says another number. KEYWRIGHT_POLICY_SEED is where
// they begin; without it they are always the same.
const (
	rounds = 12000
	window = 64 // questions on their way to the engine at a time
)

func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func TestAgreesWithAnotherEngine(t *testing.T) {
	n, seed := setting(t, "KEYWRIGHT_POLICY_DIFF", rounds), setting(t, "KEYWRIGHT_POLICY_SEED", 1)
	other := start(t)
	g := generator{rand.New(rand.NewPCG(uint64(seed), 0))}
	verdicts, reasons := map[string]int{}, map[string]int{}
	var unexplained []*question
	for done := 0; done < n; done += window {
		for _, q := range differing(t, other, g, min(window, n-done), verdicts) {
			q = shrink(t, other, q)
			if why := explain(t, other, q); why != "" {
				reasons[why]++
			} else {
				unexplained = append(unexplained, q)
			}
		}
	}
	total := 0
	for _, e := range exceptions {
		t.Logf("%5d  %s", reasons[e.name], e.name)
		if total += reasons[e.name]; n == rounds && seed == 1 && reasons[e.name] == 0 {
			t.Errorf("the engines no longer differ about this: %s", e.name)
		}
		if most := e.most * max(n, rounds) / rounds; reasons[e.name] > most {
			t.Errorf("the engines differ about this more often than can be: %s, %d times, not %d", e.name, reasons[e.name], most)
		}
	}
	t.Logf("%d policies compared (seed %d; verdicts %v), %d disagreements explained, %d not", n, seed, verdicts, total, len(unexplained))
	for _, q := range unexplained[:min(len(unexplained), 10)] {
		mine, _ := q.ours()
		theirs, err := other.ask(q)
		t.Errorf("we say %s, the other engine %s %v:\n%s", mine, theirs, err, q)
	}
	for _, v := range []string{"allow", "allow-account", "deny", "none"} {
		if n >= rounds && verdicts[v] < n/200 {
			t.Errorf("the verdict %s is too rare to prove anything", v)
		}
	}
}

// differing asks both about new questions and returns those on which they differ.
func differing(t *testing.T, other *engine, g generator, n int, verdicts map[string]int) (list []*question) {
	t.Helper()
	asked := make([]*question, n)
	for i := range asked {
		asked[i] = g.question()
		if err := other.send(asked[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range asked {
		theirs, err := other.receive()
		if err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
		mine, err := q.ours()
		if err != nil {
			t.Fatalf("%v\n%s", err, q)
		}
		if verdicts[mine]++; mine != theirs {
			list = append(list, q)
		}
	}
	return list
}

// shrink takes away from a question what the difference does not need.
func shrink(t *testing.T, other *engine, q *question) *question {
	t.Helper()
	for again := true; again; {
		again = false
		for c := range q.smaller {
			theirs, err := other.ask(c)
			if err != nil {
				continue // what is left is not to the engine's taste
			}
			if mine, err := c.ours(); err == nil && mine != theirs {
				q, again = c, true
				break
			}
		}
	}
	return q
}

// explain returns the name of the exception that a small question falls under, or "": the one whose rewording of it the other
// engine answers as we answer the question. Few questions have two causes, and no way of differing over them but over both.
func explain(t *testing.T, other *engine, q *question) string {
	t.Helper()
	mine, err := q.ours()
	if err != nil {
		t.Fatalf("%v\n%s", err, q)
	}
	agrees := func(r *question) bool {
		theirs, err := other.ask(r)
		return err == nil && theirs == mine
	}
	var twice []func() (string, bool)
	for _, first := range exceptions {
		r := q.clone()
		if !first.reword(r) {
			continue
		}
		if agrees(r) {
			return first.name
		}
		for _, second := range exceptions {
			twice = append(twice, func() (string, bool) {
				r := r.clone()
				return first.name, second.reword(r) && agrees(r)
			})
		}
	}
	for _, try := range twice {
		if name, ok := try(); ok {
			return name
		}
	}
	return ""
}
