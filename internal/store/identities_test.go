package store_test

import (
	"testing"
	"time"

	"github.com/keywright/keywright/internal/store"
)

// A body that was written before last uses were kept is read still.
func TestFirstAccessKeyBody(t *testing.T) {
	k, err := store.DecodeAccessKey(store.AccessKey{ID: "k"}, []byte{1, 1, 4})
	if err != nil || !k.CreatedAt.Equal(time.UnixMilli(2)) || !k.LastUsed.At.IsZero() {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := store.DecodeAccessKey(store.AccessKey{}, []byte{3, 1, 4}); err == nil {
		t.Error("a body of a newer program is read")
	}
}
