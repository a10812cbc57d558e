package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// DatasetRow is a dataset that runs of an experiment used. Name and digest identify it in its experiment.
type DatasetRow struct {
	Name       string
	Digest     string
	SourceType string
	Source     string
	Schema     string
	Profile    string
}

// DatasetInput is one use of a dataset by a run.
type DatasetInput struct {
	Dataset DatasetRow
	Tags    []Label
}

// DatasetSummary is a dataset with one of the contexts ("train", "eval") in which runs used it; Context may be empty.
type DatasetSummary struct {
	ExperimentID int64
	Name         string
	Digest       string
	Context      string
}

// RunModel is a logged model that a run read or made.
type RunModel struct {
	ModelID string
	Step    int64
}

// The directions of a RunModel.
const (
	ModelInput  = "input"
	ModelOutput = "output"
)

// AddDatasetInput records that a run used a dataset. Repeating it adds nothing but tags.
func (tx *Tx) AddDatasetInput(ctx context.Context, run Run, in DatasetInput) error {
	number, err := tx.datasetNumber(ctx, run, in.Dataset)
	if err != nil {
		return err
	}
	if _, err = tx.r.exec(ctx, `INSERT INTO run_datasets (run, dataset) VALUES ($1, $2) ON CONFLICT DO NOTHING`, run.Number, number); err != nil {
		return err
	}
	for _, l := range in.Tags {
		_, err = tx.r.exec(ctx, `
			INSERT INTO run_dataset_tags (run, dataset, key, value) VALUES ($1, $2, $3, $4)
			ON CONFLICT (run, dataset, key) DO UPDATE SET value = excluded.value`, run.Number, number, l.Key, l.Value)
		if err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) datasetNumber(ctx context.Context, run Run, d DatasetRow) (int64, error) {
	const find = `SELECT number FROM datasets WHERE workspace_id = $1 AND experiment_id = $2 AND name = $3 AND digest = $4`
	for range draws {
		number, err := one(ctx, tx.reads, scalar[int64], find, run.WorkspaceID, run.ExperimentID, d.Name, d.Digest)
		if !errors.Is(err, ErrNotFound) {
			return number, err
		}
		if number, err = tx.drawNumber(); err != nil {
			return 0, err
		}
		n, err := tx.r.exec(ctx, `
			INSERT INTO datasets (number, workspace_id, experiment_id, name, digest, source_type, source, schema, profile)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			number, run.WorkspaceID, run.ExperimentID, d.Name, d.Digest, d.SourceType, d.Source, d.Schema, d.Profile)
		if err != nil || n == 1 {
			return number, err
		}
	}
	return 0, ErrExists
}

// AddRunModels records logged models that a run read or made.
func (tx *Tx) AddRunModels(ctx context.Context, run int64, direction string, models []RunModel) error {
	for _, m := range models {
		_, err := tx.r.exec(ctx, `
			INSERT INTO run_models (run, direction, model_id, step) VALUES ($1, $2, $3, $4)
			ON CONFLICT (run, direction, model_id) DO UPDATE SET step = excluded.step`, run, direction, m.ModelID, m.Step)
		if err != nil {
			return err
		}
	}
	return nil
}

// DatasetSummaries lists the datasets that active runs of the experiments used, at most limit.
func (q reads) DatasetSummaries(ctx context.Context, workspaceID string, experiments []int64, limit int) ([]DatasetSummary, error) {
	if len(experiments) == 0 {
		return nil, nil
	}
	return many(ctx, q, func(d *DatasetSummary) []any {
		return []any{&d.ExperimentID, &d.Name, &d.Digest, &d.Context}
	}, fmt.Sprintf(`
		SELECT DISTINCT d.experiment_id, d.name, d.digest, COALESCE(g.value, '')
		FROM datasets d JOIN run_datasets i ON i.dataset = d.number JOIN runs r ON r.number = i.run
		LEFT JOIN run_dataset_tags g ON g.run = i.run AND g.dataset = i.dataset AND g.key = 'mlflow.data.context'
		WHERE d.workspace_id = $1 AND d.experiment_id IN %s AND r.stage = 'active'
		ORDER BY 1, 2, 3, 4 LIMIT %d`, q.d.numbers("$2"), limit), workspaceID, jsonList(experiments))
}

// RunData is all that hangs on a run.
type RunData struct {
	Metrics  []Point // the latest of each, by key
	Params   []Label
	Tags     []Label
	Datasets []DatasetInput
	Inputs   []RunModel
	Outputs  []RunModel
}

// RunData reads the details of some hundred runs, by their numbers.
func (q reads) RunData(ctx context.Context, runs []int64) (map[int64]*RunData, error) {
	out := make(map[int64]*RunData, len(runs))
	if len(runs) == 0 {
		return out, nil
	}
	metrics, err := q.latestOf(ctx, runs)
	if err != nil {
		return nil, err
	}
	params, err := q.labelsOf(ctx, "run_params", runs)
	if err != nil {
		return nil, err
	}
	tags, err := q.labelsOf(ctx, "run_tags", runs)
	if err != nil {
		return nil, err
	}
	for _, n := range runs {
		out[n] = &RunData{Metrics: metrics[n], Params: params[n], Tags: tags[n]}
	}
	if err := q.datasetsOf(ctx, runs, out); err != nil {
		return nil, err
	}
	if err := q.modelsOf(ctx, runs, out); err != nil {
		return nil, err
	}
	return out, nil
}

// datasetsOf reads each dataset once, however many runs used it: its profile may be large.
func (q reads) datasetsOf(ctx context.Context, runs []int64, out map[int64]*RunData) error {
	type use struct{ run, dataset int64 }
	uses, err := many(ctx, q, func(u *use) []any { return []any{&u.run, &u.dataset} },
		`SELECT run, dataset FROM run_datasets WHERE run IN `+q.d.numbers("$1")+` ORDER BY run, dataset`, jsonList(runs))
	if err != nil || len(uses) == 0 {
		return err
	}
	sets := make(map[int64]DatasetRow)
	var distinct []int64
	for _, u := range uses {
		if _, known := sets[u.dataset]; !known {
			sets[u.dataset] = DatasetRow{}
			distinct = append(distinct, u.dataset)
		}
	}
	err = each(ctx, q, func(rows *sql.Rows) error {
		var n int64
		var d DatasetRow
		err := rows.Scan(&n, &d.Name, &d.Digest, &d.SourceType, &d.Source, &d.Schema, &d.Profile)
		sets[n] = d
		return err
	}, `SELECT number, name, digest, source_type, source, schema, profile FROM datasets WHERE number IN `+q.d.numbers("$1"), jsonList(distinct))
	if err != nil {
		return err
	}
	at := make(map[use]int, len(uses))
	for _, u := range uses {
		at[u] = len(out[u.run].Datasets)
		out[u.run].Datasets = append(out[u.run].Datasets, DatasetInput{Dataset: sets[u.dataset]})
	}
	return each(ctx, q, func(rows *sql.Rows) error {
		var u use
		var l Label
		if err := rows.Scan(&u.run, &u.dataset, &l.Key, &l.Value); err != nil {
			return err
		}
		if i, ok := at[u]; ok {
			in := &out[u.run].Datasets[i]
			in.Tags = append(in.Tags, l)
		}
		return nil
	}, `SELECT run, dataset, key, value FROM run_dataset_tags WHERE run IN `+q.d.numbers("$1")+` ORDER BY run, dataset, key`, jsonList(runs))
}

func (q reads) modelsOf(ctx context.Context, runs []int64, out map[int64]*RunData) error {
	return each(ctx, q, func(rows *sql.Rows) error {
		var run int64
		var direction string
		var m RunModel
		if err := rows.Scan(&run, &direction, &m.ModelID, &m.Step); err != nil {
			return err
		}
		if d := out[run]; direction == ModelInput {
			d.Inputs = append(d.Inputs, m)
		} else {
			d.Outputs = append(d.Outputs, m)
		}
		return nil
	}, `SELECT run, direction, model_id, step FROM run_models WHERE run IN `+q.d.numbers("$1")+` ORDER BY run, direction, step, model_id`, jsonList(runs))
}
