package kms_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// BenchmarkManyGrants fills a key with as many grants as it can have, and then has the last grantee encrypt under it and a
// grantee under a key with one grant, in turn. The metrics are CreateGrant calls per second, for the first and the last
// thousand, and the ratio of the medians of Encrypt.
func BenchmarkManyGrants(b *testing.B) {
	w := newWorld(b, "")
	many, manyARN := w.newKey()
	one, oneARN := w.newKey()
	u := w.user("u")
	w.grant(one, userARN+"u", []string{"Encrypt"}, in{"Constraints": in{"EncryptionContextSubset": in{"volume": "49999"}}})
	const count, part = 50_000, 1000
	var rates []float64
	start := time.Now()
	for i := range count {
		w.grant(many, userARN+"u", []string{"Encrypt"}, in{"Constraints": in{"EncryptionContextSubset": in{"volume": fmt.Sprint(i)}}})
		if (i+1)%part == 0 {
			rates = append(rates, part/time.Since(start).Seconds())
			start = time.Now()
		}
	}
	_, failure := w.try("CreateGrant", grantRequest(many, userARN+"u", []string{"Encrypt"}, nil))
	if failure == nil || failure.Code != kmsapi.CodeLimitExceededException {
		b.Fatalf("one more: %v", failure)
	}
	var times [2][]time.Duration
	for b.Loop() {
		for i, key := range []string{oneARN, manyARN} {
			start := time.Now()
			for range 100 {
				u.encrypt(key, []byte("x"), map[string]string{"volume": "49999"})
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	b.ReportMetric(rates[0], "first/s")
	b.ReportMetric(rates[len(rates)-1], "last/s")
	b.ReportMetric(float64(times[1][len(times[1])/2])/float64(times[0][len(times[0])/2]), "x-encrypt")
}

// BenchmarkCountUses encrypts 64 octets below the pipeline, with its uses counted and not, in turn. The metrics are the medians
// for one Encrypt and their ratio.
func BenchmarkCountUses(b *testing.B) {
	w := newWorld(b, "")
	id, _ := w.newKey()
	op := w.operations["Encrypt"]
	input := &kmsapi.EncryptRequest{}
	if err := decodeInto(in{"KeyId": id, "Plaintext": make([]byte, 64)}, input); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { kms.CountUses("Encrypt", true) })
	const part = 1000
	var times [2][]time.Duration
	for b.Loop() {
		for i, on := range []bool{false, true} {
			kms.CountUses("Encrypt", on)
			start := time.Now()
			for range part {
				if _, failure := w.answer(b.Context(), &op, input); failure != nil {
					b.Fatal(failure)
				}
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	var median [2]float64
	for i := range times {
		slices.Sort(times[i])
		median[i] = float64(times[i][len(times[i])/2]) / part
	}
	b.ReportMetric(median[0], "ns-without")
	b.ReportMetric(median[1], "ns-with")
	b.ReportMetric(median[1]/median[0], "x-counted")
}
