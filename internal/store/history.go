package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
)

// RunRecord is what Azure's run history knows of a run beyond Run: what its clients wrote and read back. A run that has a
// job keeps properties and hidden in the job's row.
type RunRecord struct {
	State      string // Azure's word for the status, e.g. "NotStarted"; it counts while Run.Status means the same
	Type       string // e.g. "azureml.scriptrun"
	Target     string
	Hidden     bool
	Properties map[string]string
	RunBody
}

// RunBody is what of a RunRecord is only shown.
type RunBody struct {
	Name       string          `json:"name,omitempty"`
	Script     string          `json:"script,omitempty"`
	Metric     string          `json:"metric,omitempty"` // the primary one
	TypeV2     json.RawMessage `json:"type_v2,omitempty"`
	From       json.RawMessage `json:"from,omitempty"`
	Definition json.RawMessage `json:"definition,omitempty"`
	Inputs     json.RawMessage `json:"inputs,omitempty"`
	Outputs    json.RawMessage `json:"outputs,omitempty"`
	Error      json.RawMessage `json:"error,omitempty"`
	Warnings   []RunWarning    `json:"warnings,omitempty"`
}

// RunWarning is something that a client wants people to know of a run.
type RunWarning struct {
	Source  string `json:"source"`
	Message string `json:"message"`
}

// HistoryRun is a run as Azure's run history shows it.
type HistoryRun struct {
	Run
	Experiment string // its name
	Record     RunRecord
	Tags       []Label
	Job        *Job // without its body; nil for a run without a job
}

// HistoryQuery is one page of a search.
type HistoryQuery struct {
	WorkspaceID string
	Experiment  *int64 // nil: all
	Parent      string // the runs directly below this one; empty: all
	Under       string // restricts to the run of this id and its descendants
	Filter      *Clause
	Orders      []HistoryOrder
	Newest      int64 // only runs up to this number; 0: all
	Offset      int
	Limit       int
}

// HistoryOrder is one entry of an order.
type HistoryOrder struct {
	Field      HistoryField
	Descending bool
}

// PutRunRecord writes the record of a run.
func (tx *Tx) PutRunRecord(ctx context.Context, run int64, r RunRecord) error {
	properties, err := json.Marshal(r.Properties)
	if err != nil {
		return fmt.Errorf("store: run record: %w", err)
	}
	body, err := json.Marshal(r.RunBody)
	if err != nil {
		return fmt.Errorf("store: run record: %w", err)
	}
	_, err = tx.r.exec(ctx, `
		INSERT INTO run_records (run, state, run_type, target, hidden, properties, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (run) DO UPDATE SET state = excluded.state, run_type = excluded.run_type, target = excluded.target,
			hidden = excluded.hidden, properties = excluded.properties, body = excluded.body`,
		run, r.State, r.Type, r.Target, bit(r.Hidden), string(properties), string(body))
	return err
}

const historyFrom = ` FROM runs r JOIN experiments e ON e.workspace_id = r.workspace_id AND e.id = r.experiment_id
	LEFT JOIN run_records v ON v.run = r.number
	LEFT JOIN jobs j ON r.job = 1 AND j.workspace_id = r.workspace_id AND j.name = r.id`

const historyColumns = runColumns + `, e.name, COALESCE(v.state, ''), COALESCE(v.run_type, ''), COALESCE(v.target, ''), COALESCE(v.hidden, 0),
	COALESCE(v.properties, ''), COALESCE(v.body, '')`

func historyFields(h *HistoryRun) []any {
	return append(runFields(&h.Run), &h.Experiment, &h.Record.State, &h.Record.Type, &h.Record.Target, &h.Record.Hidden,
		decoded[map[string]string]{&h.Record.Properties}, decoded[RunBody]{&h.Record.RunBody})
}

// HistoryRun is the run of that id with all that the history shows, or ErrNotFound.
func (q reads) HistoryRun(ctx context.Context, workspaceID, id string) (HistoryRun, error) {
	list, err := many(ctx, q, historyFields, `SELECT `+historyColumns+historyFrom+` WHERE r.workspace_id = $1 AND r.id = $2`, workspaceID, id)
	if err != nil {
		return HistoryRun{}, err
	}
	if len(list) == 0 {
		return HistoryRun{}, ErrNotFound
	}
	return list[0], q.completeHistory(ctx, list)
}

// HistoryRuns gives one page of the active runs that meet the filter.
func (q reads) HistoryRuns(ctx context.Context, query HistoryQuery) ([]HistoryRun, error) {
	text := &sqlText{dialect: q.d}
	ws := text.arg(query.WorkspaceID)
	if query.Under != "" {
		fmt.Fprintf(text, "WITH RECURSIVE under (id) AS (%s) ", text.tree(query.Under, ws))
	}
	text.WriteString("SELECT " + historyColumns + historyFrom)
	fmt.Fprintf(text, " WHERE r.workspace_id = %s AND r.stage = %s", ws, text.arg(StageActive))
	if query.Experiment != nil {
		fmt.Fprintf(text, " AND r.experiment_id = %s", text.arg(*query.Experiment))
	}
	if query.Parent != "" {
		// The empty parent is named for the sake of the partial index.
		fmt.Fprintf(text, " AND r.parent_id = %s AND r.parent_id <> ''", text.arg(query.Parent))
	}
	if query.Under != "" {
		text.WriteString(" AND r.id IN (SELECT id FROM under)")
	}
	if query.Newest != 0 {
		fmt.Fprintf(text, " AND r.number <= %s", text.arg(query.Newest))
	}
	if query.Filter != nil {
		text.WriteString(" AND " + text.clause(*query.Filter, ws))
	}
	text.WriteString(" ORDER BY ")
	for _, o := range query.Orders {
		text.WriteString(o.sql(q.d))
	}
	fmt.Fprintf(text, "r.number DESC LIMIT %d OFFSET %d", query.Limit, query.Offset)
	list, err := many(ctx, reads{once{q.r}, q.d}, historyFields, text.String(), text.args...)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(list); i += pageRows {
		if err := q.completeHistory(ctx, list[i:min(i+pageRows, len(list))]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// sql is the order in an ORDER BY list. What has no value comes last in both directions.
func (o HistoryOrder) sql(d *dialect) string {
	value, direction := historyExpr[o.Field], Order{Descending: o.Descending}.direction()
	switch o.Field {
	case HistoryCreated:
		return "r.number " + direction + ", "
	case HistoryStarted:
		return value + " " + direction + ", "
	case HistoryID, HistoryName, HistoryUser:
		return d.sorted(value) + " " + direction + ", "
	case HistoryEnded:
	default:
		value = d.sorted(value)
	}
	return "CASE WHEN " + value + " IS NULL THEN 1 ELSE 0 END, " + value + " " + direction + ", "
}

// tree is a query for a run and all below it.
func (q *sqlText) tree(top, ws string) string {
	return "SELECT CAST(" + q.arg(top) + " AS TEXT) UNION SELECT runs.id FROM runs JOIN under ON runs.parent_id = under.id WHERE runs.workspace_id = " + ws + " AND runs.parent_id <> ''"
}

// completeHistory adds tags and jobs to runs of one workspace.
func (q reads) completeHistory(ctx context.Context, list []HistoryRun) error {
	numbers, jobs := make([]int64, len(list)), []string{}
	for i, r := range list {
		numbers[i] = r.Number
		if r.Run.Job {
			jobs = append(jobs, r.ID)
		}
	}
	tags, err := q.labelsOf(ctx, "run_tags", numbers)
	if err != nil {
		return err
	}
	rows, err := q.jobsNamed(ctx, list[0].WorkspaceID, jobs)
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Tags, list[i].Job = tags[list[i].Number], rows[list[i].ID]
	}
	return nil
}

// jobsNamed gives jobs of a workspace without their bodies, by name.
func (q reads) jobsNamed(ctx context.Context, workspaceID string, names []string) (map[string]*Job, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out := make(map[string]*Job, len(names))
	err := each(ctx, q, func(rows *sql.Rows) error {
		j := new(Job)
		if err := rows.Scan(j.rowFields()...); err != nil {
			return err
		}
		out[j.Name] = j
		return nil
	}, `SELECT `+jobColumns+` FROM jobs j WHERE j.workspace_id = $1 AND j.name IN `+q.d.texts("$2"), workspaceID, jsonList(names))
	return out, err
}

// RunRoot is the id of the topmost run above a run, or of the run itself if there is none.
func (q reads) RunRoot(ctx context.Context, workspaceID, id string) (string, error) {
	// The depth ends what parents that form a ring would make endless.
	return one(ctx, q, scalar[string], `
		WITH RECURSIVE above (id, parent, depth) AS (
			SELECT id, parent_id, 0 FROM runs WHERE workspace_id = $1 AND id = $2
			UNION ALL
			SELECT runs.id, runs.parent_id, above.depth + 1 FROM runs JOIN above ON runs.id = above.parent
			WHERE runs.workspace_id = $1 AND above.parent <> '' AND above.depth < 100)
		SELECT id FROM above ORDER BY depth DESC LIMIT 1`, workspaceID, id)
}

// members is a table of a JSON object's keys and values.
func (d *dialect) members(expr string) string {
	if d == postgresDialect {
		return "json_each_text(CAST(" + expr + " AS json))"
	}
	return "json_each(" + expr + ")"
}

// quoted is a text as a literal of SQL; only words of ours are written so.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
