package sink

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/keywright/keywright/internal/audit"
)

// position is how far a sink has come, on disk: the number of the record that it needs next with the digest of the one
// before, and the same of some moments ago. A log that is not flushed at once can lose its last records in a power cut, and
// others get their numbers: then an older place holds.
type position struct {
	path   string
	places []place // newest first
	older  time.Time
}

type place struct {
	Next   uint64 `json:"next"`
	Digest string `json:"sha256"` // of record Next-1, hexadecimal
}

// Older places are kept at such distances, and so many.
const (
	placeEvery = 5 * time.Second
	maxPlaces  = 5
)

// load returns the number of the record to deliver first: the oldest of the log when there is no position yet.
func (p *position) load(src audit.Source) (uint64, error) {
	text, err := os.ReadFile(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return src.First(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading the position: %w", err)
	}
	places, err := parsePosition(text)
	if err != nil {
		slog.Error("the position of an audit sink is damaged; everything is delivered again", "file", p.path, "err", err)
		return src.First(), nil
	}
	for i, x := range places {
		ok, err := x.holds(src)
		if err != nil {
			return 0, fmt.Errorf("comparing the position with the audit log: %w", err)
		}
		if ok {
			p.places = places[i:]
			return x.Next, nil
		}
	}
	slog.Error("the audit log is not the one that a sink had; everything is delivered again", "file", p.path)
	return src.First(), nil
}

// parsePosition reads the text of a position.
func parsePosition(text []byte) ([]place, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var places []place
	if err := dec.Decode(&places); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows")
	}
	if len(places) == 0 || len(places) > maxPlaces {
		return nil, errors.New("no place")
	}
	for _, x := range places {
		if b, err := hex.DecodeString(x.Digest); err != nil || len(b) != sha256.Size || x.Next == 0 {
			return nil, errors.New("not the digest of a record")
		}
	}
	return places, nil
}

// holds reports whether the record before the place is the one that it was.
func (x *place) holds(src audit.Source) (bool, error) {
	if x.Next > src.Next() {
		return false, nil
	}
	records, err := src.Read(x.Next-1, 1)
	if errors.Is(err, audit.ErrGone) {
		return true, nil // it was delivered, and is kept no more
	}
	if err != nil || len(records) != 1 {
		return false, err
	}
	digest := sha256.Sum256(records[0])
	return x.Digest == hex.EncodeToString(digest[:]), nil
}

// note takes in a delivery.
func (p *position) note(m mark) {
	newest := place{m.next, hex.EncodeToString(m.digest[:])}
	if len(p.places) == 0 || m.at.Sub(p.older) >= placeEvery {
		p.older = m.at
		p.places = append([]place{newest}, p.places[:min(len(p.places), maxPlaces-1)]...)
		return
	}
	p.places[0] = newest
}

// save writes the position, all of it or nothing.
func (p *position) save() error {
	text, err := json.Marshal(p.places)
	if err != nil {
		return err
	}
	if err := writeSynced(p.path+".new", append(text, '\n')); err != nil {
		return err
	}
	if err := os.Rename(p.path+".new", p.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(p.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeSynced(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}
