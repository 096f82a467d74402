package trail

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"sort"
	"strings"
)

// blockSize is how many records a block of the index covers: block k those from k*blockSize on.
const blockSize = 1 << 14

// scope is whose trail an event is in, and the Region.
type scope struct{ account, region string }

func (q *Query) covers(s scope) bool {
	return (q.Account == "" || q.Account == s.account) && (q.Region == "" || q.Region == s.region)
}

// The form of a block in its file, all numbers little-endian:
//
//	head      magic, number of the first record (8), base: its earliest event's time (8), the latest one's (8), records (4),
//	          octets of scopes (4), keys (4), postings (4), SHA-256 of the last record (32), CRC-32C of the head (4)
//	times     of each record, seconds from base (4)
//	scopes    account, 0, Region, 0 for each
//	keys      ascending: hash (8), place of the first posting (4)
//	postings  of each key, ascending: number of the record, from the first one (2)
//	checksum  CRC-32C of all that (4)
//
// A key's hash is over attribute, place of the scope and value: 48 bits, so that what a posting points to must be compared.
const (
	magic      = "kwtrail1"
	headSize   = 8 + 8 + 8 + 8 + 4*4 + sha256.Size + 4
	keySize    = 12
	hashBits   = 48
	everything = Attribute(0) // the key of all events of a scope
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("damaged block of the look-up index")
)

// block is a finished block. It is immutable.
type block struct {
	head
	times, keys, postings []byte
	scopes                []scope
	raw                   []byte
}

// head says what a block covers.
type head struct {
	first                         uint64
	from, to                      int64
	count, scopeOctets, nkeys, np uint32
	last                          [sha256.Size]byte // of the last record
}

// size returns how many octets the block has.
func (h *head) size() uint64 {
	return headSize + 4*uint64(h.count) + uint64(h.scopeOctets) + keySize*uint64(h.nkeys) + 2*uint64(h.np) + 4
}

func (h *head) append(b []byte) []byte {
	at := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.from))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.to))
	for _, n := range []uint32{h.count, h.scopeOctets, h.nkeys, h.np} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = append(b, h.last[:]...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[at:], castagnoli))
}

// parseHead reads the head of a block.
func parseHead(b []byte) (h head, err error) {
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return h, errDamaged
	}
	b = b[:headSize]
	if crc32.Checksum(b[:headSize-4], castagnoli) != binary.LittleEndian.Uint32(b[headSize-4:]) {
		return h, errDamaged
	}
	b = b[len(magic):]
	h.first = binary.LittleEndian.Uint64(b)
	h.from, h.to = int64(binary.LittleEndian.Uint64(b[8:])), int64(binary.LittleEndian.Uint64(b[16:]))
	for i, n := range []*uint32{&h.count, &h.scopeOctets, &h.nkeys, &h.np} {
		*n = binary.LittleEndian.Uint32(b[24+4*i:])
	}
	copy(h.last[:], b[40:])
	if h.count == 0 || h.count > blockSize || h.first%blockSize+uint64(h.count) > blockSize {
		return h, errDamaged
	}
	return h, nil
}

// openBlock reads a block, of which it keeps b.
func openBlock(b []byte) (*block, error) {
	h, err := parseHead(b)
	if err != nil {
		return nil, err
	}
	if uint64(len(b)) != h.size() {
		return nil, fmt.Errorf("%w: %d octets, not %d", errDamaged, len(b), h.size())
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return nil, fmt.Errorf("%w: wrong checksum", errDamaged)
	}
	k := &block{head: h, raw: b}
	rest := body[headSize:]
	cut := func(n uint64) []byte {
		part := rest[:n]
		rest = rest[n:]
		return part
	}
	k.times = cut(4 * uint64(h.count))
	for text := string(cut(uint64(h.scopeOctets))); text != ""; {
		var s scope
		var ok, too bool
		s.account, text, ok = strings.Cut(text, "\x00")
		s.region, text, too = strings.Cut(text, "\x00")
		if !ok || !too {
			return nil, errDamaged
		}
		k.scopes = append(k.scopes, s)
	}
	k.keys, k.postings = cut(keySize*uint64(h.nkeys)), cut(2*uint64(h.np))
	return k, nil
}

func (b *block) hash(i int) uint64 { return binary.LittleEndian.Uint64(b.keys[keySize*i:]) }

// list is the postings of a key: the places of records in a block, ascending.
type list []byte

func (l list) len() int        { return len(l) / 2 }
func (l list) at(i int) uint16 { return binary.LittleEndian.Uint16(l[2*i:]) }

// below returns how many postings are below a place.
func (l list) below(n int) int {
	return sort.Search(l.len(), func(i int) bool { return int(l.at(i)) >= n })
}

func (l list) has(n uint16) bool {
	i := l.below(int(n))
	return i < l.len() && l.at(i) == n
}

// find returns the postings of a key. The hashes are evenly spread, so it begins where the key should be.
func (b *block) find(hash uint64) list {
	lo, hi := 0, int(b.nkeys) // the key is in [lo, hi), if it is there
	for try := 0; lo < hi; try++ {
		mid := int(uint(lo+hi) / 2)
		if from, to := b.hash(lo), b.hash(hi-1); try < 4 && from <= hash && hash <= to && to < 1<<hashBits {
			mid = lo + int(float64(hash-from)/float64(to-from+1)*float64(hi-lo))
			mid = min(max(mid, lo), hi-1)
		}
		switch at := b.hash(mid); {
		case at == hash:
			return b.list(mid)
		case at < hash:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return nil
}

func (b *block) list(i int) list {
	begin, end := binary.LittleEndian.Uint32(b.keys[keySize*i+8:]), b.np
	if i+1 < int(b.nkeys) {
		end = binary.LittleEndian.Uint32(b.keys[keySize*(i+1)+8:])
	}
	if begin > end || end > b.np {
		return nil
	}
	return list(b.postings[2*begin : 2*end])
}

// time returns when a record's event was, as nearly as the block can say.
func (b *block) time(n uint16) int64 {
	return b.from + int64(binary.LittleEndian.Uint32(b.times[4*int(n):]))
}

// candidates appends the numbers of records below a number that may be what the query asks for, newest first, up to most.
func (b *block) candidates(into []uint64, q *Query, below uint64, most int) []uint64 {
	limit := int(min(below-b.first, uint64(b.count)))
	var union []uint64
	matched := 0
	for i, s := range b.scopes {
		if !q.covers(s) {
			continue
		}
		if matched++; matched == 1 {
			union = b.inScope(nil, q, uint32(i), limit, most)
			continue
		}
		union = b.inScope(union, q, uint32(i), limit, most)
	}
	if matched > 1 {
		slices.SortFunc(union, func(x, y uint64) int { return -compare(x, y) })
		union = union[:min(len(union), most)]
	}
	return append(into, union...)
}

func compare(x, y uint64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// inScope is candidates for one scope.
func (b *block) inScope(into []uint64, q *Query, scope uint32, limit, most int) []uint64 {
	var lists []list
	for _, c := range q.Conditions {
		lists = append(lists, b.find(keyHash(c.Attribute, scope, valueHash(c.Value))))
	}
	if len(lists) == 0 {
		lists = append(lists, b.find(keyHash(everything, scope, valueHash(""))))
	}
	slices.SortFunc(lists, func(x, y list) int { return len(x) - len(y) })
	found := 0
next:
	for i := lists[0].below(limit) - 1; i >= 0 && found < most; i-- {
		n := lists[0].at(i)
		if int(n) >= limit {
			continue // a list that is not ascending
		}
		if t := b.time(n); t-b.from < math.MaxUint32 && !q.at(t) {
			continue
		}
		for _, l := range lists[1:] {
			if !l.has(n) {
				continue next
			}
		}
		into = append(into, b.first+uint64(n))
		found++
	}
	return into
}

// valueHash is FNV-1a (64 bits), whose constants these are.
func valueHash[T string | []byte](v T) uint64 {
	h := uint64(14695981039346656037)
	for i := 0; i < len(v); i++ {
		h = (h ^ uint64(v[i])) * 1099511628211
	}
	return h
}

// keyHash mixes the parts of a key (the finalizer of MurmurHash3) down to 48 bits.
func keyHash(a Attribute, scope uint32, value uint64) uint64 {
	h := value ^ uint64(a)<<56 ^ uint64(scope)*0x9e3779b97f4a7c15
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return (h ^ h>>33) >> (64 - hashBits)
}

// builder collects what a block will say. Until then it can be asked itself.
type builder struct {
	first     uint64
	rows      []row
	resources [][2]uint32 // type and name of all rows
	values    map[string]uint32
	hashes    []uint64 // of values
	scopes    []scope
	scopeIDs  map[[2]uint32]uint32 // by values of account and Region
	from, to  int64
	last      [sha256.Size]byte
	event     Event
}

// row is a record's attributes, as numbers of values.
type row struct {
	time                             int64
	id                               uint64 // hash
	scope, name, source, user, keyID uint32
	resources                        uint32 // where they begin
	count                            uint16
	readOnly, bad                    bool
}

func newBuilder(first uint64) *builder {
	b := &builder{first: first, values: map[string]uint32{}, scopeIDs: map[[2]uint32]uint32{}, from: math.MaxInt64, to: math.MinInt64}
	b.value(nil) // number 0 is the empty one
	return b
}

// next returns the number of the record that comes next, and full whether the block ends before it.
func (b *builder) next() uint64 { return b.first + uint64(len(b.rows)) }
func (b *builder) full() bool   { return len(b.rows) > 0 && b.next()%blockSize == 0 }

// value returns the number of a value.
func (b *builder) value(v []byte) uint32 {
	if n, ok := b.values[string(v)]; ok {
		return n
	}
	n := uint32(len(b.hashes))
	b.values[string(v)] = n
	b.hashes = append(b.hashes, valueHash(v))
	return n
}

// add takes the next record. One that is no event is counted and never found.
func (b *builder) add(record []byte) error {
	if (b.next()+1)%blockSize == 0 {
		b.last = sha256.Sum256(record)
	}
	e := &b.event
	if err := e.Parse(record); err != nil {
		b.rows = append(b.rows, row{bad: true})
		return fmt.Errorf("reading record %d: %w", b.next()-1, err)
	}
	r := row{
		time: e.Time, id: valueHash(e.ID), name: b.value(e.Name), source: b.value(e.Source), user: b.value(e.Username), keyID: b.value(e.AccessKeyID),
		resources: uint32(len(b.resources)), count: uint16(min(len(e.Resources), math.MaxUint16)), readOnly: e.ReadOnly,
	}
	for _, res := range e.Resources[:r.count] {
		b.resources = append(b.resources, [2]uint32{b.value(res.Type), b.value(res.Name)})
	}
	at := [2]uint32{b.value(e.Account), b.value(e.Region)}
	id, ok := b.scopeIDs[at]
	if !ok {
		id = uint32(len(b.scopes))
		b.scopeIDs[at] = id
		b.scopes = append(b.scopes, scope{string(e.Account), string(e.Region)})
	}
	r.scope = id
	b.from, b.to = min(b.from, e.Time), max(b.to, e.Time)
	b.rows = append(b.rows, r)
	return nil
}

// candidates is that of a block.
func (b *builder) candidates(into []uint64, q *Query, below uint64, most int) []uint64 {
	if below <= b.first || len(b.rows) == 0 {
		return into
	}
	covered := make([]bool, len(b.scopes))
	for i, s := range b.scopes {
		covered[i] = q.covers(s)
	}
	type wanted struct {
		Attribute
		value uint32
		id    uint64
	}
	var all []wanted
	for _, c := range q.Conditions {
		n, ok := b.values[c.Value]
		if !ok && c.Attribute != EventID && c.Attribute != ReadOnly {
			return into
		}
		all = append(all, wanted{c.Attribute, n, valueHash(c.Value)})
	}
	trueHash := valueHash("true")
	found := 0
next:
	for i := int(min(below-b.first, uint64(len(b.rows)))) - 1; i >= 0 && found < most; i-- {
		r := &b.rows[i]
		if r.bad || !covered[r.scope] || !q.at(r.time) {
			continue
		}
		for _, w := range all {
			ok := false
			switch w.Attribute {
			case EventID:
				ok = r.id == w.id
			case EventName:
				ok = r.name == w.value
			case ReadOnly:
				ok = r.readOnly == (w.id == trueHash)
			case Username:
				ok = r.user == w.value
			case EventSource:
				ok = r.source == w.value
			case AccessKeyID:
				ok = r.keyID == w.value
			default:
				for _, res := range b.resources[r.resources : r.resources+uint32(r.count)] {
					ok = ok || res[w.Attribute-ResourceType] == w.value
				}
			}
			if !ok {
				continue next
			}
		}
		into = append(into, b.first+uint64(i))
		found++
	}
	return into
}

// finish writes the block. The builder must be full, or at least have a record.
func (b *builder) finish() []byte {
	pairs := b.pairs()
	h := head{first: b.first, from: b.from, to: b.to, count: uint32(len(b.rows)), np: uint32(len(pairs)), last: b.last}
	if h.from > h.to { // not one event
		h.from, h.to = 0, 0
	}
	var scopes bytes.Buffer
	for _, s := range b.scopes {
		scopes.WriteString(s.account + "\x00" + s.region + "\x00")
	}
	h.scopeOctets = uint32(scopes.Len())
	for i, p := range pairs {
		if i == 0 || pairs[i-1]>>16 != p>>16 {
			h.nkeys++
		}
	}
	out := h.append(make([]byte, 0, h.size()))
	for i := range b.rows {
		out = binary.LittleEndian.AppendUint32(out, uint32(min(max(b.rows[i].time-h.from, 0), math.MaxUint32)))
	}
	out = append(out, scopes.Bytes()...)
	for i, p := range pairs {
		if i == 0 || pairs[i-1]>>16 != p>>16 {
			out = binary.LittleEndian.AppendUint64(out, p>>16)
			out = binary.LittleEndian.AppendUint32(out, uint32(i))
		}
	}
	for _, p := range pairs {
		out = binary.LittleEndian.AppendUint16(out, uint16(p))
	}
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

// pairs returns hash of the key and place of the record for every posting, in order and each one once.
func (b *builder) pairs() []uint64 {
	pairs := make([]uint64, 0, 9*len(b.rows))
	readOnly := map[bool]uint64{true: valueHash("true"), false: valueHash("false")}
	empty := b.hashes[0]
	for i := range b.rows {
		r := &b.rows[i]
		if r.bad {
			continue
		}
		add := func(a Attribute, value uint64) { pairs = append(pairs, keyHash(a, r.scope, value)<<16|uint64(i)) }
		add(everything, empty)
		add(EventID, r.id)
		add(EventName, b.hashes[r.name])
		add(ReadOnly, readOnly[r.readOnly])
		add(Username, b.hashes[r.user])
		add(EventSource, b.hashes[r.source])
		add(AccessKeyID, b.hashes[r.keyID])
		for _, res := range b.resources[r.resources : r.resources+uint32(r.count)] {
			add(ResourceType, b.hashes[res[0]])
			add(ResourceName, b.hashes[res[1]])
		}
	}
	return slices.Compact(radix(pairs))
}

// radix sorts by all bits; the places of records are in order already for each hash, but for resources that are named twice,
// which stand side by side.
func radix(a []uint64) []uint64 {
	const bits = 12
	other := make([]uint64, len(a))
	for shift := 16; shift < 64; shift += bits {
		var starts [1 << bits]int
		for _, v := range a {
			starts[v>>shift&(1<<bits-1)]++
		}
		sum := 0
		for i, n := range starts {
			starts[i], sum = sum, sum+n
		}
		for _, v := range a {
			d := v >> shift & (1<<bits - 1)
			other[starts[d]] = v
			starts[d]++
		}
		a, other = other, a
	}
	return a
}
