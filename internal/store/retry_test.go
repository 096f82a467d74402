package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/keywright/keywright/internal/store"
)

func TestRetry(t *testing.T) {
	conflict, other := fmt.Errorf("replacing: %w", store.ErrConflict), errors.New("something else")
	over, end := context.WithCancel(t.Context())
	end()
	for name, c := range map[string]struct {
		ctx  context.Context
		ends func(try int) error
		want error // nil for none
		runs int
	}{
		"at once":          {t.Context(), func(int) error { return nil }, nil, 1},
		"another error":    {t.Context(), func(int) error { return other }, other, 1},
		"a conflict":       {t.Context(), func(try int) error { return map[bool]error{true: conflict}[try == 1] }, nil, 2},
		"then another":     {t.Context(), func(try int) error { return map[bool]error{true: conflict, false: other}[try < 5] }, other, 5},
		"always":           {t.Context(), func(int) error { return conflict }, store.ErrUnavailable, 20},
		"nobody waits for": {over, func(int) error { return conflict }, store.ErrUnavailable, 2},
	} {
		runs := 0
		err := store.Retry(c.ctx, func() error {
			runs++
			return c.ends(runs)
		})
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || runs != c.runs {
			t.Errorf("%s: %v after %d runs, want %v after %d", name, err, runs, c.want, c.runs)
		}
	}
}
