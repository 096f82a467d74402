package admin

import (
	"context"
	"errors"
	"time"
)

// MethodStatus asks how the server is. The question is Nothing, the answer a Status.
const MethodStatus = "Status"

// Status says how a server is. Times are the server's. What is not there is left out.
type Status struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
	Ready   bool      `json:"ready"`
	Reason  string    `json:"reason,omitempty"` // why it is not
	Listen  string    `json:"listen"`           // address of the API

	Seals       []SealStatus   `json:"seals"`
	Store       StoreStatus    `json:"store"`
	Cluster     *ClusterStatus `json:"cluster,omitempty"` // nil if the server has its store for itself
	Audit       AuditStatus    `json:"audit"`
	Keys        KeysStatus     `json:"keys"`
	Certificate *time.Time     `json:"certificateExpires,omitempty"`
}

// SealStatus is one of the seals, each of which opens the installation alone.
type SealStatus struct {
	ID      string    `json:"id"`
	Kind    string    `json:"kind"`
	Name    string    `json:"name,omitempty"`
	Created time.Time `json:"created"`
}

// StoreStatus says how the store is.
type StoreStatus struct {
	Octets int64 `json:"octets"`
	Schema int64 `json:"schema"` // number of the last migration
}

// ClusterStatus says how a server stands among those that share its store.
type ClusterStatus struct {
	Node        string       `json:"node"`                 // its name
	Live        []NodeStatus `json:"liveNodes"`            // this one among them
	Leads       bool         `json:"leads"`                // it does the scheduled work of all
	Staleness   float64      `json:"stalenessSeconds"`     // how old what it remembers of the store can be
	Failing     bool         `json:"notHearing,omitempty"` // the store did not say what has changed when it was asked last
	ClockOffset float64      `json:"clockOffsetSeconds"`   // how far its clock is ahead of the database's, at least
}

// NodeStatus is one of the servers that share a store.
type NodeStatus struct {
	Node    string `json:"node"`
	Version string `json:"version"`
}

// AuditStatus says how the audit log is.
type AuditStatus struct {
	Dir        string            `json:"dir,omitempty"` // empty: records stay in memory
	Durability string            `json:"durability,omitempty"`
	Segments   int               `json:"segments"`
	Octets     int64             `json:"octets"`
	Kept       uint64            `json:"keptRecords"`
	Next       uint64            `json:"nextRecord"` // number that the next record gets; the first one ever had 0
	Unsynced   uint64            `json:"unsyncedRecords"`
	Checkpoint *CheckpointStatus `json:"checkpoint,omitempty"` // the newest
	Sinks      []SinkStatus      `json:"sinks,omitempty"`
}

// CheckpointStatus is a signed statement about the log.
type CheckpointStatus struct {
	Records uint64    `json:"records"` // how many it covers
	Time    time.Time `json:"time"`
}

// SinkStatus says how far a sink is.
type SinkStatus struct {
	Name      string     `json:"name"`
	Lag       uint64     `json:"lagRecords"`
	Error     string     `json:"lastError,omitempty"` // of the last delivery, if that failed
	Delivered *time.Time `json:"lastDelivered,omitempty"`
}

// KeysStatus is a census of the keys, and what happens to them next.
type KeysStatus struct {
	Counted  time.Time        `json:"counted"`
	States   map[string]int64 `json:"states"`
	Refused  int64            `json:"refusedRows"` // rows that do not verify
	Deletion *time.Time       `json:"nextDeletion,omitempty"`
	Expiry   *time.Time       `json:"nextMaterialExpiry,omitempty"`
	Rotation *time.Time       `json:"nextRotation,omitempty"`
}

// errNotRunning is the answer of an installation that no server runs on.
var errNotRunning = errors.New("no server runs")

func (a *Admin) statusOf(ctx context.Context, _ *Nothing) (Status, error) {
	if a.status == nil {
		return Status{}, errNotRunning
	}
	return a.status(ctx)
}
