package kms_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/custody"
	"github.com/keywright/keywright/internal/custody/soft"
	"github.com/keywright/keywright/internal/key"
	"github.com/keywright/keywright/internal/kms"
	"github.com/keywright/keywright/internal/wire"
	"github.com/keywright/keywright/internal/wire/kmsapi"
)

// course is a random sequence of calls to one key, beside its model.
type course struct {
	*world
	m           *lifecycle
	parcel      *importer // parameters to import with, while their token lasts
	parcelUntil time.Time
	parcelFor   arn.Region
	blobs       []modelBlob
}

// same fails the sequence unless the service answered what the model says.
func (c *course) same(rt *rapid.T, operation, want string, failure *wire.Error) {
	got := ""
	if failure != nil {
		got = failure.Error()
	}
	if got != want {
		rt.Fatalf("%s\n got %q\nwant %q", operation, got, want)
	}
}

// call makes a call about the key and compares what went wrong.
func (c *course) call(rt *rapid.T, operation, want string, request in) wire.Output {
	if request == nil {
		request = in{}
	}
	if _, named := request["CiphertextBlob"]; !named {
		request["KeyId"] = c.m.id
	}
	out, failure := c.try(operation, request)
	c.same(rt, operation, want, failure)
	return out
}

// reopen is a restart: of the service alone, which forgets what it remembered, or of the store as well.
func (c *course) reopen() {
	if c.dir != "" {
		c.restart()
		return
	}
	c.service = kms.New(kms.Config{
		Store: c.store, Custody: custody.New(soft.New(c.store.Barrier())), Barrier: c.store.Barrier(), Guard: c.guard, Now: c.now, Principals: c.people,
	})
	for _, op := range c.service.Operations() {
		c.operations[op.Name] = op
	}
}

// actions are the calls and events of a sequence.
func (c *course) actions() map[string]func(*rapid.T) {
	periods, windows := rapid.IntRange(90, 200), rapid.IntRange(7, 30)
	return map[string]func(*rapid.T){
		"Encrypt": func(rt *rapid.T) {
			if out, ok := c.call(rt, "Encrypt", c.m.encrypt(), in{"Plaintext": []byte("x")}).(*kmsapi.EncryptResponse); ok {
				c.blobs = append(c.blobs, modelBlob{out.CiphertextBlob, c.m.current()})
			}
		},
		"Decrypt": func(rt *rapid.T) {
			if len(c.blobs) == 0 {
				return
			}
			blob := rapid.SampledFrom(c.blobs).Draw(rt, "blob")
			if out, ok := c.call(rt, "Decrypt", c.m.decrypt(), in{"CiphertextBlob": blob.octets}).(*kmsapi.DecryptResponse); ok &&
				(out.KeyMaterialID.V != blob.material.id || string(out.Plaintext.Expose()) != "x") {
				rt.Fatalf("decrypted under %s, want %s", out.KeyMaterialID.V, blob.material.id)
			}
		},
		"EnableKey":          func(rt *rapid.T) { c.call(rt, "EnableKey", c.m.enable("Enabled"), nil) },
		"DisableKey":         func(rt *rapid.T) { c.call(rt, "DisableKey", c.m.enable("Disabled"), nil) },
		"DisableKeyRotation": func(rt *rapid.T) { c.call(rt, "DisableKeyRotation", c.m.setRotation(0, c.now()), nil) },
		"EnableKeyRotation": func(rt *rapid.T) {
			days := periods.Draw(rt, "days")
			c.call(rt, "EnableKeyRotation", c.m.setRotation(days, c.now()), in{"RotationPeriodInDays": days})
		},
		"RotateKeyOnDemand": func(rt *rapid.T) {
			for range rapid.SampledFrom([]int{1, 1, 1, 24}).Draw(rt, "times") {
				c.call(rt, "RotateKeyOnDemand", c.m.rotate(c.now()), nil)
				c.learn()
			}
		},
		"ScheduleKeyDeletion": func(rt *rapid.T) {
			days := windows.Draw(rt, "days")
			c.call(rt, "ScheduleKeyDeletion", c.m.scheduleDeletion(days, c.now()), in{"PendingWindowInDays": days})
		},
		"CancelKeyDeletion":         func(rt *rapid.T) { c.call(rt, "CancelKeyDeletion", c.m.cancelDeletion(), nil) },
		"ImportKeyMaterial":         c.importSomething,
		"DeleteImportedKeyMaterial": c.deleteSomething,
		"restart":                   func(*rapid.T) { c.reopen() },
		"time": func(rt *rapid.T) {
			hours := rapid.SampledFrom([]int{1, 5, 23, 24, 24 * 7, 24 * 30, 24 * 90, 24 * 365}).Draw(rt, "hours")
			c.clock.Add(int64(hours) * time.Hour.Milliseconds())
			c.tick()
		},
		"": c.compare,
	}
}

// inRegions gives a sequence the calls about multi-Region keys, and makes each of its calls in a random Region.
func (c *course) inRegions(all map[string]func(*rapid.T)) map[string]func(*rapid.T) {
	to := rapid.SampledFrom(modelRegions)
	all["ReplicateKey"] = func(rt *rapid.T) {
		r := to.Draw(rt, "to")
		c.call(rt, "ReplicateKey", c.m.replicate(r), in{"ReplicaRegion": string(r)})
	}
	all["UpdatePrimaryRegion"] = func(rt *rapid.T) {
		r := to.Draw(rt, "to")
		c.call(rt, "UpdatePrimaryRegion", c.m.handOver(r), in{"PrimaryRegion": string(r)})
	}
	for name, action := range all {
		all[name] = func(rt *rapid.T) {
			c.at(c.m.set.in(to.Draw(rt, "region")))
			action(rt)
			c.m.set.share()
		}
	}
	return all
}

// at turns to the key in another Region.
func (c *course) at(m *lifecycle) { c.m, c.region = m, m.where }

// keys are the models of the key in all its Regions, those that it may not be in any more with them.
func (c *course) keys() []*lifecycle {
	if c.m.set != nil {
		return c.m.set.keys
	}
	return []*lifecycle{c.m}
}

// tick is what the time alone does. What it does to one key of a multi-Region set the others learn when the service comes to it.
func (c *course) tick() {
	for _, m := range c.keys() {
		m.tick(c.now())
	}
	c.m.set.share()
	if c.m.set != nil {
		c.must(c.service.RunDue(context.Background()))
		c.schedule()
	}
}

// schedule does to the model what the scheduler did. It comes to each key once.
func (c *course) schedule() {
	for _, m := range c.keys() {
		m.schedule(c.now())
	}
	c.m.set.share()
	c.learn()
}

// learn takes the ids of material made here, which the model cannot know, from the service.
func (c *course) learn() {
	for _, m := range c.keys() {
		k, err := c.store.GetKey(context.Background(), key.Name{Account: alice, Region: m.where, ID: m.name()})
		if err != nil {
			continue
		}
		for i, g := range m.generations {
			if g.id == "" && i < len(k.Material) {
				g.id = k.Material[i].ID
			}
		}
	}
}

func (c *course) importSomething(rt *rapid.T) {
	secret := rapid.Byte().Filter(func(b byte) bool { return b > 0 && b < 6 }).Draw(rt, "secret")
	kind := rapid.SampledFrom([]string{"", "NEW_KEY_MATERIAL", "EXISTING_KEY_MATERIAL"}).Draw(rt, "type")
	request, until := in{"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE", "ImportToken": []byte("x"), "EncryptedKeyMaterial": []byte("x")}, time.Time{}
	if hours := rapid.SampledFrom([]int{0, 0, 3, 100}).Draw(rt, "hours"); hours > 0 {
		until = c.now().Add(time.Duration(hours) * time.Hour)
		request["ExpirationModel"], request["ValidTo"] = "KEY_MATERIAL_EXPIRES", float64(until.UnixMilli())/1000
	}
	if kind != "" {
		request["ImportType"] = kind
	}
	if c.m.external && !c.m.gone && !c.m.pendingDeletion() && c.m.state != "Creating" {
		if c.parcel == nil || !c.parcelUntil.After(c.now()) || c.parcelFor != c.m.where {
			if c.m.state == "Updating" {
				return // no parameters now
			}
			c.parcelFor = c.m.where
			c.parcel, c.parcelUntil = c.parameters(c.m.id, "SM2PKE", "SM2"), c.now().Add(modelDay)
		}
		c.parcel.world = c.world
		request["ImportToken"], request["EncryptedKeyMaterial"] = c.parcel.token, c.parcel.wrap(secretOf(secret))
	}
	request["KeyId"] = c.m.id
	out, failure := c.try("ImportKeyMaterial", request)
	id := ""
	if given, ok := out.(*kmsapi.ImportKeyMaterialResponse); ok {
		id = given.KeyMaterialID.V
	} else if _, rest, ok := strings.Cut(failure.Message, "New key material (id: "); ok {
		id, _, _ = strings.Cut(rest, ")")
	}
	c.same(rt, "ImportKeyMaterial", c.m.importMaterial(secret, kind, id, until), failure)
}

func (c *course) deleteSomething(rt *rapid.T) {
	request := in{}
	var chosen *modelMaterial
	if len(c.m.generations) > 0 && rapid.Bool().Draw(rt, "by id") {
		if chosen = rapid.SampledFrom(c.m.generations).Draw(rt, "material"); chosen.id != "" {
			request["KeyMaterialId"] = chosen.id
		}
	}
	c.call(rt, "DeleteImportedKeyMaterial", c.m.deleteMaterial(chosen), request)
}

// compare looks at everything that can be seen of the key, sometimes before and sometimes after the service did what is due.
func (c *course) compare(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "scheduled") {
		c.must(c.service.RunDue(context.Background()))
		c.schedule()
	}
	for _, m := range c.keys() {
		c.at(m)
		c.compareKey(rt)
	}
}

func (c *course) compareKey(rt *rapid.T) {
	m := c.m
	out, _ := c.call(rt, "DescribeKey", m.missing(), nil).(*kmsapi.DescribeKeyResponse)
	if m.gone {
		return
	}
	var until time.Time
	expiration, current := "", ""
	if g := m.current(); g != nil {
		current = g.id
	}
	for _, g := range m.generations {
		if !m.external || !g.permanent() || !g.there {
			continue
		}
		if expiration == "" {
			expiration = "KEY_MATERIAL_DOES_NOT_EXPIRE"
		}
		if !g.until.IsZero() {
			expiration = "KEY_MATERIAL_EXPIRES"
			if until.IsZero() || g.until.Before(until) {
				until = g.until
			}
		}
	}
	if m.state == "Creating" {
		current = ""
	}
	k := out.KeyMetadata
	c.compareRegions(rt, k)
	if k.KeyState.V != m.state || k.Enabled.V != (m.state == "Enabled") || k.CurrentKeyMaterialID.V != current || k.ExpirationModel.V != expiration ||
		!k.ValidTo.V.Equal(until) || !k.DeletionDate.V.Equal(m.deletion) {
		rt.Fatalf("the key is %+v\nwant state %s, material %s, %s until %v, deletion %v", k, m.state, current, expiration, until, m.deletion)
	}
	status, _ := c.call(rt, "GetKeyRotationStatus", m.origin(false), nil).(*kmsapi.GetKeyRotationStatusResponse)
	if on := m.rotates && !m.pendingDeletion(); status != nil && (status.KeyRotationEnabled.V != on || on && (!status.NextRotationDate.V.Equal(m.next) || int(status.RotationPeriodInDays.V) != m.period)) {
		rt.Fatalf("rotation %+v, want %v every %d days, next %v", status, on, m.period, m.next)
	}
	list := c.call(rt, "ListKeyRotations", "", in{"IncludeKeyMaterial": "ALL_KEY_MATERIAL"}).(*kmsapi.ListKeyRotationsResponse).Rotations
	if len(list) != len(m.generations) {
		rt.Fatalf("%d generations of material, want %d", len(list), len(m.generations))
	}
	for i, g := range m.generations {
		e := list[i]
		if e.KeyMaterialID.V != g.id || e.KeyMaterialState.V != g.state || e.RotationType.V != g.by || !e.RotationDate.V.Equal(g.at) ||
			m.external && (e.ImportState.V == "IMPORTED") != g.there || !e.ValidTo.V.Equal(g.until) {
			rt.Fatalf("generation %d is %+v, want %+v", i, e, g)
		}
	}
}

// compareRegions looks at what a key says of the others of its set.
func (c *course) compareRegions(rt *rapid.T, k *kmsapi.KeyMetadata) {
	if c.m.set == nil {
		if k.MultiRegionConfiguration != nil {
			rt.Fatalf("a single-Region key has %+v", k.MultiRegionConfiguration)
		}
		return
	}
	has := k.MultiRegionConfiguration
	replicas := c.m.set.replicas()
	same := has.PrimaryKey.ARN.V == c.m.set.primary.arn && (has.MultiRegionKeyType.V == "PRIMARY") == c.m.leads() && len(has.ReplicaKeys) == len(replicas)
	for i := 0; same && i < len(replicas); i++ {
		same = has.ReplicaKeys[i].ARN.V == replicas[i].arn
	}
	if !same {
		rt.Fatalf("%s says %+v", c.m.arn, has)
	}
}

// Random sequences of calls, restarts and leaps of the clock give what a model of the documented rules says, at each step.
// -rapid.checks says how many sequences there are; make soak runs 10,000.
func TestLifecycle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := ""
		if rapid.IntRange(0, 19).Draw(rt, "store") == 0 { // on disk, which is slower
			dir = t.TempDir()
		}
		c := &course{world: newWorld(t, dir)}
		defer func() { _ = c.db.Close() }()
		c.m = &lifecycle{state: "Enabled", where: region, external: rapid.Bool().Draw(rt, "external")}
		multi := rapid.Bool().Draw(rt, "multi-Region")
		if c.m.external {
			c.m.state = "PendingImport"
			c.m.id, c.m.arn = c.external(in{"MultiRegion": multi})
		} else {
			made := do[*kmsapi.CreateKeyResponse](c.world, "CreateKey", in{"MultiRegion": multi}).KeyMetadata
			c.m.id, c.m.arn = made.KeyID.V, made.ARN.V
			c.m.generations = []*modelMaterial{{state: "CURRENT", there: true}}
		}
		actions := c.actions()
		if multi {
			c.m.set = newModelSet(c.m)
			actions = c.inRegions(actions)
		}
		c.learn()
		rt.Repeat(actions)
	})
}
