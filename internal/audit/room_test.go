package audit_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/keywright/keywright/internal/audit"
)

// A signal refuses no change, and a quota that has room for a change but not for a chunk neither.
func TestReserveTriesAgain(t *testing.T) {
	l := open(t, audit.Options{Dir: t.TempDir(), Durability: audit.Written})
	var asked []int64
	answers := []error{syscall.EINTR, syscall.EDQUOT, syscall.EINTR, nil, syscall.EDQUOT, syscall.EDQUOT}
	defer audit.AllocateWith(func(_ int, _ uint32, _, length int64) error {
		asked = append(asked, length)
		return answers[len(asked)-1]
	})()
	if err := l.Reserve(); err != nil {
		t.Errorf("with room for the change: %v", err)
	}
	if len(asked) != 4 || asked[0] != asked[1] || asked[2] != asked[3] || asked[3] >= asked[1] {
		t.Errorf("asked for %d octets", asked)
	}
	if err := l.Reserve(); !errors.Is(err, syscall.EDQUOT) {
		t.Errorf("without room: %v", err)
	}
	if err := l.AppendReserved([]byte("{}")); err != nil {
		t.Error(err)
	}
}
