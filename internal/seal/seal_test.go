package seal_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keywright/keywright/internal/fipstest"
	"github.com/keywright/keywright/internal/seal"
	"github.com/keywright/keywright/internal/secret"
)

var now = time.UnixMilli(1790000000123)

func file(name string, fill byte) seal.Seal {
	return seal.KeyFile(name, secret.Take(bytes.Repeat([]byte{fill}, 32)))
}

func initialize(t testing.TB, seals ...seal.Seal) (*seal.Barrier, seal.Sealed) {
	t.Helper()
	b, sealed, err := seal.Initialize(t.Context(), now, seals...)
	if err != nil {
		t.Fatal(err)
	}
	return b, sealed
}

func mustEncrypt(t testing.TB, b *seal.Barrier, d seal.Domain, aad, plaintext string) []byte {
	t.Helper()
	blob, err := b.Encrypt(d, []byte(aad), secret.FromString(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func opens(b *seal.Barrier, d seal.Domain, aad, plaintext string, blob []byte) bool {
	got, err := b.Decrypt(d, []byte(aad), blob)
	return err == nil && string(got.Expose()) == plaintext
}

func TestAnySealOpens(t *testing.T) {
	pass := seal.CheapPassphrase("people", secret.FromString("open sesame"))
	b, sealed := initialize(t, file("disk", 1), pass, file("spare", 2))
	blob := mustEncrypt(t, b, seal.Material, "aad", "content")
	for _, s := range []seal.Seal{file("", 1), file("disk", 1), file("spare", 2), pass, seal.Passphrase("", secret.FromString("open sesame"))} {
		opened, err := seal.Unseal(t.Context(), sealed, s)
		if err != nil {
			t.Errorf("%s %q: %v", s.Kind(), s.Name(), err)
		} else if !opens(opened, seal.Material, "aad", "content", blob) || opened.RootID() != b.RootID() {
			t.Errorf("%s %q opens something else", s.Kind(), s.Name())
		}
	}
	for _, s := range []seal.Seal{file("", 3), file("spare", 1), file("nobody", 1), seal.Passphrase("", secret.FromString("Open sesame"))} {
		if _, err := seal.Unseal(t.Context(), sealed, s); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s %q: got %v, want ErrOpen", s.Kind(), s.Name(), err)
		}
	}
	for _, s := range []seal.Seal{seal.Passphrase("", secret.Bytes{}), seal.KeyFile("", secret.FromString("short"))} {
		if _, err := seal.Unseal(t.Context(), sealed, s); err == nil || errors.Is(err, seal.ErrOpen) {
			t.Errorf("%s without a usable secret: %v", s.Kind(), err)
		}
	}
}

func TestInitializeRefuses(t *testing.T) {
	for name, seals := range map[string][]seal.Seal{
		"no seal":          nil,
		"same name":        {file("a", 1), file("a", 2)},
		"same kind's name": {file("", 1), file("", 2)},
		"empty passphrase": {seal.Passphrase("p", secret.Bytes{})},
	} {
		if _, _, err := seal.Initialize(t.Context(), now, seals...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestNothingSecretIsStored looks for the root of trust's secrets in everything that the store gets.
func TestNothingSecretIsStored(t *testing.T) {
	b, sealed := initialize(t, file("disk", 1))
	stored := fmt.Sprintf("%x %+v", sealed, sealed)
	for _, s := range b.SecretsForTest() {
		if strings.Contains(stored, fmt.Sprintf("%x", s)) {
			t.Error("a key is stored in the clear")
		}
	}
	if got := fmt.Sprintf("%v %+v", b, sealed); strings.Contains(got, "1 1 1 1") {
		t.Error("printing shows a key")
	}
}

// TestEveryBitOfARecordCounts flips each bit of each field of what is stored, and swaps records.
func TestEveryBitOfARecordCounts(t *testing.T) {
	_, sealed := initialize(t, file("disk", 1), seal.CheapPassphrase("people", secret.FromString("open sesame")))
	unseal := func(s seal.Sealed) error {
		_, err1 := seal.Unseal(t.Context(), s, file("", 1))
		_, err2 := seal.Unseal(t.Context(), s, seal.Passphrase("", secret.FromString("open sesame")))
		if err1 == nil {
			return err2 // each mutation below touches one of the two seals, or what both need
		}
		return err1
	}
	check := func(what string, s seal.Sealed) {
		t.Helper()
		if err := unseal(s); err == nil {
			t.Errorf("%s: still opens", what)
		}
	}
	if err := unseal(sealed); err != nil {
		t.Fatal(err)
	}
	clone := func() seal.Sealed {
		return seal.Sealed{Seals: slices.Clone(sealed.Seals), DomainKeys: slices.Clone(sealed.DomainKeys)}
	}
	for i := range sealed.Seals {
		eachFlip(reflect.ValueOf(sealed.Seals[i]), func(what string, v reflect.Value) {
			s := clone()
			s.Seals[i] = v.Interface().(seal.Record)
			check(fmt.Sprintf("seal %d, %s", i, what), s)
		})
	}
	for i := range sealed.DomainKeys {
		eachFlip(reflect.ValueOf(sealed.DomainKeys[i]), func(what string, v reflect.Value) {
			s := clone()
			s.DomainKeys[i] = v.Interface().(seal.DomainKey)
			check(fmt.Sprintf("domain key %d, %s", i, what), s)
		})
		s := clone()
		s.DomainKeys = slices.Delete(s.DomainKeys, i, i+1)
		check(fmt.Sprintf("without domain key %d", i), s)
		s = clone()
		s.DomainKeys[i].Wrapped = s.DomainKeys[(i+1)%len(s.DomainKeys)].Wrapped
		check(fmt.Sprintf("domain key %d of another domain", i), s)
	}
}

// eachFlip calls f with a copy of a struct for every bit of every field, that bit being flipped.
func eachFlip(v reflect.Value, f func(what string, v reflect.Value)) {
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		set := func(bit int, to any) {
			c := reflect.New(v.Type()).Elem()
			c.Set(v)
			c.Field(i).Set(reflect.ValueOf(to).Convert(c.Field(i).Type()))
			f(fmt.Sprintf("%s bit %d", name, bit), c)
		}
		switch x := v.Field(i).Interface().(type) {
		case time.Time:
			for bit := range 40 {
				set(bit, time.UnixMilli(x.UnixMilli()^1<<bit).UTC())
			}
		case []byte:
			for bit := range len(x) * 8 {
				set(bit, flip(x, bit))
			}
			set(-1, append(slices.Clone(x), 0))
		case uint32:
			for bit := range 32 {
				set(bit, x^1<<bit)
			}
		case seal.Domain:
			for bit := range 8 {
				set(bit, uint8(x)^1<<bit)
			}
		default:
			text := []byte(v.Field(i).String())
			for bit := range len(text) * 8 {
				set(bit, string(flip(text, bit)))
			}
		}
	}
}

func flip(b []byte, bit int) []byte {
	c := slices.Clone(b)
	c[bit/8] ^= 1 << (bit % 8)
	return c
}

func TestBlobProperties(t *testing.T) {
	b, _ := initialize(t, file("disk", 1))
	other, _ := initialize(t, file("disk", 1))
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		d := seal.Domain(1 + r.IntN(4))
		plaintext, aad := randomText(r), randomText(r)
		blob := mustEncrypt(t, b, d, aad, plaintext)
		if len(blob) != len(plaintext)+49 {
			t.Fatalf("a blob of %d octets for a plaintext of %d", len(blob), len(plaintext))
		}
		if !opens(b, d, aad, plaintext, blob) {
			t.Fatal("a blob does not open")
		}
		if bytes.Equal(blob, mustEncrypt(t, b, d, aad, plaintext)) {
			t.Fatal("two encryptions are equal")
		}
		for what, err := range map[string]error{
			"other domain":       decryptErr(b, d%4+1, aad, blob),
			"other aad":          decryptErr(b, d, aad+"x", blob),
			"other installation": decryptErr(other, d, aad, blob),
			"cut":                decryptErr(b, d, aad, blob[:r.IntN(len(blob))]),
			"longer":             decryptErr(b, d, aad, append(slices.Clone(blob), 0)),
		} {
			if err != seal.ErrOpen {
				t.Errorf("%s: got %v, want ErrOpen itself", what, err)
			}
		}
	}
	blob := mustEncrypt(t, b, seal.Token, "aad", "some content")
	for bit := range len(blob) * 8 {
		err := decryptErr(b, seal.Token, "aad", flip(blob, bit))
		var unknown *seal.UnknownVersionError
		if isVersion := bit/8 >= 1 && bit/8 < 5; isVersion != errors.As(err, &unknown) || err == nil || !isVersion && err != seal.ErrOpen {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
}

func decryptErr(b *seal.Barrier, d seal.Domain, aad string, blob []byte) error {
	_, err := b.Decrypt(d, []byte(aad), blob)
	return err
}

func randomText(r *rand.Rand) string {
	b := make([]byte, r.IntN(100))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func TestTags(t *testing.T) {
	b, _ := initialize(t, file("disk", 1))
	data := []byte("row content")
	tag, err := b.Tag([]byte("prefix"), seal.Row, data)
	if err != nil || !bytes.HasPrefix(tag, []byte("prefix")) || len(tag) != 6+seal.TagSize {
		t.Fatalf("Tag = %x, %v", tag, err)
	}
	tag = tag[6:]
	if err := b.VerifyTag(seal.Row, data, tag); err != nil {
		t.Error(err)
	}
	if err := b.VerifyTag(seal.Token, data, tag); err != seal.ErrOpen {
		t.Errorf("another domain: %v", err)
	}
	if err := b.VerifyTag(seal.Row, data, tag[:len(tag)-1]); err != seal.ErrOpen {
		t.Errorf("a cut tag: %v", err)
	}
	for bit := range len(tag) * 8 {
		if b.VerifyTag(seal.Row, data, flip(tag, bit)) == nil {
			t.Errorf("tag bit %d does not count", bit)
		}
	}
	for bit := range len(data) * 8 {
		if b.VerifyTag(seal.Row, flip(data, bit), tag) != seal.ErrOpen {
			t.Errorf("data bit %d does not count", bit)
		}
	}
}

func TestInvalidDomain(t *testing.T) {
	b, _ := initialize(t, file("disk", 1))
	for _, d := range []seal.Domain{0, 5, 255} {
		_, err1 := b.Encrypt(d, nil, secret.FromString("x"))
		_, err2 := b.Tag(nil, d, nil)
		err3 := b.VerifyTag(d, nil, make([]byte, seal.TagSize))
		if err1 == nil || err2 == nil || err3 == nil || b.Newest(d) != 0 || d.String() != "invalid" {
			t.Errorf("domain %d is usable: %v, %v, %v", d, err1, err2, err3)
		}
	}
	if _, err := seal.ParseDomain("invalid"); err == nil {
		t.Error("ParseDomain takes what String gives for an invalid domain")
	}
}

func TestAddAndRemoveSeals(t *testing.T) {
	ctx := t.Context()
	b, sealed := initialize(t, file("disk", 1))
	if _, err := seal.RemoveSeal(sealed, sealed.Seals[0].ID); err != seal.ErrLastSeal {
		t.Errorf("removing the last: %v", err)
	}
	if _, err := b.AddSeal(ctx, now, sealed, file("disk", 2)); err == nil {
		t.Error("two seals with one name")
	}
	rec, err := b.AddSeal(ctx, now, sealed, file("spare", 2))
	if err != nil {
		t.Fatal(err)
	}
	sealed.Seals = append(sealed.Seals, rec)
	if _, err := seal.RemoveSeal(sealed, "nobody"); err != seal.ErrNoSuchSeal {
		t.Errorf("removing nothing: %v", err)
	}
	left, err := seal.RemoveSeal(sealed, sealed.Seals[0].ID)
	if err != nil || len(left.Seals) != 1 || len(sealed.Seals) != 2 {
		t.Fatalf("%d seals left, %v", len(left.Seals), err)
	}
	if _, err := seal.Unseal(ctx, left, file("", 2)); err != nil {
		t.Error(err)
	}
	if _, err := seal.Unseal(ctx, left, file("", 1)); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("the removed seal: %v", err)
	}
}

func TestRotateDomainKeys(t *testing.T) {
	ctx := t.Context()
	b, sealed := initialize(t, file("disk", 1))
	stale, _ := seal.Unseal(ctx, sealed, file("disk", 1)) // another process
	old := mustEncrypt(t, b, seal.Row, "aad", "old")
	oldTag, _ := b.Tag(nil, seal.Row, []byte("old"))

	refused := errors.New("disk full")
	if err := b.RotateDomainKeys(now, func([]seal.DomainKey) error { return refused }); !errors.Is(err, refused) || b.Newest(seal.Row) != 1 {
		t.Errorf("after a failed save: %v, version %d", err, b.Newest(seal.Row))
	}
	err := b.RotateDomainKeys(now, func(keys []seal.DomainKey) error {
		if b.Newest(seal.Row) != 1 {
			t.Error("a key is in use before it is saved")
		}
		sealed.DomainKeys = append(sealed.DomainKeys, keys...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fresh := mustEncrypt(t, b, seal.Row, "aad", "new")
	if !opens(b, seal.Row, "aad", "old", old) || !opens(b, seal.Row, "aad", "new", fresh) {
		t.Error("a blob does not open after the rotation")
	}
	if !b.OldMaterial(old) || b.OldMaterial(fresh) || b.OldMaterial([]byte("no blob")) {
		t.Error("OldMaterial does not tell an old key from the newest")
	}
	if !b.Stale(seal.Row, old) || b.Stale(seal.Row, fresh) || !b.StaleTag(seal.Row, oldTag) || b.VerifyTag(seal.Row, []byte("old"), oldTag) != nil {
		t.Error("old and new are not told apart")
	}
	var unknown *seal.UnknownVersionError
	if err := decryptErr(stale, seal.Row, "aad", fresh); !errors.As(err, &unknown) || *unknown != (seal.UnknownVersionError{Domain: seal.Row, Version: 2}) {
		t.Errorf("the other process gets %v", err)
	}
	if err := stale.Load(sealed.DomainKeys); err != nil || !opens(stale, seal.Row, "aad", "new", fresh) {
		t.Errorf("the other process after loading: %v", err)
	}
	if again, err := seal.Unseal(ctx, sealed, file("disk", 1)); err != nil || !opens(again, seal.Row, "aad", "new", fresh) {
		t.Errorf("after a restart: %v", err)
	}
}

func TestRotateRoot(t *testing.T) {
	ctx := t.Context()
	b, sealed := initialize(t, file("disk", 1), file("spare", 2), file("lost", 3))
	blob := mustEncrypt(t, b, seal.Material, "aad", "content")
	lost := sealed.Seals[2].ID

	if _, _, err := b.RotateRoot(ctx, now, sealed, []seal.Seal{file("", 1), file("", 2)}, nil); err == nil {
		t.Error("a seal that nobody opened was dropped in silence")
	}
	if _, _, err := b.RotateRoot(ctx, now, sealed, []seal.Seal{file("", 1), file("", 9)}, []string{lost}); !errors.Is(err, seal.ErrOpen) {
		t.Errorf("a wrong secret: %v", err)
	}
	everyID := []string{sealed.Seals[0].ID, sealed.Seals[1].ID, lost}
	if _, _, err := b.RotateRoot(ctx, now, sealed, nil, everyID); err != seal.ErrLastSeal {
		t.Errorf("dropping all: %v", err)
	}
	next, rotated, err := b.RotateRoot(ctx, now, sealed, []seal.Seal{file("", 2), file("", 1)}, []string{lost})
	if err != nil {
		t.Fatal(err)
	}
	if next.RootID() == b.RootID() || !opens(next, seal.Material, "aad", "content", blob) {
		t.Error("the new barrier is not the same keys under another root")
	}
	if rotated.Seals[0].ID != sealed.Seals[1].ID || rotated.Seals[0].Name != "spare" || len(rotated.Seals) != 2 {
		t.Errorf("records %+v", rotated.Seals)
	}
	for fill, want := range map[byte]error{1: nil, 2: nil, 3: seal.ErrOpen} {
		if _, err := seal.Unseal(ctx, rotated, file("", fill)); !errors.Is(err, want) {
			t.Errorf("key file %d: %v", fill, err)
		}
	}
	if err := b.Load(rotated.DomainKeys); err != nil {
		t.Errorf("loading versions that are there already: %v", err)
	}
	rotated.DomainKeys[0].Version = 7
	if err := b.Load(rotated.DomainKeys); !errors.Is(err, seal.ErrRootChanged) {
		t.Errorf("loading keys of the new root into the old barrier: %v", err)
	}
	// Records of the old root do not mix with the new one.
	mixed := seal.Sealed{Seals: rotated.Seals, DomainKeys: sealed.DomainKeys}
	if _, err := seal.Unseal(ctx, mixed, file("", 1)); !errors.Is(err, seal.ErrRootChanged) {
		t.Errorf("old domain keys under the new root: %v", err)
	}
}

func TestBarrierConcurrent(t *testing.T) {
	b, _ := initialize(t, file("disk", 1))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				blob := mustEncrypt(t, b, seal.Material, "aad", "content")
				if !opens(b, seal.Material, "aad", "content", blob) {
					t.Error("does not open")
				}
				tag, _ := b.Tag(nil, seal.Row, blob)
				if err := b.VerifyTag(seal.Row, blob, tag); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 5 {
		if err := b.RotateDomainKeys(now, func([]seal.DomainKey) error { return nil }); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "seal.key")
	if err := seal.WriteKeyFile(path); err != nil {
		t.Fatal(err)
	}
	key, err := seal.ReadKeyFile(path)
	if err != nil || key.Len() != 32 {
		t.Fatalf("%d octets, %v", key.Len(), err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := seal.WriteKeyFile(path); !errors.Is(err, os.ErrExist) {
		t.Errorf("overwriting: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o601, 0o620} {
		_ = os.Chmod(path, mode)
		if _, err := seal.ReadKeyFile(path); err == nil {
			t.Errorf("mode %v is accepted", mode)
		}
	}
	_ = os.Chmod(path, 0o400)
	if _, err := seal.ReadKeyFile(path); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
	const content = "not-a-key-but-perhaps-a-secret"
	bad := filepath.Join(dir, "bad")
	_ = os.WriteFile(bad, []byte(content), 0o600)
	for _, p := range []string{bad, dir, filepath.Join(dir, "none")} {
		if _, err := seal.ReadKeyFile(p); err == nil || strings.Contains(err.Error(), content) {
			t.Errorf("%s: %v", p, err)
		}
	}
	text := strings.Repeat("ab", 32)
	for in, ok := range map[string]bool{
		text: true, text + "\n": true, text + "\r\n": true, strings.ToUpper(text): true, text + "\n\n": false, " " + text: false,
		"q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=": true, "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6t=": false, "": false, text[2:]: false,
	} {
		if key, got := seal.ParseKeyFile([]byte(in)); got != ok || ok && !bytes.Equal(key.Expose(), bytes.Repeat([]byte{0xab}, 32)) {
			t.Errorf("%q: %v", in, got)
		}
	}
}

// TestPassphraseCost makes records at the real cost and looks at what they ask for.
func TestPassphraseCost(t *testing.T) {
	want := "argon2id"
	if fips140.Enabled() {
		want = "pbkdf2-hmac-sha256"
	}
	s := seal.Passphrase("people", secret.FromString("open sesame"))
	_, sealed := initialize(t, s)
	kdf, memory, ok := seal.ParseParams(sealed.Seals[0].Params)
	if !ok || kdf != want || kdf == "argon2id" && memory != 64<<10 {
		t.Errorf("a new record has %s", sealed.Seals[0].Params)
	}
	if _, err := seal.Unseal(t.Context(), sealed, s); err != nil {
		t.Error(err)
	}
	if !fips140.Enabled() {
		return
	}
	v, old := readVectors(t)
	_, err := seal.Unseal(t.Context(), old, seal.Passphrase("", secret.FromString(v.Passphrases[0])))
	if err == nil || errors.Is(err, seal.ErrOpen) {
		t.Errorf("an Argon2id record in FIPS mode: %v", err)
	}
}

// TestFIPSMode runs the test above in a process of its own in FIPS 140-3 mode.
func TestFIPSMode(t *testing.T) { fipstest.Run(t, "TestPassphraseCost") }

func TestParamsAreBounded(t *testing.T) {
	const salt = `"salt":"AAAAAAAAAAAAAAAAAAAAAA=="`
	for in, ok := range map[string]bool{
		`{"kdf":"argon2id",` + salt + `,"time":3,"memoryKiB":65536,"threads":4}`:                true,
		`{"kdf":"argon2id",` + salt + `,"time":3,"memoryKiB":4194304,"threads":4}`:              false,
		`{"kdf":"argon2id",` + salt + `,"time":3000,"memoryKiB":65536,"threads":4}`:             false,
		`{"kdf":"argon2id",` + salt + `,"time":3,"memoryKiB":65536,"threads":0}`:                false,
		`{"kdf":"argon2id",` + salt + `,"time":0,"memoryKiB":65536,"threads":4}`:                false,
		`{"kdf":"argon2id",` + salt + `,"time":1,"memoryKiB":31,"threads":4}`:                   false,
		`{"kdf":"argon2id","salt":"AAAA","time":3,"memoryKiB":65536,"threads":4}`:               false,
		`{"kdf":"argon2id",` + salt + `,"time":3,"memoryKiB":65536,"threads":4,"iterations":1}`: false,
		`{"kdf":"argon2id",` + salt + `,"time":3,"memoryKiB":65536,"threads":4,"more":1}`:       false,
		`{"kdf":"pbkdf2-hmac-sha256",` + salt + `,"iterations":600000}`:                         true,
		`{"kdf":"pbkdf2-hmac-sha256",` + salt + `,"iterations":2000000000}`:                     false,
		`{"kdf":"pbkdf2-hmac-sha256",` + salt + `,"iterations":-1}`:                             false,
		`{"kdf":"md5",` + salt + `}`: false,
		``:                           false,
	} {
		if _, _, got := seal.ParseParams([]byte(in)); got != ok {
			t.Errorf("%s: %v", in, got)
		}
	}
}

// broken is a device that is not there.
type broken struct{ seal.Seal }

func (broken) Unwrap(context.Context, seal.Record) (secret.Bytes, error) {
	return secret.Bytes{}, os.ErrNotExist
}

func TestOtherErrorsPass(t *testing.T) {
	_, sealed := initialize(t, file("disk", 1))
	if _, err := seal.Unseal(t.Context(), sealed, broken{file("disk", 1)}); !errors.Is(err, os.ErrNotExist) || errors.Is(err, seal.ErrOpen) {
		t.Errorf("got %v", err)
	}
}

func FuzzBlob(f *testing.F) {
	b, _ := initialize(f, file("disk", 1))
	f.Add(mustEncrypt(f, b, seal.Material, "aad", "content"))
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, 49))
	f.Fuzz(func(t *testing.T, blob []byte) {
		version, ok := seal.ParseBlob(blob)
		_, err := b.Decrypt(seal.Row, []byte("aad"), blob) // nothing was ever encrypted for this domain
		var unknown *seal.UnknownVersionError
		switch {
		case err == nil:
			t.Error("opens")
		case errors.As(err, &unknown) != (ok && version != 1), !ok && err != seal.ErrOpen:
			t.Errorf("form %v, version %d: %v", ok, version, err)
		}
	})
}

func FuzzKeyFileText(f *testing.F) {
	f.Add([]byte(strings.Repeat("ab", 32) + "\n"))
	f.Add([]byte("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s="))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, ok := seal.ParseKeyFile(text); ok != (key.Len() == 32) {
			t.Errorf("%v with %d octets", ok, key.Len())
		}
	})
}

func FuzzPassphraseParams(f *testing.F) {
	f.Add([]byte(`{"kdf":"argon2id","salt":"AAAAAAAAAAAAAAAAAAAAAA==","time":3,"memoryKiB":65536,"threads":4}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, memory, ok := seal.ParseParams(text); ok && memory > 1<<20 {
			t.Errorf("%d KiB", memory)
		}
	})
}

func BenchmarkEncrypt(b *testing.B) {
	barrier, _ := initialize(b, file("disk", 1))
	aad, plaintext := []byte("associated data"), secret.Take(make([]byte, 32))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := barrier.Encrypt(seal.Material, aad, plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyTag(b *testing.B) {
	barrier, _ := initialize(b, file("disk", 1))
	data := make([]byte, 1200)
	tag, _ := barrier.Tag(nil, seal.Row, data)
	b.ReportAllocs()
	for b.Loop() {
		if err := barrier.VerifyTag(seal.Row, data, tag); err != nil {
			b.Fatal(err)
		}
	}
}
