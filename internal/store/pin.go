package store

import (
	"context"
	"slices"
	"strconv"
	"time"
)

// Pin says that an object must not be swept before a time on the database's clock.
type Pin struct {
	Hash  string
	Until int64
}

func (p *Pin) fields() []any { return []any{&p.Hash, &p.Until} }

// condemnation runs out after this: a sweep that is still alive has removed its objects by then or given up.
const condemnation = time.Minute

// Pin keeps objects from the sweep for a time, and lists those that a sweep is removing right now: they count as not
// there, and are not pinned. Pins are never shortened; one that lasts for more than half the time is left as it is.
func (s *Store) Pin(ctx context.Context, hashes []string, keep time.Duration) (condemned []string, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		condemned, err = tx.pin(ctx, hashes, keep)
		return err
	})
	return condemned, err
}

func (tx *Tx) pin(ctx context.Context, hashes []string, keep time.Duration) (condemned []string, err error) {
	// Both databases call the column of VALUES column1.
	err = inBatches(hashes, func(batch []any) error {
		n := len(batch)
		keepArg, halfArg, oldArg := strconv.Itoa(n+1), strconv.Itoa(n+2), strconv.Itoa(n+3)
		_, err := tx.r.exec(ctx, `INSERT INTO pins (hash, until) SELECT v.column1, `+tx.d.now+` + $`+keepArg+` FROM (VALUES `+rowMarks(1, n)+`) AS v WHERE 1 = 1
			ON CONFLICT (hash) DO UPDATE SET until = excluded.until
			WHERE (pins.until >= 0 AND pins.until < `+tx.d.now+` + $`+halfArg+`) OR (pins.until < 0 AND -pins.until < `+tx.d.now+` - $`+oldArg+`)`,
			append(batch, keep.Milliseconds(), (keep/2).Milliseconds(), condemnation.Milliseconds())...)
		if err != nil {
			return err
		}
		list, err := many(ctx, tx.reads, scalar[string], `SELECT hash FROM pins WHERE until < 0 AND hash IN `+marks(1, n), batch...)
		condemned = append(condemned, list...)
		return err
	})
	return condemned, err
}

// inBatches hands out distinct hashes in ascending order, the same for everyone, so that two who lock the same rows
// cannot wait for each other.
func inBatches(hashes []string, do func(batch []any) error) error {
	hashes = slices.Compact(slices.Sorted(slices.Values(hashes)))
	return batches([]int{256, 64, 16, 4, 1}, len(hashes), func(from, to int) error {
		batch := make([]any, 0, to-from+3)
		for _, h := range hashes[from:to] {
			batch = append(batch, h)
		}
		return do(batch)
	})
}

// Condemn marks those of the objects that nobody has pinned as being removed, and lists them. Their removal must be
// done, and told with Forget, within condemnation's minute.
func (s *Store) Condemn(ctx context.Context, hashes []string) (condemned []string, err error) {
	err = s.Write(ctx, func(tx *Tx) error {
		condemned = nil
		return inBatches(hashes, func(batch []any) error {
			list, err := many(ctx, tx.reads, scalar[string], `INSERT INTO pins (hash, until) SELECT v.column1, -`+tx.d.now+` FROM (VALUES `+rowMarks(1, len(batch))+`) AS v WHERE 1 = 1
				ON CONFLICT (hash) DO UPDATE SET until = excluded.until WHERE pins.until < `+tx.d.now+` RETURNING hash`, batch...)
			condemned = append(condemned, list...)
			return err
		})
	})
	return condemned, err
}

// Forget takes the marks of Condemn away, after the objects are gone or were spared.
func (s *Store) Forget(ctx context.Context, hashes []string) error {
	return s.Write(ctx, func(tx *Tx) error {
		return inBatches(hashes, func(batch []any) error {
			_, err := tx.r.exec(ctx, `DELETE FROM pins WHERE until < 0 AND hash IN `+marks(1, len(batch)), batch...)
			return err
		})
	})
}

// Pinned lists the pins that last, by hash. The cursor is the last hash seen.
func (q reads) Pinned(ctx context.Context, p Page) ([]Pin, error) {
	return many(ctx, q, (*Pin).fields, `SELECT hash, until FROM pins WHERE hash > $1 AND until > `+q.d.now+` ORDER BY hash LIMIT $2`, p.After, p.limit())
}

// DeletePins removes the pins that ran out.
func (s *Store) DeletePins(ctx context.Context) error {
	return s.Write(ctx, func(tx *Tx) error {
		_, err := tx.r.exec(ctx, `DELETE FROM pins WHERE until >= 0 AND until <= `+tx.d.now)
		return err
	})
}
