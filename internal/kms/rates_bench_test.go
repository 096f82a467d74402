package kms_test

import (
	"context"
	"testing"

	"github.com/keywright/keywright/internal/quota"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// What counting a request costs beside everything else that Encrypt does.
func BenchmarkQuotas(b *testing.B) {
	for _, c := range []struct {
		name   string
		quotas quota.Settings
	}{
		{"unlimited", quota.Settings{Enforce: quota.EnforceUnlimited}},
		{"aws", quotas(map[quota.ID]float64{quota.Symmetric: 4_000_000})},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, "")
			w.quotas = c.quotas
			w.open()
			id, _ := w.newKey()
			op := w.operations["Encrypt"]
			input := &kmsapi.EncryptRequest{KeyID: wire.Some(id), Plaintext: secret.Copy(make([]byte, 64))}
			b.ReportAllocs()
			for b.Loop() {
				w.clock.Add(1)
				if _, failure := w.answer(context.Background(), &op, input); failure != nil {
					b.Fatal(failure)
				}
			}
		})
	}
}
