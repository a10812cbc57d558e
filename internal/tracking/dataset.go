package tracking

import (
	"context"

	"github.com/moorage-ml/moorage/internal/store"
)

// LogInputs records datasets and models that an active run read.
func (t *Tracking) LogInputs(ctx context.Context, s Scope, runID string, datasets []store.DatasetInput, models []store.RunModel) error {
	if len(datasets) > maxDatasets || len(models) > maxModels {
		return invalid("datasets", "one call may log at most %d datasets and %d models", maxDatasets, maxModels)
	}
	for i := range datasets {
		if err := checkDataset(&datasets[i]); err != nil {
			return err
		}
	}
	return t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, runID)
		if err != nil {
			return err
		}
		for _, d := range datasets {
			if err := tx.AddDatasetInput(ctx, run, d); err != nil {
				return err
			}
		}
		return tx.AddRunModels(ctx, run.Number, store.ModelInput, models)
	})
}

// LogOutputs records models that an active run made.
func (t *Tracking) LogOutputs(ctx context.Context, s Scope, runID string, models []store.RunModel) error {
	if len(models) > maxModels {
		return invalid("models", "one call may log at most %d models", maxModels)
	}
	return t.store.Write(ctx, func(tx *store.Tx) error {
		run, err := s.activeRun(ctx, tx, runID)
		if err != nil {
			return err
		}
		return tx.AddRunModels(ctx, run.Number, store.ModelOutput, models)
	})
}

func checkDataset(in *store.DatasetInput) error {
	d := in.Dataset
	for _, f := range []struct {
		name, text string
		limit      int
		required   bool
	}{
		{"name", d.Name, maxDatasetName, true},
		{"digest", d.Digest, maxDatasetDigest, true},
		{"source_type", d.SourceType, maxDatasetName, true},
		{"source", d.Source, maxDatasetSource, true},
		{"schema", d.Schema, maxDatasetSchema, false},
		{"profile", d.Profile, maxDatasetProfile, false},
	} {
		if f.required && f.text == "" {
			return missing("datasets.dataset." + f.name)
		}
		if err := checkLength("datasets.dataset."+f.name, f.text, f.limit); err != nil {
			return err
		}
	}
	for _, l := range in.Tags {
		if l.Key == "" {
			return missing("datasets.tags.key")
		}
		if err := checkLength("datasets.tags.key", l.Key, maxInputTagKey); err != nil {
			return err
		}
		if err := checkLength("datasets.tags.value", l.Value, maxInputTagValue); err != nil {
			return err
		}
	}
	return nil
}

// maxSummaries bounds one answer of Datasets, as MLflow's server does.
const maxSummaries = 1000

// Datasets lists the datasets that active runs of the experiments used.
func (t *Tracking) Datasets(ctx context.Context, s Scope, experiments []int64) ([]store.DatasetSummary, error) {
	for _, id := range experiments {
		if err := s.allow(id); err != nil {
			return nil, err
		}
	}
	return t.store.DatasetSummaries(ctx, s.WorkspaceID, experiments, maxSummaries)
}
