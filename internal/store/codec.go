package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"time"

	"github.com/keywright/keywright/internal/arn"
	"github.com/keywright/keywright/internal/key"
)

// A body is what a row holds besides the columns that SQL needs: one octet for the version of the layout, then the
// fields in a fixed order. A string is its length (unsigned varint) and its octets; a number is a signed varint; a list is
// its length (unsigned varint) and its elements; a truth value is an octet; a time is 0 if it is not set, or 1 and the
// milliseconds since 1970 as a number. A new field means a new version. Bodies are read after their row was
// authenticated, so that the reader protects against mistakes and old versions rather than attacks; still it must survive
// any input.

// The layouts that are written now.
const (
	keyBodyVersion       = 3
	aliasBodyVersion     = 1
	accountBodyVersion   = 2 // 1 had no partition: everything was in aws
	accessKeyBodyVersion = 2 // 1 had no last use
)

var errBody = errors.New("malformed body")

type bodyWriter []byte

func (w *bodyWriter) str(s string) {
	*w = append(binary.AppendUvarint(*w, uint64(len(s))), s...)
}

func (w *bodyWriter) octets(b []byte) {
	*w = append(binary.AppendUvarint(*w, uint64(len(b))), b...)
}

func (w *bodyWriter) count(n int)  { *w = binary.AppendUvarint(*w, uint64(n)) }
func (w *bodyWriter) num(n int64)  { *w = binary.AppendVarint(*w, n) }
func (w *bodyWriter) octet(b byte) { *w = append(*w, b) }

func (w *bodyWriter) truth(b bool) {
	if b {
		w.octet(1)
	} else {
		w.octet(0)
	}
}

func (w *bodyWriter) time(t time.Time) {
	w.truth(!t.IsZero())
	if !t.IsZero() {
		w.num(t.UnixMilli())
	}
}

// bodyReader reads until the first mistake; from then on everything is zero and bad is set.
type bodyReader struct {
	rest []byte
	bad  bool
}

func (r *bodyReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.rest)) {
		r.bad = true
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *bodyReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.take(uint64(size))
	return n
}

func (r *bodyReader) str() string { return string(r.take(r.uvarint())) }

// octets returns a copy: nil if there are none.
func (r *bodyReader) octets() []byte { return append([]byte(nil), r.take(r.uvarint())...) }

// count reads the length of a list whose elements take one octet at least.
func (r *bodyReader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *bodyReader) num() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.bad = true
		return 0
	}
	r.take(uint64(size))
	return n
}

func (r *bodyReader) octet() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *bodyReader) truth() bool {
	b := r.octet()
	r.bad = r.bad || b > 1
	return b == 1
}

func (r *bodyReader) time() time.Time {
	if !r.truth() {
		return time.Time{}
	}
	return time.UnixMilli(r.num()).UTC()
}

// version reads the first octet and accepts one value.
func (r *bodyReader) version(want byte) {
	r.bad = r.octet() != want || r.bad
}

// versionUpTo reads the first octet and accepts every value from 1 to the newest.
func (r *bodyReader) versionUpTo(newest byte) byte {
	v := r.octet()
	r.bad = v == 0 || v > newest || r.bad
	return v
}

func (r *bodyReader) end() error {
	if r.bad || len(r.rest) > 0 {
		return errBody
	}
	return nil
}

// encodeKey writes everything of a key but its name, which is in the row's columns. Version 1 had no bindings: its policies
// name accounts only. Version 2 had no multi-Region keys, no imported material and no public keys: the last material of a
// key was its current one.
func encodeKey(k *key.Key) []byte {
	size := 256 + len(k.Description) + len(k.Policy) + 64*len(k.Tags)
	for i := range k.Material {
		size += 160 + len(k.Material[i].Wrapped) + len(k.Material[i].Public)
	}
	w := make(bodyWriter, 0, size)
	w.octet(keyBodyVersion)
	w.time(k.CreatedAt)
	w.str(k.Description)
	w.str(string(k.Spec))
	w.str(string(k.Usage))
	w.str(string(k.Origin))
	w.str(string(k.Manager))
	w.str(k.Service)
	w.str(string(k.State))
	w.truth(k.MultiRegion)
	w.time(k.DeletionAt)
	w.num(int64(k.PendingWindowInDays))
	w.truth(k.Rotation.Enabled)
	w.num(int64(k.Rotation.PeriodInDays))
	w.time(k.Rotation.Next)
	w.num(int64(k.Rotation.OnDemand))
	w.str(k.Policy)
	w.count(len(k.Tags))
	for _, t := range k.Tags {
		w.str(t.Key)
		w.str(t.Value)
	}
	w.count(len(k.Material))
	for i := range k.Material {
		m := &k.Material[i]
		w.str(m.ID)
		w.time(m.CreatedAt)
		w.octets(m.Wrapped)
		w.str(m.RotatedBy)
	}
	w.count(len(k.Principals))
	for _, p := range k.Principals {
		w.str(p.ARN)
		w.str(p.ID)
	}
	w.time(k.ReadyAt)
	w.str(string(k.Next))
	w.str(string(k.Primary))
	w.count(len(k.Replicas))
	for _, r := range k.Replicas {
		w.str(string(r))
	}
	for i := range k.Material {
		m := &k.Material[i]
		w.str(string(m.State))
		w.octets(m.Public)
		w.time(m.RotatedAt)
		w.str(m.Description)
		w.str(string(m.Expiration))
		w.time(m.ValidTo)
	}
	return w
}

func decodeKey(name key.Name, body []byte) (*key.Key, error) {
	r := bodyReader{rest: body}
	version := r.versionUpTo(keyBodyVersion)
	k := &key.Key{
		Name:                name,
		CreatedAt:           r.time(),
		Description:         r.str(),
		Spec:                key.Spec(r.str()),
		Usage:               key.Usage(r.str()),
		Origin:              key.Origin(r.str()),
		Manager:             key.Manager(r.str()),
		Service:             r.str(),
		State:               key.State(r.str()),
		MultiRegion:         r.truth(),
		DeletionAt:          r.time(),
		PendingWindowInDays: int(r.num()),
		Rotation: key.Rotation{
			Enabled:      r.truth(),
			PeriodInDays: int(r.num()),
			Next:         r.time(),
			OnDemand:     int(r.num()),
		},
		Policy: r.str(),
	}
	for range r.count() {
		k.Tags = append(k.Tags, key.Tag{Key: r.str(), Value: r.str()})
	}
	for range r.count() {
		k.Material = append(k.Material, key.Material{ID: r.str(), CreatedAt: r.time(), Wrapped: r.octets(), RotatedBy: r.str()})
	}
	if version >= 2 {
		for range r.count() {
			k.Principals = append(k.Principals, key.Binding{ARN: r.str(), ID: r.str()})
		}
	}
	if version < 3 {
		succeed(k.Material)
		return k, r.end()
	}
	k.ReadyAt, k.Next, k.Primary = r.time(), key.State(r.str()), arn.Region(r.str())
	for range r.count() {
		k.Replicas = append(k.Replicas, arn.Region(r.str()))
	}
	for i := range k.Material {
		m := &k.Material[i]
		m.State, m.Public, m.RotatedAt = key.MaterialState(r.str()), r.octets(), r.time()
		m.Description, m.Expiration, m.ValidTo = r.str(), key.Expiration(r.str()), r.time()
	}
	return k, r.end()
}

// succeed gives generations of material that were stored without states the ones they had.
func succeed(generations []key.Material) {
	for i := range generations {
		m := &generations[i]
		m.State = key.NonCurrent
		if i == len(generations)-1 {
			m.State = key.Current
		}
		if i > 0 {
			m.RotatedAt = m.CreatedAt
		}
	}
}

func encodeAlias(a *key.Alias) []byte {
	w := make(bodyWriter, 0, 24)
	w.octet(aliasBodyVersion)
	w.time(a.CreatedAt)
	w.time(a.UpdatedAt)
	return w
}

func decodeAlias(a key.Alias, body []byte) (*key.Alias, error) {
	r := bodyReader{rest: body}
	r.version(aliasBodyVersion)
	a.CreatedAt, a.UpdatedAt = r.time(), r.time()
	return &a, r.end()
}

func encodeAccount(a *Account) []byte {
	w := make(bodyWriter, 0, 32+len(a.Name))
	w.octet(accountBodyVersion)
	w.str(a.Name)
	w.time(a.CreatedAt)
	w.str(string(cmp.Or(a.Partition, arn.Commercial)))
	return w
}

func decodeAccount(a Account, body []byte) (*Account, error) {
	r := bodyReader{rest: body}
	version := r.versionUpTo(accountBodyVersion)
	a.Name, a.CreatedAt, a.Partition = r.str(), r.time(), arn.Commercial
	if version >= 2 {
		a.Partition = arn.Partition(r.str())
	}
	return &a, r.end()
}

func encodeAccessKey(k *AccessKey) []byte {
	w := make(bodyWriter, 0, 48)
	w.octet(accessKeyBodyVersion)
	w.time(k.CreatedAt)
	w.time(k.LastUsed.At)
	w.str(string(k.LastUsed.Region))
	w.str(k.LastUsed.Service)
	return w
}

func decodeAccessKey(k AccessKey, body []byte) (*AccessKey, error) {
	r := bodyReader{rest: body}
	version := r.octet()
	r.bad = r.bad || version < 1 || version > accessKeyBodyVersion
	k.CreatedAt = r.time()
	if version > 1 {
		k.LastUsed = AccessKeyUse{At: r.time(), Region: arn.Region(r.str()), Service: r.str()}
	}
	return &k, r.end()
}
