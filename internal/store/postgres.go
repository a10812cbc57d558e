package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// postgresDB is a pool on PostgreSQL 13 or newer, and two goroutines that carry hints between servers.
//
// Transactions are REPEATABLE READ: one that touched a row which another changed meanwhile is run again, so functions
// given to Write need no locking reads.
type postgresDB struct {
	s    *Store
	pool *sql.DB
	conf *pgx.ConnConfig

	out    chan []Hint
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
}

const (
	postgresConns   = 16
	postgresIdle    = 4
	postgresRetries = 50
	// a transaction that takes longer is given up; the network may have swallowed it.
	postgresTimeout = time.Minute
	hintChannel     = "moorage_hint"
	// The database takes away what a server holds that stopped in the middle of a transaction, in milliseconds: nothing
	// slow happens inside of one, and until then another could not take over its leases.
	postgresStopped = "3000"
)

func (s *Store) openPostgres(ctx context.Context, url string) (err error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidDatabaseURL", Target: "database",
			Message: "the database's URL cannot be read", // the cause may quote the password
			Mend:    "give postgres://user:password@host:port/database; write special characters of the password as %xx",
		}
	}
	if conf.RuntimeParams["idle_in_transaction_session_timeout"] == "" {
		conf.RuntimeParams["idle_in_transaction_session_timeout"] = postgresStopped
	}
	d := &postgresDB{s: s, conf: conf, pool: stdlib.OpenDB(*conf), out: make(chan []Hint, 64)}
	d.pool.SetMaxOpenConns(postgresConns)
	d.pool.SetMaxIdleConns(postgresIdle)
	d.pool.SetConnMaxIdleTime(5 * time.Minute)
	defer func() {
		if err != nil {
			_ = d.close()
		}
	}()
	if err := d.pool.PingContext(ctx); err != nil {
		return translate(err)
	}
	if err := s.migrate(ctx, migration{db: d.pool, d: postgresDialect}); err != nil {
		return err
	}
	s.reads = reads{direct{d.pool}, postgresDialect}
	s.db = d
	var life context.Context
	life, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	self := s.newID()
	d.wg.Go(func() { d.speak(life, self) })
	d.wg.Go(func() { d.listen(life, self) })
	return nil
}

func (d *postgresDB) write(ctx context.Context, fn func(*Tx) error) error {
	for try := 1; ; try++ {
		err := d.attempt(ctx, fn)
		if !conflict(err) || try == postgresRetries {
			return translate(err)
		}
		d.s.counted.retries.Add(1)
		// Under snapshot isolation one of those that met has won, so a short wait is enough.
		select {
		case <-time.After(time.Duration(min(try, 20)) * time.Millisecond / 2):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempt runs fn once. Statements end with ctx, but BEGIN and COMMIT do not, so that the outcome is never in doubt.
func (d *postgresDB) attempt(ctx context.Context, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), postgresTimeout)
	defer cancel()
	t, err := d.pool.BeginTx(whole, &sql.TxOptions{Isolation: sql.LevelRepeatableRead})
	if err != nil {
		return err
	}
	defer t.Rollback() // after a commit it does nothing
	run := &careful{runner: direct{t}}
	tx := &Tx{reads: reads{run, postgresDialect}, s: d.s}
	if err := fn(tx); err != nil {
		switch {
		case ctx.Err() != nil: // the driver may say it as a broken connection, which is only how it gave up
			return ctx.Err()
		case conflict(run.failed):
			return run.failed
		}
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if run.failed != nil {
		return run.failed
	}
	if err := t.Commit(); err != nil {
		return err
	}
	d.s.counted.commits.Add(1)
	d.s.hub.send(tx.hints)
	if len(tx.hints) > 0 {
		d.announce(tx.hints)
	}
	return nil
}

// announce hands hints to speak without waiting; when that is behind, they are left out, as hints may be.
func (d *postgresDB) announce(hints []Hint) {
	select {
	case d.out <- hints:
	default:
	}
}

// message is the payload of a notification. PostgreSQL allows 8,000 bytes.
type message struct {
	From  string `json:"f"`
	Hints []Hint `json:"h"`
}

const hintsPerMessage = 80

// speak sends hints to the other servers, outside the transactions that made them: a NOTIFY inside would make every
// commit wait for the one before.
func (d *postgresDB) speak(ctx context.Context, self string) {
	for {
		var hints []Hint
		select {
		case <-ctx.Done():
			return
		case hints = <-d.out:
		}
		for more := true; more && len(hints) < hintsPerMessage; {
			select {
			case h := <-d.out:
				hints = append(hints, h...)
			default:
				more = false
			}
		}
		if len(hints) > hintsPerMessage {
			hints = []Hint{{}}
		}
		payload, err := json.Marshal(message{self, hints})
		if err != nil {
			panic("store: hints cannot be encoded: " + err.Error()) // text always can
		}
		if _, err := d.pool.ExecContext(ctx, `SELECT pg_notify($1, $2)`, hintChannel, string(payload)); err != nil && ctx.Err() == nil {
			d.s.log.Warn("store: hints to other servers were lost", "err", err)
		}
	}
}

// listen passes on what other servers say, on a connection of its own, until ctx ends.
func (d *postgresDB) listen(ctx context.Context, self string) {
	wait := time.Second
	for ctx.Err() == nil {
		if err := d.listenOnce(ctx, self, func() { wait = time.Second }); err != nil && ctx.Err() == nil {
			d.s.log.Warn("store: no hints from other servers until the database answers", "err", err, "again_in", wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, 30*time.Second)
	}
}

func (d *postgresDB) listenOnce(ctx context.Context, self string, connected func()) error {
	c, err := pgx.ConnectConfig(ctx, d.conf.Copy())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close(context.WithoutCancel(ctx)) }()
	if _, err := c.Exec(ctx, "LISTEN "+hintChannel); err != nil {
		return err
	}
	connected()
	d.s.hub.send([]Hint{{}}) // for what was said while nobody listened
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		var m message
		if json.Unmarshal([]byte(n.Payload), &m) == nil && m.From != self {
			d.s.hub.send(m.Hints)
		}
	}
}

func (d *postgresDB) close() error {
	var err error
	d.once.Do(func() {
		if d.cancel != nil {
			d.cancel()
		}
		d.wg.Wait()
		err = translate(d.pool.Close())
	})
	return err
}
