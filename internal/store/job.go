package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Job is one piece of work. What clients want is written by control, what was seen by reconcile; the comments say whose
// a group of fields is, and no method writes the other's.
type Job struct {
	ID          string // a ULID
	WorkspaceID string
	Name        string // the client's, unique in the workspace
	ComputeID   string
	ComputeName string // as it was when the job came; the compute itself may be detached since
	Experiment  string
	JobType     string
	Priority    int
	GPUs        int
	Created     int64
	CreatedBy   string
	ParentID    string // id of the parent job; empty if there is none

	// For people, changed by DescribeJob.
	DisplayName string
	Tags        json.RawMessage // an object of texts
	Properties  json.RawMessage // an object of texts
	Archived    bool

	// What is wanted, changed by WishCancel.
	Wish       Wish
	Generation int64 // rises with every wish

	// What was seen, changed by UpdateJob.
	State              workspace.State
	Reason             *workspace.Problem // why it waits
	Position           int                // in the queue of its compute, from 1; 0: not queued
	Phase              Phase
	Attempt            int // from 1
	Ref                string
	ExitCode           *int
	Error              *workspace.Problem // why it failed
	Submitted          int64              // 0: not yet
	Started            int64
	Ended              int64
	Due                *int64 // when reconcile looks at it again; nil: nothing is to be done
	Failures           int    // in a row, for the backoff
	ObservedGeneration int64
	LogSize            int64

	// The body, which lists leave out.
	Doc       json.RawMessage // ARM properties as sent, secrets removed; never changed
	Spec      json.RawMessage // resolved: what reconcile submits; never changed
	LogInline []byte          // a whole log that is short; nil is never written
}

// Wish is what the client wants of a job.
type Wish string

// The wishes.
const (
	WishRun Wish = "run"
	Cancel  Wish = "cancel"
)

// Phase is how far reconcile is with a job. It only goes on.
type Phase string

// The phases.
const (
	Accepted  Phase = "accepted"
	Handing   Phase = "handing" // being submitted: the target may know it
	Submitted Phase = "submitted"
	Ended     Phase = "ended"
	Collected Phase = "collected"
	Released  Phase = "released"
)

const jobColumns = `j.id, j.workspace_id, j.name, j.compute_id, j.experiment, j.display_name, j.job_type, j.state, j.reason, j.position,
	j.wish, j.phase, j.priority, j.attempt, j.ref, j.exit_code, j.error, j.gpus, j.created, j.submitted, j.started, j.ended, j.due,
	j.failures, j.generation, j.observed_generation, j.log_size, j.created_by, j.parent_id, j.archived, j.tags, j.properties, j.compute_name`

const bodyColumns = `, b.doc, b.spec, b.log_inline`

func (j *Job) rowFields() []any {
	return []any{
		&j.ID, &j.WorkspaceID, &j.Name, &j.ComputeID, &j.Experiment, &j.DisplayName, &j.JobType, &j.State,
		decoded[*workspace.Problem]{&j.Reason},
		&j.Position,
		&j.Wish, &j.Phase, &j.Priority, &j.Attempt, &j.Ref, &j.ExitCode,
		decoded[*workspace.Problem]{&j.Error},
		&j.GPUs, &j.Created, &j.Submitted, &j.Started, &j.Ended, &j.Due,
		&j.Failures, &j.Generation, &j.ObservedGeneration, &j.LogSize, &j.CreatedBy, &j.ParentID, &j.Archived,
		raw{&j.Tags},
		raw{&j.Properties},
		&j.ComputeName,
	}
}

func (j *Job) fields() []any {
	return append(j.rowFields(), raw{&j.Doc}, raw{&j.Spec}, &j.LogInline)
}

const jobWithBody = `SELECT ` + jobColumns + bodyColumns + ` FROM jobs j JOIN job_bodies b ON b.job_id = j.id`

// Job finds a job by its name. ErrNotFound.
func (q reads) Job(ctx context.Context, workspaceID, name string) (Job, error) {
	return one(ctx, q, (*Job).fields, jobWithBody+` WHERE j.workspace_id = $1 AND j.name = $2`, workspaceID, name)
}

// JobByID finds a job by its id. ErrNotFound.
func (q reads) JobByID(ctx context.Context, id string) (Job, error) {
	return one(ctx, q, (*Job).fields, jobWithBody+` WHERE j.id = $1`, id)
}

// JobRow is JobByID without the body, for the many calls that ask only how a job is.
func (q reads) JobRow(ctx context.Context, id string) (Job, error) {
	return one(ctx, q, (*Job).rowFields, `SELECT `+jobColumns+` FROM jobs j WHERE j.id = $1`, id)
}

// JobFilter picks jobs of a workspace. Empty fields pick all.
type JobFilter struct {
	States          []workspace.State
	ComputeID       string
	Experiment      string
	JobType         string
	ParentID        string
	IncludeArchived bool
	OnlyArchived    bool
	WithBody        bool // read Doc, Spec and LogInline too
}

// Jobs lists jobs of a workspace, newest first. The cursor is the id of the last job seen. However many jobs there are,
// a page costs what it holds, since every filter on state and compute has an index in the order of the list.
func (q reads) Jobs(ctx context.Context, workspaceID string, f JobFilter, p Page) ([]Job, error) {
	query, args := f.query(workspaceID, p)
	if f.WithBody {
		return many(ctx, q, (*Job).fields, query, args...)
	}
	return many(ctx, q, (*Job).rowFields, query, args...)
}

// query asks once for each state, archived or not, and takes the newest of all: an index has one ordered walk for one
// state, and sorting 100,000 finished jobs takes long.
func (f JobFilter) query(workspaceID string, p Page) (string, []any) {
	states := f.States
	if len(states) == 0 && f.ComputeID != "" {
		states = workspace.States() // the index on computes has the state before the id
	}
	args := []any{workspaceID}
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	var where []string
	if f.ComputeID == "" { // a compute is of one workspace; without this there is no doubt which index is best
		where = append(where, `workspace_id = $1`)
	}
	for _, c := range []struct{ column, value string }{
		{`compute_id`, f.ComputeID}, {`experiment`, f.Experiment}, {`job_type`, f.JobType}, {`parent_id`, f.ParentID},
	} {
		if c.value != "" {
			where = append(where, c.column+` = `+arg(c.value))
		}
	}
	if f.ParentID != "" {
		where = append(where, `parent_id <> ''`) // lets the partial index serve
	}
	if p.After != "" {
		where = append(where, `id < `+arg(p.After))
	}
	limit := arg(p.limit())
	newest := func(where []string) string {
		return `SELECT id FROM jobs WHERE ` + strings.Join(where, ` AND `) + ` ORDER BY id DESC LIMIT ` + limit
	}
	archived := []string{`archived = 0`, `archived = 1`}
	switch {
	case f.OnlyArchived:
		archived = archived[1:]
	case !f.IncludeArchived:
		archived = archived[:1]
	}
	var arms []string
	for _, a := range archived {
		of := append(where[:len(where):len(where)], a)
		if len(states) == 0 {
			arms = append(arms, newest(of))
		}
		for _, s := range states {
			arms = append(arms, newest(append(of[:len(of):len(of)], `state = `+arg(string(s)))))
		}
	}
	ids := arms[0]
	if len(arms) > 1 {
		for i, a := range arms {
			arms[i] = `SELECT id FROM (` + a + `) AS a` + strconv.Itoa(i)
		}
		ids = strings.Join(arms, ` UNION ALL `)
	}
	columns, body := jobColumns, ``
	if f.WithBody {
		columns, body = jobColumns+bodyColumns, ` JOIN job_bodies b ON b.job_id = j.id`
	}
	// The sum keeps an index on the workspace from being tried: the ids are few and lead straight to their rows.
	return `SELECT ` + columns + ` FROM jobs j` + body + ` WHERE j.workspace_id || '' = $1 AND j.id IN (` + ids + `) ORDER BY j.id DESC LIMIT ` + limit, args
}

// CountActive counts the jobs of a compute that have not ended.
func (q reads) CountActive(ctx context.Context, computeID string) (int, error) {
	return one(ctx, q, scalar[int], `SELECT count(*) FROM jobs
		WHERE compute_id = $1 AND state IN ('NotStarted', 'Queued', 'Starting', 'Preparing', 'Running', 'Finalizing', 'CancelRequested', 'NotResponding')`, computeID)
}

// InsertJob adds a job with its body. ErrExists if its name in the workspace, or its id, is taken. Wish, Phase, Attempt
// and Generation get their first values when they are zero.
func (tx *Tx) InsertJob(ctx context.Context, j Job) error {
	if j.Wish == "" {
		j.Wish = WishRun
	}
	if j.Phase == "" {
		j.Phase = Accepted
	}
	if j.State == "" {
		j.State = workspace.NotStarted
	}
	j.Attempt = max(j.Attempt, 1)
	j.Generation = max(j.Generation, 1)
	err := tx.insert(ctx, `INSERT INTO jobs (id, workspace_id, name, compute_id, experiment, display_name, job_type, state, reason, position,
		wish, phase, priority, attempt, ref, exit_code, error, gpus, created, submitted, started, ended, due,
		failures, generation, observed_generation, log_size, created_by, parent_id, archived, tags, properties, compute_name)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23,
		$24, $25, $26, $27, $28, $29, $30, $31, $32, $33) ON CONFLICT DO NOTHING`,
		j.ID, j.WorkspaceID, j.Name, j.ComputeID, j.Experiment, j.DisplayName, j.JobType, string(j.State), problemText(j.Reason), j.Position,
		string(j.Wish), string(j.Phase), j.Priority, j.Attempt, j.Ref, j.ExitCode, problemText(j.Error), j.GPUs, j.Created, j.Submitted, j.Started, j.Ended, j.Due,
		j.Failures, j.Generation, j.ObservedGeneration, j.LogSize, j.CreatedBy, j.ParentID, bit(j.Archived), text(j.Tags), text(j.Properties), j.ComputeName)
	if err != nil {
		return err
	}
	_, err = tx.r.exec(ctx, `INSERT INTO job_bodies (job_id, doc, spec, log_inline) VALUES ($1, $2, $3, $4)`,
		j.ID, text(j.Doc), text(j.Spec), j.LogInline)
	return err
}

// Guard is the lease under which a job is written.
type Guard struct {
	ComputeID string
	Holder    string
	Epoch     int64
}

const terminal = `('Completed', 'Failed', 'Canceled')`

// UpdateJob writes what was seen of a job, in one guarded statement. changed is false, and nothing is written, when the
// guard is stale, the job is not of the guard's compute or is gone, or it has ended in another state: the caller drops
// its result.
//
// When a wish came after j was read (the generation rose), the wish's Due stays, and the state is written only if it is
// terminal: the caller sees the job again at once.
func (tx *Tx) UpdateJob(ctx context.Context, j Job, g Guard) (changed bool, err error) {
	n, err := tx.r.exec(ctx, updateJob+` AND compute_id = $19
		AND (state NOT IN `+terminal+` OR state = $3)
		AND EXISTS (SELECT 1 FROM leases l WHERE l.compute_id = $19 AND l.holder = $20 AND l.epoch = $21`+tx.d.share+`)`,
		append(j.seen(), g.ComputeID, g.Holder, g.Epoch)...)
	if err != nil || n == 0 {
		return false, err
	}
	return true, tx.keepLog(ctx, j)
}

// ForceJob writes what UpdateJob writes, without a lease: for a job whose compute will never answer. It counts as a
// wish, so a holder's older view does not undo it. ErrNotFound.
func (tx *Tx) ForceJob(ctx context.Context, j Job) error {
	if err := tx.change(ctx, updateJob, j.seen()...); err != nil {
		return err
	}
	if err := tx.change(ctx, `UPDATE jobs SET generation = generation + 1 WHERE id = $1`, j.ID); err != nil {
		return err
	}
	return tx.keepLog(ctx, j)
}

// updateJob is the statement without its guard; $1 to $18 are what seen gives.
const updateJob = `UPDATE jobs SET
		state = CASE WHEN generation <> $2 AND $3 NOT IN ` + terminal + ` THEN state ELSE $3 END,
		due = CASE WHEN generation <> $2 THEN due ELSE $4 END,
		reason = $5, position = $6, phase = $7, attempt = $8, ref = $9, exit_code = $10, error = $11, submitted = $12, started = $13,
		ended = $14, failures = $15, observed_generation = $16, log_size = $17, gpus = $18
		WHERE id = $1`

func (j *Job) seen() []any {
	return []any{
		j.ID, j.Generation, string(j.State), j.Due, problemText(j.Reason), j.Position, string(j.Phase), j.Attempt, j.Ref, j.ExitCode,
		problemText(j.Error), j.Submitted, j.Started, j.Ended, j.Failures, j.ObservedGeneration, j.LogSize, j.GPUs,
	}
}

func (tx *Tx) keepLog(ctx context.Context, j Job) error {
	if j.LogInline == nil {
		return nil
	}
	return tx.change(ctx, `UPDATE job_bodies SET log_inline = $2 WHERE job_id = $1`, j.ID, j.LogInline)
}

// WishCancel wishes that a job be cancelled: it shows CancelRequested and is due at once. changed is false when it has
// ended or the wish stands already. ErrNotFound.
func (tx *Tx) WishCancel(ctx context.Context, id string) (changed bool, err error) {
	n, err := tx.r.exec(ctx, `UPDATE jobs SET wish = 'cancel', state = 'CancelRequested', generation = generation + 1, due = $2
		WHERE id = $1 AND wish <> 'cancel' AND state NOT IN `+terminal, id, tx.s.clock.Millis())
	if err != nil || n > 0 {
		return n > 0, err
	}
	_, err = tx.JobRow(ctx, id)
	return false, err
}

// DescribeJob writes DisplayName, Experiment, Tags, Properties and Archived. ErrNotFound.
func (tx *Tx) DescribeJob(ctx context.Context, j Job) error {
	return tx.change(ctx, `UPDATE jobs SET display_name = $2, experiment = $3, tags = $4, properties = $5, archived = $6 WHERE id = $1`,
		j.ID, j.DisplayName, j.Experiment, text(j.Tags), text(j.Properties), bit(j.Archived))
}

// DeleteJob removes a job with its body and its files (the rows; bytes are left to the sweep). A job
// that has not ended is refused. ErrNotFound.
func (tx *Tx) DeleteJob(ctx context.Context, id string) error {
	j, err := tx.JobRow(ctx, id)
	if err != nil {
		return err
	}
	if !j.State.Terminal() {
		return &workspace.Problem{
			Class: workspace.Conflict, Code: "JobActive", Target: j.Name,
			Message: fmt.Sprintf("job %q has not ended", j.Name), Mend: "cancel it first, or abandon it when its compute is gone for good",
		}
	}
	for _, statement := range []string{
		`DELETE FROM job_bodies WHERE job_id = $1`, `DELETE FROM job_files WHERE job_id = $1`,
	} {
		if _, err := tx.r.exec(ctx, statement, id); err != nil {
			return err
		}
	}
	return tx.change(ctx, `DELETE FROM jobs WHERE id = $1`, id)
}
