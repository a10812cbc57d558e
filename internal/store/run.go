package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
)

// Run is a tracked record. ID is the client's, unique in the workspace; Number is ours, and what its details hang on.
type Run struct {
	Number       int64
	WorkspaceID  string
	ID           string
	ExperimentID int64
	Job          bool   // a job of the same name moves its status; else its client does
	ParentID     string // the id of the run above, empty for a root
	Name         string
	UserID       string
	Status       string // MLflow's words: RUNNING, SCHEDULED, FINISHED, FAILED, KILLED
	Stage        string
	Start        int64 // milliseconds since the epoch
	End          int64 // 0 while it runs
}

// RunQuery is one page of a search for runs.
type RunQuery struct {
	WorkspaceID string
	Experiments []int64
	Conditions  []Condition
	Orders      []Order
	Stage       string // empty: both
	Under       string // restricts to the run of this id and its descendants
	// ArtifactBase is what the URL of an artifact in the server's own store begins with; it is needed for conditions
	// and orders on artifact_uri only.
	ArtifactBase string
	Offset       int
	Limit        int
}

const runColumns = `r.number, r.workspace_id, r.id, r.experiment_id, r.job, r.parent_id, r.name, r.user_id, r.status, r.stage, r.start_time, COALESCE(r.end_time, 0)`

func runFields(r *Run) []any {
	return []any{&r.Number, &r.WorkspaceID, &r.ID, &r.ExperimentID, &r.Job, &r.ParentID, &r.Name, &r.UserID, &r.Status, &r.Stage, &r.Start, &r.End}
}

func orNull(ms int64) any {
	if ms == 0 {
		return nil
	}
	return ms
}

// InsertRun stores a run and gives its number. A taken id is ErrExists.
func (tx *Tx) InsertRun(ctx context.Context, r Run) (int64, error) {
	for range draws {
		number, err := tx.drawNumber()
		if err != nil {
			return 0, err
		}
		n, err := tx.r.exec(ctx, `
			INSERT INTO runs (number, workspace_id, id, experiment_id, job, parent_id, name, user_id, status, stage, start_time, end_time)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
			number, r.WorkspaceID, r.ID, r.ExperimentID, bit(r.Job), r.ParentID, r.Name, r.UserID, r.Status, r.Stage, r.Start, orNull(r.End))
		if err != nil || n == 1 {
			return number, err
		}
		if _, err := tx.Run(ctx, r.WorkspaceID, r.ID); !errors.Is(err, ErrNotFound) {
			return 0, cmp.Or(err, ErrExists)
		}
	}
	return 0, ErrExists
}

// UpdateRun writes everything of a run that can change: job, parent, name, status, stage and times.
func (tx *Tx) UpdateRun(ctx context.Context, r Run) error {
	return tx.change(ctx, `
		UPDATE runs SET job = $2, parent_id = $3, name = $4, status = $5, stage = $6, start_time = $7, end_time = $8 WHERE number = $1`,
		r.Number, bit(r.Job), r.ParentID, r.Name, r.Status, r.Stage, r.Start, orNull(r.End))
}

// SetRunsStage moves every run of an experiment to a stage.
func (tx *Tx) SetRunsStage(ctx context.Context, workspaceID string, experiment int64, stage string) error {
	_, err := tx.r.exec(ctx, `UPDATE runs SET stage = $3 WHERE workspace_id = $1 AND experiment_id = $2 AND stage <> $3`, workspaceID, experiment, stage)
	return err
}

// Run is the run of that id, or ErrNotFound.
func (q reads) Run(ctx context.Context, workspaceID, id string) (Run, error) {
	return one(ctx, q, runFields, `SELECT `+runColumns+` FROM runs r WHERE r.workspace_id = $1 AND r.id = $2`, workspaceID, id)
}

// RunUnder tells whether a run lies in the tree whose top is another run of the workspace, or is that run.
func (q reads) RunUnder(ctx context.Context, workspaceID, id, top string) (bool, error) {
	if id == top {
		return true, nil
	}
	// UNION, not UNION ALL: parents are clients' tags and may form a ring.
	_, err := one(ctx, q, scalar[int64], `
		WITH RECURSIVE above (id) AS (
			SELECT parent_id FROM runs WHERE workspace_id = $1 AND id = $2
			UNION
			SELECT runs.parent_id FROM runs JOIN above ON runs.id = above.id WHERE runs.workspace_id = $1 AND above.id <> $3)
		SELECT 1 FROM above WHERE id = $3 LIMIT 1`, workspaceID, id, top)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// SearchRuns gives one page of the runs that meet every condition, without their details.
func (q reads) SearchRuns(ctx context.Context, query RunQuery) ([]Run, error) {
	if len(query.Experiments) == 0 {
		return nil, nil
	}
	text := &sqlText{dialect: q.d}
	ws := text.arg(query.WorkspaceID)
	if query.Under != "" {
		fmt.Fprintf(text, "WITH RECURSIVE under (id) AS (%s) ", text.tree(query.Under, ws))
	}
	fmt.Fprintf(text, "SELECT %s FROM runs r", runColumns)
	order := text.runOrder(query)
	fmt.Fprintf(text, " WHERE r.workspace_id = %s AND r.experiment_id", ws)
	if len(query.Experiments) == 1 {
		fmt.Fprintf(text, " = %s", text.arg(query.Experiments[0]))
	} else {
		fmt.Fprintf(text, " IN %s", q.d.numbers(text.arg(jsonList(query.Experiments))))
	}
	if query.Stage != "" {
		fmt.Fprintf(text, " AND r.stage = %s", text.arg(query.Stage))
	}
	if query.Under != "" {
		text.WriteString(" AND r.id IN (SELECT id FROM under)")
	}
	for _, c := range query.Conditions {
		text.WriteString(" AND " + text.runCondition(c, query.ArtifactBase))
	}
	fmt.Fprintf(text, " ORDER BY %s LIMIT %d OFFSET %d", order, query.Limit, query.Offset)
	return many(ctx, reads{once{q.r}, q.d}, runFields, text.String(), text.args...)
}

// runAttribute is the expression of an attribute of the filter grammar.
func (q *sqlText) runAttribute(key, artifactBase string) string {
	switch key {
	case "run_id":
		return "r.id"
	case "run_name":
		return "r.name"
	case "artifact_uri":
		return fmt.Sprintf(`(
			(SELECT CASE WHEN e.artifact_location = '' THEN CAST(%s AS TEXT) || CAST(e.id AS TEXT) ELSE e.artifact_location END
			FROM experiments e WHERE e.workspace_id = r.workspace_id AND e.id = r.experiment_id) || '/' || r.id || '/artifacts')`, q.arg(artifactBase))
	}
	return "r." + key // user_id, status, start_time, end_time
}

func (q *sqlText) runCondition(c Condition, artifactBase string) string {
	switch c.Field {
	case Series:
		of := "EXISTS (SELECT 1 FROM run_series s WHERE s.run = r.number AND s.key = " + q.arg(c.Key)
		if c.Operator == NotEqual {
			return of + " AND (s.nan = 1 OR " + q.compareNumber("s.value", c) + "))"
		}
		return of + " AND s.nan = 0 AND " + q.compareNumber("s.value", c) + ")"
	case Param:
		return q.labelled("EXISTS (SELECT 1 FROM run_params p WHERE p.run = r.number AND p.key = "+q.arg(c.Key), "p.value", c)
	case Tag:
		return q.labelled("EXISTS (SELECT 1 FROM run_tags t WHERE t.run = r.number AND t.key = "+q.arg(c.Key), "t.value", c)
	case Dataset:
		if c.Key == "context" {
			return q.labelled("EXISTS (SELECT 1 FROM run_dataset_tags d WHERE d.run = r.number AND d.key = 'mlflow.data.context'", "d.value", c)
		}
		return q.labelled("EXISTS (SELECT 1 FROM run_datasets rd JOIN datasets d ON d.number = rd.dataset WHERE rd.run = r.number", "d."+c.Key, c)
	}
	if c.Numeric {
		return q.compareNumber(q.runAttribute(c.Key, artifactBase), c)
	}
	return q.compareText(q.runAttribute(c.Key, artifactBase), c)
}

// runOrder adds the joins that the orders need and gives the ORDER BY list: missing values last in both directions,
// NaN after the numbers and before the missing ones, then the newest, then the id.
func (q *sqlText) runOrder(query RunQuery) string {
	var list strings.Builder
	for i, o := range query.Orders {
		var value, table string
		switch o.Field {
		case Series:
			table, value = "run_series", fmt.Sprintf("o%d.value", i)
			list.WriteString(fmt.Sprintf("CASE WHEN o%d.run IS NULL THEN 2 ELSE o%d.nan END, ", i, i))
		case Param, Tag:
			table = map[Field]string{Param: "run_params", Tag: "run_tags"}[o.Field]
			value = q.dialect.sorted(fmt.Sprintf("o%d.value", i))
			list.WriteString(fmt.Sprintf("CASE WHEN o%d.run IS NULL THEN 1 ELSE 0 END, ", i))
		default:
			value = q.runAttribute(o.Key, query.ArtifactBase)
			if !o.Numeric {
				value = q.dialect.sorted(value)
			}
			if o.Key == "end_time" {
				list.WriteString("CASE WHEN r.end_time IS NULL THEN 1 ELSE 0 END, ")
			}
		}
		if table != "" {
			fmt.Fprintf(q, " LEFT JOIN %s o%d ON o%d.run = r.number AND o%d.key = %s", table, i, i, i, q.arg(o.Key))
		}
		list.WriteString(value + " " + o.direction() + ", ")
	}
	return list.String() + "r.start_time DESC, " + "r.id"
}
