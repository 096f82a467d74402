package kms_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keywright/keywright/internal/arn"
)

// lifecycle is a small model of one symmetric key in one Region of the root user's, written after the rules of the KMS developer guide and not
// after the service's code: each method does to the model what its operation does, and returns the error that it answers,
// "Code: message", or an empty string.
type lifecycle struct {
	id, arn  string
	external bool
	state    string
	disabled bool // PendingImport: it was disabled before
	deletion time.Time
	gone     bool

	rotates  bool
	period   int
	next     time.Time
	onDemand int

	generations []*modelMaterial

	set   *modelSet // the multi-Region key that it is of; nil for a single-Region key
	where arn.Region
	ready string // Creating, Updating: what the key will be
	days  int    // PendingReplicaDeletion: how long the window will be
}

// modelMaterial is one generation of material. An own one is known by its id only, an imported one by its secret, too.
type modelMaterial struct {
	id     string
	secret byte
	state  string
	there  bool
	until  time.Time // when it goes; zero for never
	by     string    // AUTOMATIC, ON_DEMAND, or empty
	at     time.Time
}

func (g *modelMaterial) permanent() bool { return g.state == "CURRENT" || g.state == "NON_CURRENT" }

type modelBlob struct {
	octets   []byte
	material *modelMaterial
}

const modelDay = 24 * time.Hour

func (m *lifecycle) missing() string {
	if m.gone {
		return "NotFoundException: Key '" + m.arn + "' does not exist"
	}
	return ""
}

// forbidden returns the error of the first of the states that is the key's.
func (m *lifecycle) forbidden(states ...string) string {
	if m.gone {
		return m.missing()
	}
	state := m.state
	switch {
	case state == "PendingReplicaDeletion":
		state = "PendingDeletion"
	case state == "Updating" && !m.complete() && slices.Contains(states, "PendingImport"):
		state = "PendingImport"
	}
	if !slices.Contains(states, state) {
		return ""
	}
	return map[string]string{
		"Disabled":        "DisabledException: " + m.arn + " is disabled.",
		"PendingDeletion": "KMSInvalidStateException: " + m.arn + " is pending deletion.",
		"PendingImport":   "KMSInvalidStateException: " + m.arn + " is pending import.",
		"Creating":        "KMSInvalidStateException: " + m.arn + " is creating.",
		"Updating":        "KMSInvalidStateException: " + m.arn + " is updating.",
	}[state]
}

func (m *lifecycle) origin(mustBeExternal bool) string {
	if m.gone || m.external == mustBeExternal {
		return ""
	}
	name := "AWS_KMS"
	if m.external {
		name = "EXTERNAL"
	}
	return "UnsupportedOperationException: " + m.arn + " origin is " + name + " which is not valid for this operation."
}

func firstOf(errs ...string) string {
	for _, e := range errs {
		if e != "" {
			return e
		}
	}
	return ""
}

func (m *lifecycle) find(ok func(*modelMaterial) bool) *modelMaterial {
	if i := slices.IndexFunc(m.generations, ok); i >= 0 {
		return m.generations[i]
	}
	return nil
}

func (m *lifecycle) current() *modelMaterial {
	return m.find(func(g *modelMaterial) bool { return g.state == "CURRENT" })
}

func (m *lifecycle) pending() *modelMaterial {
	return m.find(func(g *modelMaterial) bool { return !g.permanent() })
}

// complete reports whether all material that the key has encrypted under is there.
func (m *lifecycle) complete() bool {
	lost := m.find(func(g *modelMaterial) bool { return g.permanent() && !g.there })
	return m.current() != nil && lost == nil
}

// tick is what the time alone does: material expires.
func (m *lifecycle) tick(now time.Time) {
	for _, g := range slices.Clone(m.generations) {
		if g.there && !g.until.IsZero() && !g.until.After(now) {
			m.lose(g)
		}
	}
}

func (m *lifecycle) lose(g *modelMaterial) {
	g.there, g.until = false, time.Time{}
	if !g.permanent() {
		m.generations = slices.DeleteFunc(m.generations, func(has *modelMaterial) bool { return has == g })
	}
	if state := m.settled(); !m.complete() && !m.pendingDeletion() {
		m.disabled = m.disabled || *state == "Disabled"
		*state = "PendingImport"
	}
}

func (m *lifecycle) pendingDeletion() bool {
	return strings.HasPrefix(m.state, "Pending") && strings.HasSuffix(m.state, "Deletion")
}

// settled is the state that the key has, or will have once it is made or updated.
func (m *lifecycle) settled() *string {
	if m.ready != "" {
		return &m.ready
	}
	return &m.state
}

// schedule is what the service does besides when it has the time: deletions and rotations that are due.
func (m *lifecycle) schedule(now time.Time) {
	switch {
	case m.gone:
	case m.state == "PendingDeletion" && !m.deletion.After(now):
		m.gone = true
		m.set.left(m, now)
	case m.ready != "":
		m.state, m.ready = m.ready, ""
	case m.state == "Enabled" && m.rotates && m.leads() && !m.next.After(now):
		m.rotateTo(&modelMaterial{there: true}, "AUTOMATIC", now)
		for !m.next.After(now) {
			m.next = m.next.Add(time.Duration(m.period) * modelDay)
		}
	}
}

func (m *lifecycle) rotateTo(g *modelMaterial, by string, now time.Time) {
	m.current().state = "NON_CURRENT"
	if !slices.Contains(m.generations, g) {
		m.generations = append(m.generations, g)
	}
	g.state, g.by, g.at = "CURRENT", by, now
}

func (m *lifecycle) encrypt() string {
	return m.forbidden("Disabled", "PendingDeletion", "PendingImport", "Creating")
}

func (m *lifecycle) decrypt() string {
	if m.gone {
		return "AccessDeniedException: The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not allowed to access."
	}
	return m.encrypt()
}

func (m *lifecycle) enable(state string) string {
	refusal := m.forbidden("PendingDeletion", "PendingImport", "Creating", "Updating")
	if refusal == "" {
		m.state = state
	}
	return refusal
}

func (m *lifecycle) setRotation(days int, now time.Time) string {
	refusal := firstOf(m.forbidden("Disabled", "PendingDeletion", "Creating"), m.origin(false), m.follows())
	switch {
	case refusal != "":
	case days == 0:
		m.rotates, m.next = false, time.Time{}
	case !m.rotates || m.period != days:
		m.rotates, m.period, m.next = true, days, now.Add(time.Duration(days)*modelDay)
	}
	return refusal
}

func (m *lifecycle) rotate(now time.Time) string {
	if refusal := firstOf(m.forbidden("Disabled", "PendingDeletion", "PendingImport", "Creating", "Updating"), m.follows()); refusal != "" {
		return refusal
	}
	fresh := m.pending()
	switch {
	case m.external && (fresh == nil || fresh.state != "PENDING_ROTATION"):
		return "KMSInvalidStateException: No available key material pending rotation for the key: " + m.arn + "."
	case m.onDemand == 25:
		return "LimitExceededException: The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: " + m.arn
	case m.rotates && !m.next.After(now.Add(20*time.Minute)):
		return "ConflictException: An automatic rotation of " + m.arn + " is in progress or begins within 20 minutes."
	case fresh == nil:
		fresh = &modelMaterial{there: true}
	}
	m.onDemand++
	m.rotateTo(fresh, "ON_DEMAND", now)
	return ""
}

func (m *lifecycle) scheduleDeletion(days int, now time.Time) string {
	refusal := m.forbidden("PendingDeletion", "Updating")
	switch {
	case refusal != "":
		return refusal
	case m.leads() && m.set.replicas() != nil:
		m.state, m.days = "PendingReplicaDeletion", days
	default:
		m.ready = ""
		m.state, m.deletion = "PendingDeletion", now.Add(time.Duration(days)*modelDay)
	}
	m.disabled = false
	return refusal
}

func (m *lifecycle) cancelDeletion() string {
	switch {
	case m.gone:
		return m.missing()
	case !m.pendingDeletion():
		return "KMSInvalidStateException: " + m.arn + " is not pending deletion."
	case m.complete():
		m.state = "Disabled"
	default:
		m.state, m.disabled = "PendingImport", m.current() != nil
	}
	m.deletion = time.Time{}
	return ""
}

// importMaterial takes a secret, the ImportType that was sent, if any, and the id that the service gave the material.
func (m *lifecycle) importMaterial(secret byte, kind, id string, until time.Time) string {
	if refusal := firstOf(m.missing(), m.origin(true), m.forbidden("PendingDeletion", "Creating")); refusal != "" {
		return refusal
	}
	if kind == "" && len(m.generations) == 0 && m.leads() {
		kind = "NEW_KEY_MATERIAL"
	}
	known := m.find(func(g *modelMaterial) bool { return g.secret == secret })
	pending := m.pending()
	switch fresh := kind == "NEW_KEY_MATERIAL"; {
	case fresh == (known != nil), fresh && !m.leads():
		return "IncorrectKeyMaterialException"
	case fresh && pending != nil:
		return fmt.Sprintf("KMSInvalidStateException: New key material (id: %s) cannot be imported into KMS key %s, because another key material (id: %s) is pending rotation.", id, m.id, pending.id)
	case fresh:
		known = &modelMaterial{id: id, secret: secret, state: "CURRENT"}
		if len(m.generations) > 0 {
			known.state = "PENDING_ROTATION"
		}
		m.generations = append(m.generations, known)
	}
	known.there, known.until = true, until
	if state := m.settled(); *state == "PendingImport" && m.complete() {
		*state = "Enabled"
		if m.disabled {
			*state = "Disabled"
		}
		m.disabled = false
	}
	return ""
}

// deleteMaterial deletes a generation, or the current one for nil.
func (m *lifecycle) deleteMaterial(g *modelMaterial) string {
	if refusal := firstOf(m.missing(), m.origin(true), m.forbidden("Creating", "Updating")); refusal != "" {
		return refusal
	}
	if g == nil {
		g = m.current()
	}
	if g != nil && g.there {
		m.lose(g)
	}
	return ""
}

// name returns the key's id as the store has it.
func (m *lifecycle) name() arn.KeyID { return arn.KeyID(m.id) }
