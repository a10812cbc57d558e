package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// The life stages of experiments and runs.
const (
	StageActive  = "active"
	StageDeleted = "deleted"
)

// Label is a key with a value: a tag or a param.
type Label struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Experiment groups runs. Its name is unique in its workspace among active and deleted ones together.
type Experiment struct {
	WorkspaceID      string
	ID               int64 // counted per workspace; 0 is Default
	Name             string
	ArtifactLocation string // empty: the server's own artifact store
	Stage            string
	Created          int64 // milliseconds since the epoch
	Updated          int64
	Tags             []Label // by key; InsertExperiment stores them, the reads fill them
}

// ExperimentQuery is one page of a search.
type ExperimentQuery struct {
	WorkspaceID string
	Conditions  []Condition
	Orders      []Order
	Stage       string // empty: both
	Only        *int64 // restricts to one experiment
	Offset      int
	Limit       int
}

const experimentColumns = `e.workspace_id, e.id, e.name, e.artifact_location, e.stage, e.created, e.updated`

// InsertExperiment stores an experiment under the next id of its workspace and gives that id. A taken name is ErrExists.
func (tx *Tx) InsertExperiment(ctx context.Context, e Experiment) (int64, error) {
	// The first id is 1: 0 belongs to Default.
	id, err := one(ctx, tx.reads, scalar[int64], `
		INSERT INTO experiment_counters (workspace_id, next) VALUES ($1, 2)
		ON CONFLICT (workspace_id) DO UPDATE SET next = experiment_counters.next + 1
		RETURNING next - 1`, e.WorkspaceID)
	if err != nil {
		return 0, err
	}
	e.ID = id
	return e.ID, tx.insertExperiment(ctx, e)
}

// InsertDefaultExperiment stores the experiment Default with id 0, unless the workspace has it.
func (tx *Tx) InsertDefaultExperiment(ctx context.Context, workspaceID string, now int64) error {
	_, err := tx.Experiment(ctx, workspaceID, 0)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	err = tx.insertExperiment(ctx, Experiment{WorkspaceID: workspaceID, Name: "Default", Stage: StageActive, Created: now, Updated: now})
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

func (tx *Tx) insertExperiment(ctx context.Context, e Experiment) error {
	err := tx.insert(ctx, `
		INSERT INTO experiments (workspace_id, id, name, artifact_location, stage, created, updated)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		e.WorkspaceID, e.ID, e.Name, e.ArtifactLocation, e.Stage, e.Created, e.Updated)
	if err != nil {
		return err
	}
	return tx.SetExperimentTags(ctx, e.WorkspaceID, e.ID, e.Tags)
}

// UpdateExperiment writes name, stage and updated. A taken name is ErrExists.
func (tx *Tx) UpdateExperiment(ctx context.Context, e Experiment) error {
	other, err := tx.ExperimentByName(ctx, e.WorkspaceID, e.Name)
	if err == nil && other.ID != e.ID {
		return ErrExists
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return tx.change(ctx, `UPDATE experiments SET name = $3, stage = $4, updated = $5 WHERE workspace_id = $1 AND id = $2`,
		e.WorkspaceID, e.ID, e.Name, e.Stage, e.Updated)
}

// SetExperimentTags adds or replaces tags.
func (tx *Tx) SetExperimentTags(ctx context.Context, workspaceID string, id int64, tags []Label) error {
	for _, l := range tags {
		_, err := tx.r.exec(ctx, `
			INSERT INTO experiment_tags (workspace_id, experiment_id, key, value) VALUES ($1, $2, $3, $4)
			ON CONFLICT (workspace_id, experiment_id, key) DO UPDATE SET value = excluded.value`, workspaceID, id, l.Key, l.Value)
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteExperimentTag removes a tag and tells whether there was one.
func (tx *Tx) DeleteExperimentTag(ctx context.Context, workspaceID string, id int64, key string) (bool, error) {
	n, err := tx.r.exec(ctx, `DELETE FROM experiment_tags WHERE workspace_id = $1 AND experiment_id = $2 AND key = $3`, workspaceID, id, key)
	return n > 0, err
}

// Experiment is the experiment of that id, or ErrNotFound.
func (q reads) Experiment(ctx context.Context, workspaceID string, id int64) (Experiment, error) {
	return q.oneExperiment(ctx, `e.workspace_id = $1 AND e.id = $2`, workspaceID, id)
}

// ExperimentByName is the experiment of that name, active or deleted, or ErrNotFound.
func (q reads) ExperimentByName(ctx context.Context, workspaceID, name string) (Experiment, error) {
	return q.oneExperiment(ctx, `e.workspace_id = $1 AND e.name = $2`, workspaceID, name)
}

func (q reads) oneExperiment(ctx context.Context, where string, args ...any) (Experiment, error) {
	list, err := q.experiments(ctx, `SELECT `+experimentColumns+` FROM experiments e WHERE `+where, args...)
	if err != nil {
		return Experiment{}, err
	}
	if len(list) == 0 {
		return Experiment{}, ErrNotFound
	}
	return list[0], nil
}

// SearchExperiments gives one page of the experiments that meet every condition.
func (q reads) SearchExperiments(ctx context.Context, query ExperimentQuery) ([]Experiment, error) {
	text := &sqlText{dialect: q.d}
	fmt.Fprintf(text, "SELECT %s FROM experiments e WHERE e.workspace_id = %s", experimentColumns, text.arg(query.WorkspaceID))
	if query.Stage != "" {
		fmt.Fprintf(text, " AND e.stage = %s", text.arg(query.Stage))
	}
	if query.Only != nil {
		fmt.Fprintf(text, " AND e.id = %s", text.arg(*query.Only))
	}
	for _, c := range query.Conditions {
		text.WriteString(" AND " + text.experimentCondition(c))
	}
	text.WriteString(" ORDER BY ")
	for _, o := range query.Orders {
		column := experimentColumn[o.Key]
		if o.Key == "name" {
			column = text.dialect.sorted(column)
		}
		fmt.Fprintf(text, "%s %s, ", column, o.direction())
	}
	if len(query.Orders) == 0 {
		text.WriteString("e.created DESC, e.id ASC")
	} else {
		text.WriteString("e.id DESC")
	}
	fmt.Fprintf(text, " LIMIT %d OFFSET %d", query.Limit, query.Offset)
	return reads{once{q.r}, q.d}.experiments(ctx, text.String(), text.args...)
}

var experimentColumn = map[string]string{
	"name": "e.name", "experiment_id": "e.id", "creation_time": "e.created", "last_update_time": "e.updated",
}

func (q *sqlText) experimentCondition(c Condition) string {
	switch {
	case c.Field == Attribute && c.Numeric:
		return q.compareNumber(experimentColumn[c.Key], c)
	case c.Field == Attribute && c.Key == "experiment_id":
		return q.compareText("CAST(e.id AS TEXT)", c)
	case c.Field == Attribute:
		return q.compareText(experimentColumn[c.Key], c)
	}
	tag := fmt.Sprintf("EXISTS (SELECT 1 FROM experiment_tags t WHERE t.workspace_id = e.workspace_id AND t.experiment_id = e.id AND t.key = %s", q.arg(c.Key))
	return q.labelled(tag, "t.value", c)
}

// labelled ends an EXISTS over a table of labels.
func (q *sqlText) labelled(exists, value string, c Condition) string {
	switch c.Operator {
	case Missing:
		return "NOT " + exists + ")"
	case Present:
		return exists + ")"
	}
	return exists + " AND " + q.compareText(value, c) + ")"
}

func (q reads) experiments(ctx context.Context, text string, args ...any) ([]Experiment, error) {
	list, err := many(ctx, q, func(e *Experiment) []any {
		return []any{&e.WorkspaceID, &e.ID, &e.Name, &e.ArtifactLocation, &e.Stage, &e.Created, &e.Updated}
	}, text, args...)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(list); i += pageRows {
		if err := q.experimentTags(ctx, list[i:min(i+pageRows, len(list))]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// pageRows is how many rows' details are read by one statement.
const pageRows = 500

func (q reads) experimentTags(ctx context.Context, list []Experiment) error {
	at := make(map[int64]*Experiment, len(list))
	ids := make([]int64, len(list))
	for i := range list {
		ids[i], at[list[i].ID] = list[i].ID, &list[i]
	}
	text := `SELECT experiment_id, key, value FROM experiment_tags WHERE workspace_id = $1 AND experiment_id IN ` + q.d.numbers("$2") + ` ORDER BY experiment_id, key`
	return each(ctx, q, func(rows *sql.Rows) error {
		var id int64
		var l Label
		if err := rows.Scan(&id, &l.Key, &l.Value); err != nil {
			return err
		}
		at[id].Tags = append(at[id].Tags, l)
		return nil
	}, text, list[0].WorkspaceID, jsonList(ids))
}

// DeleteTracking removes all experiments and runs of a workspace.
func (tx *Tx) DeleteTracking(ctx context.Context, workspaceID string) error {
	const runs = `(SELECT number FROM runs WHERE workspace_id = $1)`
	for _, statement := range []string{
		`DELETE FROM run_metric_rows WHERE series IN (SELECT number FROM run_metrics WHERE run IN ` + runs + `)`,
		`DELETE FROM run_metric_chunks WHERE series IN (SELECT number FROM run_metrics WHERE run IN ` + runs + `)`,
		`DELETE FROM run_metrics WHERE run IN ` + runs,
		`DELETE FROM run_metric_batches WHERE run IN ` + runs,
		`DELETE FROM run_records WHERE run IN ` + runs,
		`DELETE FROM run_points WHERE series IN (SELECT number FROM run_series WHERE run IN ` + runs + `)`,
		`DELETE FROM run_series WHERE run IN ` + runs,
		`DELETE FROM run_params WHERE run IN ` + runs,
		`DELETE FROM run_tags WHERE run IN ` + runs,
		`DELETE FROM run_dataset_tags WHERE run IN ` + runs,
		`DELETE FROM run_datasets WHERE run IN ` + runs,
		`DELETE FROM run_models WHERE run IN ` + runs,
		`DELETE FROM runs WHERE workspace_id = $1`,
		`DELETE FROM datasets WHERE workspace_id = $1`,
		`DELETE FROM experiment_tags WHERE workspace_id = $1`,
		`DELETE FROM experiments WHERE workspace_id = $1`,
		`DELETE FROM experiment_counters WHERE workspace_id = $1`,
	} {
		if _, err := tx.r.exec(ctx, statement, workspaceID); err != nil {
			return err
		}
	}
	return nil
}
