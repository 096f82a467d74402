package soft_test

import (
	"runtime"
	"testing"

	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/keyspec"
)

// heap returns how many octets are in use.
func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// What opened keys are said to take is what they take.
func TestMemoryOfOpenedKeys(t *testing.T) {
	const n = 50
	e := soft.New(root(t.Context(), t.Fatal)())
	check := func(what string, said int, measure func() int) {
		t.Helper()
		var is int
		for range 5 { // what others leave behind is collected now and then, meanwhile
			if is = measure(); is <= said+said/5+100 && is >= said/4 {
				return
			}
		}
		t.Errorf("%s takes %d octets, said to take %d", what, is, said)
	}
	for _, row := range keyspec.All() {
		k := &key.Key{Name: key.Name{Account: "111122223333", Region: "us-east-1", ID: "1234abcd-12ab-34cd-56ef-1234567890ab"}, Spec: row.Spec}
		id, wrapped, public, err := e.Generate(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		m := &key.Material{ID: id, Wrapped: wrapped}
		hold := func(one func() any) func() int {
			return func() int {
				all := make([]any, n)
				before := heap()
				for i := range all {
					all[i] = one()
				}
				after := heap()
				runtime.KeepAlive(all)
				return (after - before) / n
			}
		}
		check(string(row.Spec), keyspec.PrivateMemory(row.Spec), hold(func() any {
			opened, err := e.Open(k, m)
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := opened.(keyspec.Signer); ok { // which prepares some keys
				if _, err := s.Sign(row.Signing[0], keyspec.Raw, []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			return opened
		}))
		if len(public) == 0 {
			continue
		}
		check("the public key of "+string(row.Spec), keyspec.PublicMemory(row.Spec), hold(func() any {
			p, err := keyspec.ParsePublic(row.Spec, public)
			if err != nil {
				t.Fatal(err)
			}
			if v, ok := p.(keyspec.Verifier); ok {
				v.Verify(row.Signing[0], keyspec.Raw, []byte("x"), make([]byte, 64))
			}
			return p
		}))
	}
}
