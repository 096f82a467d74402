package kms_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/kms"
)

// The index finds every grant that a context meets, whatever was added and removed before.
func TestGrantIndex(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	contexts := []map[string]string{nil, {}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": "1"}, {"a": "2", "b": "1", "": "x"}}
	var set kms.GrantSet
	have := map[string]*key.Grant{}
	for i := range 3000 {
		if len(have) > 0 && random.IntN(3) == 0 {
			for id := range have {
				set.Remove(id)
				delete(have, id)
				break
			}
			continue
		}
		g := &key.Grant{ID: fmt.Sprint(i), Grantee: key.GrantPrincipal{ARN: "x", ID: fmt.Sprint("AIDA", random.IntN(3))}}
		switch asked := contexts[random.IntN(len(contexts))]; random.IntN(3) {
		case 0:
			g.Constraints.Equals = asked
		case 1:
			g.Constraints.Subset = asked
		}
		if random.IntN(2) == 0 {
			g.Name = "name"
		}
		set.Add(g)
		set.Add(g)
		have[g.ID] = g
		if i%50 > 0 {
			continue
		}
		for n := range 3 {
			grantee := fmt.Sprint("AIDA", n)
			for _, context := range contexts {
				list := set.Under(grantee, context)
				met := 0
				for _, g := range list {
					if have[g.ID] != g || g.Grantee.ID != grantee {
						t.Fatalf("%+v is not there", g)
					}
					if g.Constraints.Meets(context) {
						met++
					}
				}
				want := 0
				for _, g := range have {
					if g.Grantee.ID == grantee && g.Constraints.Meets(context) {
						want++
					}
				}
				if met != want {
					t.Fatalf("%v meets %d grants, found %d", context, want, met)
				}
			}
			count := 0
			for _, g := range have {
				if g.Grantee.ID == grantee {
					count++
				}
			}
			if got := len(set.All(grantee)); got != count {
				t.Fatalf("%d grants, want %d", got, count)
			}
		}
	}
	if set.Size() != len(have) {
		t.Errorf("%d grants, want %d", set.Size(), len(have))
	}
}

// A list that was handed out does not change under its reader.
func TestGrantListsStay(t *testing.T) {
	var set kms.GrantSet
	of := key.GrantPrincipal{ARN: "x", ID: "AIDA"}
	var ids []string
	for i := range 10 {
		ids = append(ids, fmt.Sprint(i))
		set.Add(&key.Grant{ID: ids[i], Grantee: of})
	}
	list := set.All("AIDA")
	for i, id := range ids {
		set.Remove(id)
		set.Add(&key.Grant{ID: fmt.Sprint("new", i), Grantee: of})
	}
	var got []string
	for _, g := range list {
		got = append(got, g.ID)
	}
	if !slices.Equal(got, ids) {
		t.Errorf("the list became %v", got)
	}
}
