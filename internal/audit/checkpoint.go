package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The files beside the segments.
const (
	checkpointsName = "checkpoints"  // all checkpoints, oldest first, each followed by an empty line
	verifierName    = "verifier.pub" // the key that verifies them, in the form of signed notes
)

// originPrefix and a UUID are the origin of a log, which is also the name of its key.
const originPrefix = "keywright-audit/"

// Checkpoint says what a log held at some time: its first Size records are those of the Merkle tree with this Root, in this
// order. As a text it is a signed note whose body has the form of C2SP tlog-checkpoint with five extension lines.
type Checkpoint struct {
	Origin string // which log: keywright-audit/ and a UUID
	Size   uint64
	Root   tlog.Hash
	Number uint64    // checkpoints of a log are numbered from 0, without gaps
	First  uint64    // number of the oldest record that was kept then
	Oldest uint64    // number of the oldest checkpoint that was kept then
	Time   time.Time // UTC, seconds
	Closed bool      // no record follows before the next checkpoint: the log was closed
}

// maxCheckpoint is more than the octets of any checkpoint, also of one that others have signed too.
const maxCheckpoint = 16 << 10

// ErrCheckpoint says that a text is no checkpoint, or not signed by the log's key.
var ErrCheckpoint = errors.New("not a checkpoint signed by the log's key")

// body returns the text that is signed.
func (c *Checkpoint) body() string {
	state := "open"
	if c.Closed {
		state = "closed"
	}
	return fmt.Sprintf("%s\n%d\n%s\nnumber %d\nfirst %d\noldest %d\ntime %s\nstate %s\n",
		c.Origin, c.Size, c.Root, c.Number, c.First, c.Oldest, c.Time.UTC().Format(time.RFC3339), state)
}

// parseBody is the inverse of body, and takes nothing else.
func parseBody(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 9 || !strings.HasPrefix(lines[0], originPrefix) {
		return nil, ErrCheckpoint
	}
	c := &Checkpoint{Origin: lines[0]}
	var errs [6]error
	c.Size, errs[0] = strconv.ParseUint(lines[1], 10, 63)
	c.Root, errs[1] = tlog.ParseHash(lines[2])
	for i, to := range []*uint64{&c.Number, &c.First, &c.Oldest} {
		_, value, _ := strings.Cut(lines[3+i], " ")
		*to, errs[2+i] = strconv.ParseUint(value, 10, 63)
	}
	c.Time, errs[5] = time.Parse(time.RFC3339, strings.TrimPrefix(lines[6], "time "))
	c.Closed = lines[7] == "state closed"
	if errors.Join(errs[:]...) != nil || c.body() != text {
		return nil, ErrCheckpoint
	}
	return c, nil
}

// ParseRemembered reads what Options.Remember was given. The error is ErrCheckpoint.
func ParseRemembered(text []byte) (*Checkpoint, error) { return parseBody(string(text)) }

// signer signs checkpoints of one log.
type signer struct {
	key    ed25519.PrivateKey
	origin string
	hash   uint32
	public string // in the form of signed notes
}

func newSigner(origin string, key ed25519.PrivateKey) (*signer, error) {
	public, err := VerifierKey(origin, key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(public)
	if err != nil {
		return nil, err
	}
	return &signer{key, origin, v.KeyHash(), public}, nil
}

// VerifierKey returns the text by which others know a log's key: name, hash and public key, as in golang.org/x/mod/sumdb/note.
func VerifierKey(origin string, key ed25519.PublicKey) (string, error) {
	return note.NewEd25519VerifierKey(origin, key)
}

// Name, KeyHash and Sign implement note.Signer.
func (s *signer) Name() string                    { return s.origin }
func (s *signer) KeyHash() uint32                 { return s.hash }
func (s *signer) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

// sign returns the checkpoint as a signed note.
func (s *signer) sign(c *Checkpoint) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.body()}, s)
}

// ParseCheckpoint reads a checkpoint and verifies its signature with the text that VerifierKey makes. Signatures by other keys,
// such as those of witnesses, may stand beside it. The error is ErrCheckpoint, or what is wrong with the key.
func ParseCheckpoint(signed []byte, verifierKey string) (*Checkpoint, error) {
	v, err := note.NewVerifier(strings.TrimSpace(verifierKey))
	if err != nil {
		return nil, fmt.Errorf("reading the verifier key: %w", err)
	}
	return openCheckpoint(signed, v, false)
}

// openCheckpoint verifies a signed note. If exact, it must be the very octets that sign makes.
func openCheckpoint(signed []byte, v note.Verifier, exact bool) (*Checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return nil, ErrCheckpoint
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return nil, ErrCheckpoint
	}
	if exact {
		sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
		if err != nil || n.Text+"\n— "+v.Name()+" "+base64.StdEncoding.EncodeToString(sig)+"\n" != string(signed) {
			return nil, ErrCheckpoint
		}
	}
	c, err := parseBody(n.Text)
	if err != nil {
		return nil, err
	}
	if c.Origin != v.Name() {
		return nil, ErrCheckpoint
	}
	return c, nil
}

// noteReader cuts the file of checkpoints into signed notes.
type noteReader struct {
	r  *bufio.Reader
	at int64 // offset behind the last note
}

func newNoteReader(r io.Reader) *noteReader { return &noteReader{r: bufio.NewReader(r)} }

// errTorn says that the file of checkpoints ends, or is broken, within one.
var errTorn = errors.New("the text ends within a checkpoint")

// next returns the next note without the empty line behind it, io.EOF at the end and errTorn for what is no whole note.
func (n *noteReader) next() ([]byte, error) {
	var text []byte
	for blanks := 0; blanks < 2; {
		line, err := n.r.ReadSlice('\n')
		text = append(text, line...)
		switch {
		case errors.Is(err, io.EOF) && len(text) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case err != nil, len(text) > maxCheckpoint:
			return nil, errTorn
		case len(line) == 1:
			blanks++
		}
	}
	n.at += int64(len(text))
	return bytes.TrimSuffix(text, []byte("\n")), nil
}

// NewestCheckpoint returns the last checkpoint in a log's directory as it is: nothing is verified. The error is os.ErrNotExist,
// wrapped, if there is none.
func NewestCheckpoint(dir string) ([]byte, error) {
	f, err := os.Open(checkpointsPath(dir))
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	text, _, err := lastNote(f)
	if err == nil && len(text) == 0 {
		err = os.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints: %w", err)
	}
	return text, nil
}
