package iam_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/iam"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire/iamapi"
)

// What is unique in the whole installation is so for servers that do not know of each other's changes yet: of two that give the same name
// at the same time, or one after the other, one is refused.
func TestUniqueOnTwoServers(t *testing.T) {
	one := newWorld(t)
	two := *one
	two.directory = two.newDirectory(10)
	clients := []*client{one.client(one.root(alice)), two.client(one.root(bob))}
	accounts := []arn.Account{alice, bob}
	worlds := []*world{one, &two}
	for _, a := range accounts { // both remember the accounts
		for _, w := range worlds {
			if _, err := w.directory.Services(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		give    func(i, round int) error
		refused error // nil for a *wire.Error
	}{
		"services": {func(i, round int) error {
			_, _, err := worlds[i].directory.RegisterService(t.Context(), accounts[i], fmt.Sprintf("s%d.example.com", round), nil)
			return err
		}, iam.ErrServiceExists},
		"aliases of accounts": {func(i, round int) error {
			_, err := clients[i].call("CreateAccountAlias", &iamapi.CreateAccountAliasRequest{AccountAlias: str(fmt.Sprint("alias-", round))})
			if err != nil {
				return err
			}
			return nil
		}, nil},
		"accounts": {func(i, round int) error {
			_, _, err := worlds[i].directory.CreateAccount(t.Context(), arn.Account(fmt.Sprintf("%012d", round)), fmt.Sprint(i))
			return err
		}, iam.ErrAccountExists},
		"access keys": {func(i, round int) error {
			return worlds[i].directory.EnsureAccount(t.Context(), arn.Account(fmt.Sprintf("%012d", 77+i)), fmt.Sprint("AKIACHOSEN", round), secret.FromString("secret"))
		}, iam.ErrForeignKey},
	} {
		t.Run(name, func(t *testing.T) {
			for round := range 20 {
				var errs [2]error
				var both sync.WaitGroup
				for i := range errs {
					give := func() { errs[i] = c.give(i, round) }
					if round%2 == 0 { // one after the other
						give()
					} else {
						both.Go(give)
					}
				}
				both.Wait()
				if (errs[0] == nil) == (errs[1] == nil) {
					t.Fatalf("round %d: %v and %v", round, errs[0], errs[1])
				}
				if err := errors.Join(errs[:]...); c.refused != nil && !errors.Is(err, c.refused) {
					t.Errorf("refused with %v", err)
				}
			}
		})
	}
}
