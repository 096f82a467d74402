package server

import (
	"cmp"
	"context"
	"time"

	"github.com/keywright/keywright/internal/admin"
)

// status says how the server is, for administrators.
func (s *Server) status(ctx context.Context) (admin.Status, error) {
	out := admin.Status{Version: s.config.Version, Started: s.started, Now: s.config.Now(), Listen: s.Addr().String(), Ready: true}
	if err := s.health.ready(); err != nil {
		out.Ready, out.Reason = false, err.Error()
	}
	if at := s.certificateExpiry(); !at.IsZero() {
		out.Certificate = &at
	}
	out.Audit, out.Cluster = s.auditStatus(), s.clusterStatus()
	if err := s.storeStatus(ctx, &out); err != nil {
		if out.Ready {
			return out, err
		}
		out.Reason += "; " + err.Error() // a store that does not answer is what there is to say
	}
	return out, nil
}

// storeStatus adds what the store knows.
func (s *Server) storeStatus(ctx context.Context, out *admin.Status) error {
	out.Store.Octets = s.in.DB.Octets()
	var err error
	if out.Store.Schema, err = s.in.DB.SchemaVersion(ctx); err != nil {
		return err
	}
	sealed, err := s.in.DB.Sealed(ctx)
	if err != nil {
		return err
	}
	for _, r := range sealed.Seals {
		out.Seals = append(out.Seals, admin.SealStatus{ID: r.ID, Kind: string(r.Kind), Name: r.Name, Created: r.CreatedAt})
	}
	c, err := s.census.fresh(ctx)
	if err != nil || c == nil {
		return err
	}
	out.Keys = admin.KeysStatus{
		Counted: c.At, States: map[string]int64{}, Refused: c.Refused, Deletion: dated(c.Deletion), Expiry: dated(c.Expiry), Rotation: dated(c.Rotation),
	}
	for state, n := range c.States {
		out.Keys.States[string(state)] = n
	}
	return nil
}

func (s *Server) auditStatus() admin.AuditStatus {
	a := s.auditState()
	out := admin.AuditStatus{Dir: s.health.auditDir, Segments: a.Segments, Octets: octets(s.health.auditDir), Kept: a.Next - a.First, Next: a.Next, Unsynced: a.Next - min(a.Next, a.Durable)}
	if out.Dir != "" {
		out.Durability = cmp.Or(s.config.Audit.Durability, defaultDurability)
	}
	if !a.Checkpoint.IsZero() {
		out.Checkpoint = &admin.CheckpointStatus{Records: a.Checkpointed, Time: a.Checkpoint}
	}
	for _, f := range s.followers() {
		out.Sinks = append(out.Sinks, admin.SinkStatus{Name: f.Name, Lag: f.Lag, Error: f.LastError, Delivered: dated(f.LastDelivered)})
	}
	return out
}

// dated returns a date, or nil for the zero time.
func dated(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
