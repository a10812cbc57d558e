package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// flowOf is the definition of a file dataset of one path, as the client writes it (azureml-v1.md §21.1).
func flowOf(address string) string {
	quoted, err := json.Marshal(address)
	if err != nil {
		panic("control: a text cannot be encoded: " + err.Error())
	}
	b, err := json.Marshal(map[string]any{
		"blocks": []any{}, "meta": map[string]string{"RsDataflow": "---\ntype: mltable\npaths:\n  - pattern: " + string(quoted) + "\nmetadata:\n  infer_column_types: \"False\"\n"},
	})
	if err != nil {
		panic("control: a definition of ours cannot be encoded: " + err.Error())
	}
	return string(b)
}

// RegisterOutputs registers the outputs of a run whose job has ended well, as its definition demands, in the transaction that
// writes the end. Their definitions were kept when the run was accepted. Package reconcile is handed it.
func (c *Control) RegisterOutputs(ctx context.Context, tx *store.Tx, job store.Job) error {
	if job.State != workspace.Completed {
		return nil
	}
	var spec workspace.JobSpec
	if err := json.Unmarshal(job.Spec, &spec); err != nil {
		return fmt.Errorf("control: spec of job %s: %w", job.ID, err)
	}
	return c.registerOutputs(ctx, tx, job.WorkspaceID, job.CreatedBy, spec.Datasets)
}

// RegisterRunOutputs does the same for a run without a job, at its own word: its definition says what there is to register.
func (c *Control) RegisterRunOutputs(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) error {
	run, err := c.Store.HistoryRun(ctx, ws.ID, name)
	if err != nil {
		return notFound(err, "run", name)
	}
	if run.Run.Job || len(run.Record.Definition) == 0 {
		return invalid("NotALocalRun", "run", "run "+quote(name)+" does not run on its user's own computer", "", "leave its outputs to the server")
	}
	d, err := parseRunDefinition(run.Record.Definition)
	if err != nil {
		return err
	}
	var out runData
	for _, output := range slices.Sorted(maps.Keys(d.OutputData)) {
		if err := c.dataOutput(ctx, p, ws, name, output, d.OutputData[output], &out); err != nil {
			return err
		}
	}
	return c.Store.Write(ctx, func(tx *store.Tx) error { return c.registerOutputs(ctx, tx, ws.ID, run.UserID, out.datasets) })
}

// registerOutputs makes a version of each dataset, unless its newest is of the same place.
func (c *Control) registerOutputs(ctx context.Context, tx *store.Tx, workspaceID, user string, list []workspace.DatasetSpec) error {
	for _, d := range list {
		last, err := tx.LatestDocument(ctx, workspaceID, datasets, d.Name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && last.Hash == d.Definition {
			continue
		}
		body, err := json.Marshal(Dataset{Description: d.Description, Tags: d.Tags})
		if err != nil {
			return fmt.Errorf("control: dataset %s: %w", d.Name, err)
		}
		now := c.Clock.Millis()
		doc := store.Document{
			WorkspaceID: workspaceID, Collection: datasets, Name: d.Name, Body: body, Hash: d.Definition, Created: now, Modified: now, CreatedBy: user, ModifiedBy: user,
		}
		if _, err := insertDataset(ctx, tx, doc, true); err != nil {
			return err
		}
	}
	return nil
}

// lineage is a dataset that a run read or made, as the client finds it in the run (azureml-v1.md §21.3).
type lineage struct {
	Identifier struct {
		SavedID           string  `json:"savedId"`
		RegisteredID      *string `json:"registeredId"`
		RegisteredVersion *string `json:"registeredVersion"`
	} `json:"identifier"`
	ConsumptionType string         `json:"consumptionType,omitempty"`
	InputDetails    *inputDetails  `json:"inputDetails,omitempty"`
	OutputType      string         `json:"outputType,omitempty"`
	OutputDetails   *outputDetails `json:"outputDetails,omitempty"`
}

type inputDetails struct {
	InputName     string  `json:"inputName"`
	Mechanism     string  `json:"mechanism"` // Mount, Download, Direct
	PathOnCompute *string `json:"pathOnCompute"`
}

type outputDetails struct {
	OutputName string `json:"outputName"`
	Mechanism  string `json:"mechanism"` // Mount, Upload
}

func readOf(name, mechanism, at string, set inputSet) lineage {
	l := lineage{ConsumptionType: "RunInput", InputDetails: &inputDetails{InputName: name, Mechanism: capital(mechanism), PathOnCompute: orNil(at)}}
	l.Identifier.SavedID, l.Identifier.RegisteredID, l.Identifier.RegisteredVersion = set.saved, orNil(set.dataset), orNil(set.version)
	return l
}

func madeBy(name, mechanism, saved string) lineage {
	l := lineage{OutputType: "RunOutput", OutputDetails: &outputDetails{OutputName: name, Mechanism: capital(mechanism)}}
	l.Identifier.SavedID = saved
	return l
}

func capital(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

func orNil(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
