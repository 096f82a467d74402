package pipeline_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/keywright/keywright/internal/custody"
)

// A call that takes long is not waited for without end: of those of an account that has very many of them, more are throttled.
// Other calls are none the worse for it.
func TestTooManyWait(t *testing.T) {
	w := newWorld(t)
	slow := w.kms("CreateKey", `{"KeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
	fast := w.kms("CreateKey", `{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}`)["KeyMetadata"].(map[string]any)["KeyId"].(string)
	for range runtime.GOMAXPROCS(0) {
		end, _, err := w.custody.Turn(t.Context(), alice)
		w.must(err)
		defer end()
	}
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer cancel()
	full := make(chan struct{})
	var once sync.Once
	for range 4096 { // as many as there can be connections
		waiting.Go(func() {
			if _, _, err := w.custody.Turn(ctx, alice); !errors.Is(err, custody.ErrBusy) {
				t.Error(err)
			} else if !errors.Is(err, context.Canceled) {
				once.Do(func() { close(full) })
			}
		})
	}
	<-full
	a := w.serve(w.sign(jsonRequest("Sign", `{"KeyId":"`+slow+`","Message":"eA==","SigningAlgorithm":"RSASSA_PSS_SHA_256"}`), aliceRoot, "kms"))
	if a.Status != 400 || !strings.Contains(a.body, "ThrottlingException") {
		t.Errorf("%d %s", a.Status, a.body)
	}
	if r := w.lastRecord(); r["errorCode"] != "ThrottlingException" {
		t.Errorf("recorded as %v", r["errorCode"])
	}
	w.kms("Sign", `{"KeyId":"`+fast+`","Message":"eA==","SigningAlgorithm":"ECDSA_SHA_256"}`)
}
