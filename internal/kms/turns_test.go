package kms_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/store"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// watched is a context that tells when somebody waits for its end.
type watched struct {
	context.Context
	once    *sync.Once
	waiting chan struct{}
}

func (c watched) Done() <-chan struct{} {
	c.once.Do(func() { close(c.waiting) })
	return c.Context.Done()
}

// takeAll takes all turns.
func (w *world) takeAll() (end func()) {
	w.t.Helper()
	var ends []func()
	for range runtime.GOMAXPROCS(0) {
		end, _, err := w.custody.Turn(context.Background(), "999999999999")
		w.must(err)
		ends = append(ends, end)
	}
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// whileItWaits makes a call, does something while it waits for a turn, and returns the call's failure.
func (w *world) whileItWaits(operation string, request in, event func()) *wire.Error {
	w.t.Helper()
	end := w.takeAll()
	ctx := watched{w.t.Context(), new(sync.Once), make(chan struct{})}
	answered := make(chan *wire.Error)
	go func() {
		answered <- w.tryUntil(ctx, operation, request)
	}()
	select {
	case <-ctx.waiting:
	case failure := <-answered:
		end()
		w.t.Errorf("%s does not wait for a turn: %v", operation, failure)
		return failure
	}
	event()
	end()
	return <-answered
}

func (w *world) tryUntil(ctx context.Context, operation string, request in) *wire.Error {
	op := w.operations[operation]
	input := op.New()
	if err := decodeInto(request, input.(wire.JSONInput)); err != nil {
		return err
	}
	_, failure := w.answer(ctx, &op, input)
	return failure
}

// slowCalls are calls that take turns, each with the key that it uses. More than one key: they are source and destination.
func (w *world) slowCalls() map[string]struct {
	operation string
	in        in
	keys      []string
} {
	w.t.Helper()
	symmetric, _ := w.newKey()
	signs, _ := w.newKeyOf("ECC_NIST_P384", "SIGN_VERIFY")
	decrypts, _ := w.newKeyOf("RSA_2048", "ENCRYPT_DECRYPT")
	agrees, _ := w.newKeyOf("ECC_NIST_P521", "KEY_AGREEMENT")
	message := in{"KeyId": signs, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_384"}
	verify := in{"KeyId": signs, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_384", "Signature": do[*kmsapi.SignResponse](w, "Sign", message).Signature}
	const oaep = "RSAES_OAEP_SHA_256"
	encrypt := in{"KeyId": decrypts, "Plaintext": []byte("x"), "EncryptionAlgorithm": oaep}
	blob := do[*kmsapi.EncryptResponse](w, "Encrypt", encrypt).CiphertextBlob
	peer := do[*kmsapi.GetPublicKeyResponse](w, "GetPublicKey", in{"KeyId": agrees}).PublicKey
	type call = struct {
		operation string
		in        in
		keys      []string
	}
	return map[string]call{
		"Sign":               {"Sign", message, []string{signs}},
		"Verify":             {"Verify", verify, []string{signs}},
		"Encrypt":            {"Encrypt", encrypt, []string{decrypts}},
		"Decrypt":            {"Decrypt", in{"KeyId": decrypts, "CiphertextBlob": blob, "EncryptionAlgorithm": oaep}, []string{decrypts}},
		"DeriveSharedSecret": {"DeriveSharedSecret", in{"KeyId": agrees, "KeyAgreementAlgorithm": "ECDH", "PublicKey": peer}, []string{agrees}},
		"ReEncrypt from a slow key": {"ReEncrypt", in{
			"SourceKeyId": decrypts, "SourceEncryptionAlgorithm": oaep, "CiphertextBlob": blob, "DestinationKeyId": symmetric,
		}, []string{decrypts, symmetric}},
		"ReEncrypt to a slow key": {"ReEncrypt", in{
			"CiphertextBlob": w.encrypt(symmetric, []byte("x"), nil), "DestinationKeyId": decrypts, "DestinationEncryptionAlgorithm": oaep,
		}, []string{decrypts}},
	}
}

// What was done to a key while a call waited for its turn, and was answered, holds for that call.
func TestWhoWaitedLooksAgain(t *testing.T) {
	w := newWorld(t, "")
	eve := w.user("eve")
	for name, c := range w.slowCalls() {
		for _, id := range c.keys {
			failure := w.whileItWaits(c.operation, c.in, func() { w.done("DisableKey", in{"KeyId": id}) })
			if failure == nil || failure.Code != "DisabledException" {
				t.Errorf("%s with a key that was disabled: %v", name, failure)
			}
			w.done("EnableKey", in{"KeyId": id})
		}
		if c.operation == "ReEncrypt" { // whose grants are two
			continue
		}
		id := c.keys[0]
		grant, _ := w.grant(id, eve.caller.ARN, []string{c.operation}, nil)
		if failure := eve.whileItWaits(c.operation, c.in, func() {}); failure != nil {
			t.Errorf("%s: %v", name, failure)
		}
		failure := eve.whileItWaits(c.operation, c.in, func() { w.done("RevokeGrant", in{"KeyId": id, "GrantId": grant}) })
		if failure == nil || failure.Code != "AccessDeniedException" {
			t.Errorf("%s by a grant that was revoked: %v", name, failure)
		}
	}
}

// unheard is a Freshness that has heard nothing for too long.
type unheard struct{ asked atomic.Int64 }

func (u *unheard) Check(context.Context) (time.Time, error) {
	u.asked.Add(1)
	return time.Time{}, store.ErrUnavailable
}

func (*unheard) Late(time.Time) bool { return false }

// Who waited relies on nothing that has become too old meanwhile.
func TestWhoWaitedAsksForChanges(t *testing.T) {
	w := newWorld(t, "")
	calls := w.slowCalls()
	var nothing unheard
	w.freshness = &nothing // a call that does not wait was checked before it came here
	w.encrypt(func() string { id, _ := w.newKey(); return id }(), []byte("x"), nil)
	if n := nothing.asked.Load(); n != 0 {
		t.Errorf("asked %d times without waiting", n)
	}
	for name, c := range calls {
		before := nothing.asked.Load()
		failure := w.whileItWaits(c.operation, c.in, func() {})
		if failure == nil || nothing.asked.Load() == before {
			t.Errorf("%s: %v", name, failure)
		}
	}
}

// Turns are the caller's: who uses another account's key takes nothing from that account.
func TestCallersPayForTurns(t *testing.T) {
	w := newWorld(t, "")
	id, keyARN := w.newKeyOf("ECC_NIST_P384", "SIGN_VERIFY")
	w.done("PutKeyPolicy", in{"KeyId": id, "Policy": naming("kms:Sign", bob.Root("aws"))})
	end := w.takeAll()
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	full := make(chan struct{})
	var once sync.Once
	for range 4096 {
		waiting.Go(func() {
			if _, _, err := w.custody.Turn(ctx, bob); !errors.Is(err, custody.ErrBusy) {
				t.Error(err)
			} else if !errors.Is(err, context.Canceled) {
				once.Do(func() { close(full) })
			}
		})
	}
	<-full
	request := in{"KeyId": keyARN, "Message": []byte("x"), "SigningAlgorithm": "ECDSA_SHA_384"}
	w.as(bob, region).answersCode(wire.CodeThrottling, "Sign", request)
	answered := make(chan *wire.Error)
	go func() {
		answered <- w.tryUntil(t.Context(), "Sign", request)
	}()
	time.Sleep(50 * time.Millisecond) // in which it is not refused
	cancel()
	waiting.Wait()
	end()
	if failure := <-answered; failure != nil {
		t.Errorf("the owner of the key: %v", failure)
	}
}

// So it is for who waited with the document of an enclave.
func TestWhoWaitedAsAnEnclaveLooksAgain(t *testing.T) {
	w := newAttestedWorld(t)
	for operation, request := range w.withRecipient() {
		if request["KeyId"] == nil {
			continue
		}
		request["Recipient"] = w.recipient(nil)
		if failure := w.whileItWaits(operation, request, func() {}); failure != nil {
			t.Errorf("%s: %v", operation, failure)
		}
		failure := w.whileItWaits(operation, request, func() { w.done("DisableKey", in{"KeyId": request["KeyId"]}) })
		if failure == nil || failure.Code != "DisabledException" {
			t.Errorf("%s with a key that was disabled: %v", operation, failure)
		}
		w.done("EnableKey", in{"KeyId": request["KeyId"]})
	}
}
