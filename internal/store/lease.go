package store

import (
	"context"
	"time"
)

// Lease says that one server works for a compute: it alone owns the connection, the queue and the writing of its jobs.
//
// Whether a lease runs is judged by the database's clock alone, so servers whose clocks differ agree. Its epoch rises
// whenever the holder changes and never goes back; what is written under it names it (Guard), so a holder that slept
// past its time can do no harm.
type Lease struct {
	ComputeID string
	Holder    string
	Epoch     int64
	Expires   int64 // on the database's clock
}

func (l *Lease) fields() []any { return []any{&l.ComputeID, &l.Holder, &l.Epoch, &l.Expires} }

const leaseColumns = `compute_id, holder, epoch, expires`

// Acquire takes the lease of a compute for ttl, or prolongs it if holder has it. ok is false when another has it. A
// holder is one life of one server process: a process that starts again takes a new name.
func (tx *Tx) Acquire(ctx context.Context, computeID, holder string, ttl time.Duration) (epoch int64, ok bool, err error) {
	// The row stands still while it is judged: both databases lock it before they evaluate the WHERE.
	got, err := many(ctx, tx.reads, scalar[int64], `INSERT INTO leases (compute_id, holder, epoch, expires)
		VALUES ($1, $2, 1, `+tx.d.now+` + $3)
		ON CONFLICT (compute_id) DO UPDATE SET
			holder  = excluded.holder,
			epoch   = leases.epoch + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END,
			expires = excluded.expires
		WHERE leases.holder = excluded.holder OR leases.expires <= `+tx.d.now+`
		RETURNING epoch`, computeID, holder, ttl.Milliseconds())
	if err != nil || len(got) == 0 {
		return 0, false, err
	}
	return got[0], true, nil
}

// Renew prolongs all leases that holder still has, by ttl from now, and lists them. One that is missing in the list was
// taken by another server. A lease that ran out and that nobody took is kept, under its epoch.
func (tx *Tx) Renew(ctx context.Context, holder string, ttl time.Duration) ([]Lease, error) {
	return many(ctx, tx.reads, (*Lease).fields, `UPDATE leases SET expires = `+tx.d.now+` + $2 WHERE holder = $1 RETURNING `+leaseColumns,
		holder, ttl.Milliseconds())
}

// ReleaseLease gives a lease back, so that another server may take it at once. Not held: nil.
func (tx *Tx) ReleaseLease(ctx context.Context, computeID, holder string) error {
	// The row stays, with its epoch.
	_, err := tx.r.exec(ctx, `UPDATE leases SET holder = '', expires = 0 WHERE compute_id = $1 AND holder = $2`, computeID, holder)
	return err
}

// FreeLeases gives back the leases of every holder. Their rows stay, with their epochs. Only whoever knows that no other
// server lives on the database may call it: whoever locked the folder of a SQLite file.
func (tx *Tx) FreeLeases(ctx context.Context) error {
	_, err := tx.r.exec(ctx, `UPDATE leases SET holder = '', expires = 0 WHERE holder <> ''`)
	return err
}

// Held lists the leases that are written to holder, whether or not they ran out.
func (q reads) Held(ctx context.Context, holder string) ([]Lease, error) {
	return many(ctx, q, (*Lease).fields, `SELECT `+leaseColumns+` FROM leases WHERE holder = $1 ORDER BY compute_id`, holder)
}

// LeaseOf finds the lease of a compute. ErrNotFound if nobody ever had it.
func (q reads) LeaseOf(ctx context.Context, computeID string) (Lease, error) {
	return one(ctx, q, (*Lease).fields, `SELECT `+leaseColumns+` FROM leases WHERE compute_id = $1`, computeID)
}

// Free lists the computes that want work, by a job or for themselves, now or later, and whose lease nobody has.
func (q reads) Free(ctx context.Context) ([]string, error) {
	return many(ctx, q, scalar[string], `SELECT c.id FROM computes c
		WHERE (c.due IS NOT NULL OR EXISTS (SELECT 1 FROM jobs j WHERE j.compute_id = c.id AND j.due IS NOT NULL))
		AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.compute_id = c.id AND l.expires > `+q.d.now+`)
		ORDER BY c.id`)
}
