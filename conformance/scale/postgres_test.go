package scale_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keywright/keywright/conformance/server"
)

// cachedKeys is what the servers on PostgreSQL keep in memory: few, so that a run of every day goes far beyond.
const cachedKeys = 500

// newSharedWorld starts a server on a PostgreSQL of its own.
func newSharedWorld(t *testing.T) *world {
	t.Helper()
	dir, dsn := server.Database(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("the URL of the database cannot be read")
	}
	password, _ := u.User.Password()
	config := filepath.Join(dir, "keywright.yaml")
	for path, text := range map[string]string{
		filepath.Join(dir, "password"): password + "\n",
		config: fmt.Sprintf(`
listen: 127.0.0.1:0
adminSocket: none
data: %[1]s/data
store: {dsn: "postgres://keywright@%[2]s/keywright?sslmode=disable", passwordFile: %[1]s/password}
seals: [{kind: key-file, file: %[1]s/seal.key}]
audit: {durability: written, retention: 1s}
limits: {cachedKeys: %[3]d}
quotas: {enforce: unlimited}
`, dir, u.Host, cachedKeys),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keyID, secret := server.Init(t, config)
	w := &world{t: t, tables: filepath.Join(dir, "pg", "data", "base")}
	t.Cleanup(func() {
		if w.server != nil {
			w.server.Kill()
		}
	})
	w.launch = func() *server.Server {
		s, err := server.Serve(config, filepath.Join(dir, "log"), keyID, secret)
		w.must(err)
		return s
	}
	w.start()
	return w
}

// most is how many keys a run beyond the cache uses.
const most = 100_000

// maxShared is what the process of a server may take that keeps cachedKeys, in octets: what it takes for itself, and for each key what
// docs/scaling.md says, however many it uses.
const maxShared = 128<<20 + cachedKeys*24<<10

// ids returns the ids of n keys, from the first on.
func (w *world) ids(n int) (all []string) {
	w.t.Helper()
	for p := kms.NewListKeysPaginator(w.client, &kms.ListKeysInput{Limit: aws.Int32(1000)}); p.HasMorePages() && len(all) < n; {
		out, err := p.NextPage(context.Background())
		w.must(err)
		for _, k := range out.Keys {
			all = append(all, *k.KeyId)
		}
	}
	return all[:min(n, len(all))]
}

// encrypt encrypts with each of the keys, by many clients at once, and returns the ciphertexts.
func (w *world) encrypt(ids []string) [][]byte {
	w.t.Helper()
	blobs := make([][]byte, len(ids))
	w.atOnce(len(ids), func(i int) error {
		out, err := w.client.Encrypt(context.Background(), &kms.EncryptInput{KeyId: &ids[i], Plaintext: []byte("scale")})
		if err == nil {
			blobs[i] = out.CiphertextBlob
		}
		return err
	})
	return blobs
}

// chilled is how many keys of a server are used for the first time in one measurement.
const chilled = 50

// cold returns a measurement: how long a Decrypt takes with a key that the server, which was just started, has not used.
func (w *world) cold(blobs [][]byte) func() time.Duration {
	return func() time.Duration {
		w.t.Helper()
		w.server.Stop()
		w.start()
		_, err := w.client.Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: blobs[chilled]}) // so that it knows the caller
		w.must(err)
		return timed(func() {
			for _, blob := range blobs[:chilled] {
				out, err := w.client.Decrypt(context.Background(), &kms.DecryptInput{CiphertextBlob: blob})
				w.must(err)
				if string(out.Plaintext) != "scale" {
					w.t.Fatalf("decrypted to %q", out.Plaintext)
				}
			}
		}) / chilled
	}
}

// stored returns how many octets the tables and indexes of the world's database take. The log that comes before them is not in it.
func (w *world) stored() (octets int64) {
	w.t.Helper()
	w.must(filepath.WalkDir(w.tables, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) { // a temporary one
			return nil
		}
		if err == nil {
			octets += info.Size()
		}
		return err
	}))
	return octets
}

// TestScaleOnPostgres is TestScale for a server on PostgreSQL that keeps few keys in memory.
func TestScaleOnPostgres(t *testing.T) {
	n := keys(t)
	small, w := newSharedWorld(t), newSharedWorld(t)
	small.fill(few)
	smallKey, smallAlias := small.list()
	began, empty := w.server.Memory(t), w.stored()
	took := timed(func() { w.fill(n) })
	t.Logf("%d keys, made at %.0f/s", n, float64(n)/took.Seconds())
	t.Logf("%d octets of the database for each key, of which one in %d has an alias", (w.stored()-empty)/int64(n), perAlias)
	key, alias := w.list()
	many, least := inTurn(func() time.Duration { return w.keyPages(key) }, func() time.Duration { return small.keyPages(smallKey) })
	limitTime(t, "a page of 100 keys", many, least, maxPage)
	many, least = inTurn(func() time.Duration { return w.aliasPages(alias) }, func() time.Duration { return small.aliasPages(smallAlias) })
	limitTime(t, "a page of 50 aliases", many, least, maxPage)
	limit(t, "memory with all keys made and listed, of a server that keeps "+strconv.Itoa(cachedKeys), w.server.Memory(t), maxShared, 1)

	smallBlobs := small.encrypt(small.ids(few)) // fills its memory
	ids := w.ids(min(n, most))
	blobs := w.encrypt(ids)
	report(t, "memory with "+strconv.Itoa(len(ids))+" keys used, and after the start", w.server.Memory(t), began)
	report(t, "memory with "+strconv.Itoa(len(ids))+" keys used, and with "+strconv.Itoa(few), w.server.Memory(t), small.server.Memory(t))
	limit(t, "memory with "+strconv.Itoa(len(ids))+" keys used", w.server.Memory(t), maxShared, 1)

	many, least = inTurn(w.restart, small.restart)
	limitTime(t, "start to first answer", many, least, maxStart)
	limit(t, "memory after a start", w.server.Memory(t), maxShared, 1)
	many, least = inTurn(w.cold(blobs), small.cold(smallBlobs))
	limitTime(t, "Decrypt with a key that was not in memory", many, least, maxCold)
}
