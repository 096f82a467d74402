package dev_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/dev"
	"github.com/keywright/keywright/internal/secret"
	"github.com/keywright/keywright/internal/sigv4"
)

func TestErrorsOfTheService(t *testing.T) {
	w := newWorld(t, "")
	id := w.newKey()
	for _, c := range []struct {
		fault   dev.Fault
		status  int
		message any
	}{
		{dev.Fault{Error: "ThrottlingException"}, 400, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls."},
		{dev.Fault{Error: "KMSInternalException"}, 500, nil},
		{dev.Fault{Error: "DependencyTimeoutException"}, 500, "The system timed out while trying to fulfill the request. You can retry the request."},
		{dev.Fault{Error: "KMSInvalidStateException", Message: "it is pending deletion"}, 400, "it is pending deletion"},
		{dev.Fault{Error: "DisabledException"}, 400, nil},
	} {
		c.fault.Operation, c.fault.Times = "Encrypt", 1
		w.fault(c.fault)
		encrypt := map[string]any{"KeyId": id, "Plaintext": "eA=="}
		if a := w.call("Encrypt", encrypt); a.status != c.status || a.code() != c.fault.Error || a.body["message"] != c.message {
			t.Errorf("%+v: %+v", c.fault, a)
		}
		w.ok("Encrypt", encrypt) // once only
	}
}

func TestWhichCallsAreHit(t *testing.T) {
	w := newWorld(t, "keys: [{id: "+keyID+", aliases: [alias/app], material: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=}]")
	other := w.newKey()
	blob := w.ok("Encrypt", map[string]any{"KeyId": keyID, "Plaintext": "eA=="})["CiphertextBlob"]
	otherBlob := w.ok("Encrypt", map[string]any{"KeyId": other, "Plaintext": "eA=="})["CiphertextBlob"]
	keyARN := "arn:aws:kms:us-east-1:111122223333:key/" + keyID
	for _, key := range []string{keyID, keyARN, "alias/app", "arn:aws:kms:us-east-1:111122223333:alias/app"} {
		fault := w.fault(dev.Fault{Key: key, Error: "KMSInternalException"})
		for _, c := range []struct {
			operation string
			members   map[string]any
			hit       bool
		}{
			{"Encrypt", map[string]any{"KeyId": keyID, "Plaintext": "eA=="}, true},
			{"Encrypt", map[string]any{"KeyId": "alias/app", "Plaintext": "eA=="}, true},
			{"Encrypt", map[string]any{"KeyId": other, "Plaintext": "eA=="}, false},
			{"Decrypt", map[string]any{"CiphertextBlob": blob}, true},
			{"Decrypt", map[string]any{"CiphertextBlob": otherBlob}, false},
			{"ReEncrypt", map[string]any{"CiphertextBlob": otherBlob, "DestinationKeyId": keyARN}, true},
			{"ReEncrypt", map[string]any{"CiphertextBlob": otherBlob, "DestinationKeyId": other}, false},
			{"DescribeKey", map[string]any{"KeyId": "alias/app"}, true},
			{"CreateAlias", map[string]any{"AliasName": "alias/second", "TargetKeyId": keyID}, true},
			{"UpdateAlias", map[string]any{"AliasName": "alias/app", "TargetKeyId": other}, true},
			{"ListKeys", map[string]any{}, false},
		} {
			a := w.call(c.operation, c.members)
			if (a.code() == "KMSInternalException") != c.hit || !c.hit && a.status != 200 {
				t.Errorf("fault on %s, %s %v: %+v", key, c.operation, c.members, a)
			}
		}
		w.ask("DELETE", "/v1/faults/"+fault, nil, nil)
	}
	w.fault(dev.Fault{Account: "999988887777", Error: "KMSInternalException"})
	w.fault(dev.Fault{Service: "sts", Error: "KMSInternalException"})
	w.ok("ListKeys", nil)
	w.fault(dev.Fault{Account: account, Operation: "ListKeys", Error: "KMSInternalException"})
	if a := w.call("ListKeys", nil); a.status != 500 {
		t.Errorf("%+v", a)
	}
	// Who is not known, or asks for nothing valid, hears that first.
	wrong := root
	wrong.AccessKeyID = "AKIAOTHER"
	if a := w.send(wrong, "ListKeys", nil); a.code() != "UnrecognizedClientException" {
		t.Errorf("%+v", a)
	}
}

func TestBrokenConnections(t *testing.T) {
	w := newWorld(t, "")
	count := func() int { return len(w.ok("ListKeys", nil)["Keys"].([]any)) }
	w.fault(dev.Fault{Operation: "CreateKey", Connection: dev.Reset, Times: 1})
	if a := w.call("CreateKey", nil); a.broken == nil || count() != 0 {
		t.Errorf("reset: %+v, %d keys", a, count())
	}
	w.fault(dev.Fault{Operation: "CreateKey", Connection: dev.Lose, Times: 1})
	if a := w.call("CreateKey", nil); a.broken == nil || count() != 1 {
		t.Errorf("lost answer: %+v, %d keys", a, count())
	}
	w.newKey()
}

func TestLatency(t *testing.T) {
	w := newWorld(t, "")
	w.fault(dev.Fault{Operation: "ListKeys", Latency: dev.Duration(60 * time.Millisecond)})
	w.fault(dev.Fault{Operation: "ListKeys", Latency: dev.Duration(60 * time.Millisecond), Error: "KMSInternalException", Times: 1})
	for _, status := range []int{500, 200} {
		began := time.Now()
		a := w.call("ListKeys", nil)
		if d := time.Since(began); a.status != status || d < 60*time.Millisecond || status == 500 && d < 120*time.Millisecond {
			t.Errorf("%+v after %s", a, d)
		}
	}
}

// A call that waits holds up neither the clock nor a reset, which cuts it off.
func TestResetWhileACallWaits(t *testing.T) {
	w := newWorld(t, "")
	w.fault(dev.Fault{Operation: "ListKeys", Latency: dev.Duration(5 * time.Minute)})
	got := make(chan answer, 1)
	go func() { got <- w.call("ListKeys", nil) }()
	w.untilHit()
	w.advance("1d")
	w.ask("POST", "/v1/reset", nil, nil)
	if a := <-got; a.broken == nil {
		t.Errorf("%+v", a)
	}
}

// untilHit waits until the only fault has hit a call.
func (w *world) untilHit() {
	w.t.Helper()
	for {
		var list struct{ Faults []dev.Fault }
		w.ask("GET", "/v1/faults", nil, &list)
		if list.Faults[0].Hits > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Who may not do it any more when a latency is over has it not done.
func TestWaitingGivesNoRights(t *testing.T) {
	w := newWorld(t, "")
	w.query("iam", "Version=2010-05-08&Action=CreateUser&UserName=ann")
	w.query("iam", "Version=2010-05-08&Action=PutUserPolicy&UserName=ann&PolicyName=p&PolicyDocument="+
		url.QueryEscape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
	credential := func(service, form string) sigv4.Credential {
		text := w.query(service, form)
		element := func(name string) string {
			_, rest, _ := strings.Cut(text, "<"+name+">")
			value, _, _ := strings.Cut(rest, "</")
			return value
		}
		return sigv4.Credential{AccessKeyID: element("AccessKeyId"), Secret: secret.FromString(element("SecretAccessKey")), Token: element("SessionToken")}
	}
	ann := credential("iam", "Version=2010-05-08&Action=CreateAccessKey&UserName=ann")
	temporary := credential("sts", "Version=2011-06-15&Action=GetSessionToken&DurationSeconds=900")
	for _, c := range []struct {
		who    sigv4.Credential
		wait   time.Duration // longer than the change takes
		change func()
		code   string
	}{
		{ann, 100 * time.Millisecond, func() {}, ""},
		{ann, 3 * time.Second, func() {
			w.query("iam", "Version=2010-05-08&Action=UpdateAccessKey&UserName=ann&Status=Inactive&AccessKeyId="+ann.AccessKeyID)
		}, "UnrecognizedClientException"},
		{temporary, 100 * time.Millisecond, func() {}, ""},
		{temporary, 3 * time.Second, func() { w.advance("1d") }, "ExpiredTokenException"},
	} {
		before := len(w.ok("ListKeys", nil)["Keys"].([]any))
		id := w.fault(dev.Fault{Operation: "CreateKey", Latency: dev.Duration(c.wait)})
		got := make(chan answer, 1)
		go func() { got <- w.send(c.who, "CreateKey", nil) }()
		w.untilHit()
		c.change()
		a := <-got
		if n := len(w.ok("ListKeys", nil)["Keys"].([]any)) - before; a.code() != c.code || (n == 1) != (c.code == "") {
			t.Errorf("want %q: %+v, %d keys", c.code, a, n)
		}
		w.ask("DELETE", "/v1/faults/"+id, nil, nil)
	}
}

// Removing a fault has those that wait for its latency go on; the call that asks is answered.
func TestRemovedWhileACallWaits(t *testing.T) {
	w := newWorld(t, "")
	w.fault(dev.Fault{Operation: "ListKeys", Latency: dev.Duration(300 * time.Millisecond)})
	got := make(chan answer, 1)
	go func() { got <- w.call("ListKeys", nil) }()
	w.untilHit()
	w.ask("DELETE", "/v1/faults", nil, nil)
	if a := <-got; a.status != 200 {
		t.Errorf("%+v", a)
	}
}

func TestRateAndProbability(t *testing.T) {
	w := newWorld(t, "")
	w.fault(dev.Fault{Operation: "ListKeys", Error: "ThrottlingException", Rate: 5})
	throttled := 0
	for range 20 {
		if a := w.call("ListKeys", nil); a.code() == "ThrottlingException" {
			throttled++
		}
	}
	if throttled < 5 || throttled > 15 { // five at once are spared, and as many as there is time for
		t.Errorf("%d of 20 calls were throttled", throttled)
	}
	w.fault(dev.Fault{Operation: "ListAliases", Error: "KMSInternalException", Probability: 0.5})
	failed := 0
	for range 200 {
		if w.call("ListAliases", nil).status == 500 {
			failed++
		}
	}
	if failed < 50 || failed > 150 {
		t.Errorf("%d of 200 calls failed with a probability of a half", failed)
	}
}

// Several callers at once get no more than their share of a fault.
func TestTimesAmongMany(t *testing.T) {
	w := newWorld(t, "")
	w.fault(dev.Fault{Operation: "ListKeys", Error: "KMSInternalException", Times: 7})
	var wg sync.WaitGroup
	failed := make(chan struct{}, 100)
	for range 4 {
		wg.Go(func() {
			for range 10 {
				if w.call("ListKeys", nil).status == 500 {
					failed <- struct{}{}
				}
			}
		})
	}
	wg.Wait()
	if len(failed) != 7 {
		t.Errorf("%d calls failed", len(failed))
	}
}

func TestFaultsThatAreRefused(t *testing.T) {
	w := newWorld(t, "")
	for body, want := range map[string]string{
		`{}`: "an error, a latency or a broken connection", `{"error":"no code"}`: "no error code", `{"message":"x","latency":"1s"}`: "goes with an error",
		`{"operation":"Encipher","error":"X"}`: `no operation "Encipher"`, `{"service":"s3","error":"X"}`: "no service", `{"error":"X","account":"1"}`: "12 digits",
		`{"error":"X","key":"what"}`: "no id, ARN or alias", `{"error":"X","key":"alias/a","service":"sts"}`: "about a key", `{"latency":"1h"}`: "at most 10m0s",
		`{"error":"X","times":-1}`: "not negative", `{"error":"X","probability":1.5}`: "between 0 and 1", `{"connection":"drop"}`: "breaks by",
		`{"connection":"reset","error":"X"}`: "no error to the client", `{"latency":"long"}`: "no duration", `{"eror":"X"}`: "unknown field", `[`: "reading the request", `{"latency":"1s"}{}`: "more than one",
	} {
		w.refused("POST", "/v1/faults", []byte(body), want)
	}
	w.refused("DELETE", "/v1/faults/7", nil, `there is no fault "7"`)
	for range 1000 {
		w.fault(dev.Fault{Operation: "Sign", Error: "X"})
	}
	w.refused("POST", "/v1/faults", dev.Fault{Error: "X"}, "1000 faults already")
	w.ask("DELETE", "/v1/faults", nil, nil)
	var list struct{ Faults []dev.Fault }
	if w.ask("GET", "/v1/faults", nil, &list); len(list.Faults) != 0 {
		t.Error(fmt.Sprint(list))
	}
}
