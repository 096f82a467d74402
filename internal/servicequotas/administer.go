package servicequotas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/store"
)

// What follows is for administrators, whose door records it.

// The errors that administrators get.
var (
	// ErrNoRequest says that there is no request of that id.
	ErrNoRequest = errors.New("there is no such request")
	// ErrAnswered says that a request was answered before.
	ErrAnswered = errors.New("the request was answered already")
	// ErrNoQuota says that no quota has that name or code.
	ErrNoQuota = errors.New("there is no such quota")
	// ErrNoAccount says that the installation does not have the account.
	ErrNoAccount = errors.New("there is no such account")
)

// all returns all rows of one kind but those that were changed outside Keywright: the store has said of those what there is to say,
// and they must not keep the others from being used.
func (s *Service) all(ctx context.Context, kind string) ([]*store.Quota, error) {
	rows, err := s.store.ListAllQuotas(ctx)
	var corrupt *store.CorruptRowError
	if err != nil && !errors.As(err, &corrupt) {
		return nil, err
	}
	return slices.DeleteFunc(rows, func(q *store.Quota) bool { return q.Kind != kind }), nil
}

// Load has all stored values hold. What is stored of quotas that there are no more changes nothing. Where a row is not one that this
// program wrote, the default holds and the log says so: one bad row must not keep all accounts from their keys.
func (s *Service) Load(ctx context.Context) error {
	rows, err := s.all(ctx, kindValue)
	if err != nil {
		return fmt.Errorf("loading quotas: %w", err)
	}
	var all []quota.Applied
	for _, row := range rows {
		q := quota.Find(row.Name)
		if q == nil {
			continue
		}
		var v value
		err := decode(row.Body, &v)
		if err == nil {
			err = q.Check(v.Value)
		}
		if err != nil {
			slog.Error("a stored quota cannot be used; the default holds", "quota", q.Name, "account", row.Account, "region", row.Region, "err", err)
			continue
		}
		all = append(all, quota.Applied{Place: quota.Place{Account: row.Account, Region: row.Region}, ID: q.ID, Value: v.Value})
	}
	s.book.Apply(all...)
	return nil
}

// Requests returns the requests of all accounts in all Regions, oldest first; without all, those that wait for an answer.
func (s *Service) Requests(ctx context.Context, all bool) (list []Change, err error) {
	rows, err := s.all(ctx, kindChange)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		c, err := decodeChange(row)
		if err != nil {
			return nil, err
		}
		if !c.gone(s.now()) && (all || c.Status.Open()) {
			list = append(list, *c)
		}
	}
	slices.SortFunc(list, func(a, b Change) int { return strings.Compare(age(&b), age(&a)) })
	return list, nil
}

// Request returns the request of an id, which must wait for an answer.
func (s *Service) Request(ctx context.Context, id string) (*Change, error) {
	list, err := s.Requests(ctx, true)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if list[i].ID != id {
			continue
		}
		if !list[i].Status.Open() {
			return nil, fmt.Errorf("%w: %s", ErrAnswered, list[i].Status)
		}
		return &list[i], nil
	}
	return nil, fmt.Errorf("%w: %s", ErrNoRequest, id)
}

// Answer approves or denies a request. The value of an approved one holds at once.
func (s *Service) Answer(ctx context.Context, id string, approve bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	c, err := s.Request(ctx, id)
	if err != nil {
		return err
	}
	q := quota.Find(c.Quota)
	if q == nil {
		return fmt.Errorf("%w: %s", ErrNoQuota, c.Quota)
	}
	c.Updated, c.Status = s.moment(), Denied
	if !approve {
		return s.store.Update(ctx, func(tx *store.Tx) error { return putChange(tx, c) })
	}
	c.Status = Approved
	return s.give(ctx, quota.Place{Account: c.Account, Region: c.Region}, q, c.Desired, func(tx *store.Tx) error { return putChange(tx, c) })
}

// CheckSet refuses what Set would, and returns the quota.
func (s *Service) CheckSet(ctx context.Context, p quota.Place, name string, v float64) (*quota.Quota, error) {
	q := quota.Find(name)
	if q == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoQuota, name)
	}
	if _, err := arn.ParseRegion(string(p.Region)); err != nil {
		return nil, err
	}
	if _, err := s.store.GetAccount(ctx, p.Account); errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNoAccount, p.Account)
	} else if err != nil {
		return nil, err
	}
	return q, q.Check(v)
}

// Set has a value hold in a place from now on, whether somebody asked for it or not.
func (s *Service) Set(ctx context.Context, p quota.Place, name string, v float64) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	q, err := s.CheckSet(ctx, p, name, v)
	if err != nil {
		return err
	}
	return s.give(ctx, p, q, v, func(*store.Tx) error { return nil })
}

// give stores a value, with what else there is to store, and has it hold once it is.
func (s *Service) give(ctx context.Context, p quota.Place, q *quota.Quota, v float64, also func(*store.Tx) error) error {
	return s.store.Update(ctx, func(tx *store.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		tx.OnCommit(func() { s.book.Apply(quota.Applied{Place: p, ID: q.ID, Value: v}) })
		return putValue(tx, p, q, value{v, s.moment()})
	})
}

func (s *Service) moment() time.Time { return s.now().UTC().Truncate(time.Millisecond) }

// Entry is a quota with the values that it has in a place.
type Entry struct {
	*quota.Quota
	Value, ByDefault float64
}

// List returns all quotas with their values in a place, in the order of the table.
func (s *Service) List(p quota.Place) []Entry {
	list := make([]Entry, len(quota.All()))
	for i := range quota.All() {
		q := &quota.All()[i]
		list[i] = Entry{q, s.book.Value(p, q.ID), s.book.Default(p, q.ID)}
	}
	return list
}
