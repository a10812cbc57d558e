package mlflow

import (
	"math"
	"strconv"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
)

// The objects of mlflow.md §4. What is not set is left out.

type experimentJSON struct {
	ExperimentID     string        `json:"experiment_id"`
	Name             string        `json:"name"`
	ArtifactLocation string        `json:"artifact_location"`
	LifecycleStage   string        `json:"lifecycle_stage"`
	LastUpdateTime   int64         `json:"last_update_time"`
	CreationTime     int64         `json:"creation_time"`
	Tags             []store.Label `json:"tags,omitempty"`
}

func experimentOf(s tracking.Scope, e store.Experiment) experimentJSON {
	return experimentJSON{
		ExperimentID: strconv.FormatInt(e.ID, 10), Name: e.Name, ArtifactLocation: s.ArtifactLocation(e),
		LifecycleStage: e.Stage, LastUpdateTime: e.Updated, CreationTime: e.Created, Tags: e.Tags,
	}
}

type runJSON struct {
	Info    infoJSON    `json:"info"`
	Data    dataJSON    `json:"data"`
	Inputs  inputsJSON  `json:"inputs"`
	Outputs outputsJSON `json:"outputs"`
}

type infoJSON struct {
	RunID          string `json:"run_id"`
	RunUUID        string `json:"run_uuid"`
	RunName        string `json:"run_name"`
	ExperimentID   string `json:"experiment_id"`
	UserID         string `json:"user_id"`
	Status         string `json:"status"`
	StartTime      int64  `json:"start_time"`
	EndTime        int64  `json:"end_time,omitempty"`
	ArtifactURI    string `json:"artifact_uri"`
	LifecycleStage string `json:"lifecycle_stage"`
}

type dataJSON struct {
	Metrics []metricJSON  `json:"metrics,omitempty"`
	Params  []store.Label `json:"params,omitempty"`
	Tags    []store.Label `json:"tags,omitempty"`
}

type metricJSON struct {
	Key       string `json:"key"`
	Value     double `json:"value"`
	Timestamp int64  `json:"timestamp"`
	Step      int64  `json:"step"`
	RunID     string `json:"run_id,omitempty"`
}

type inputsJSON struct {
	Datasets []datasetInputJSON `json:"dataset_inputs,omitempty"`
	Models   []modelInputJSON   `json:"model_inputs,omitempty"`
}

type datasetInputJSON struct {
	Tags    []store.Label `json:"tags,omitempty"`
	Dataset datasetJSON   `json:"dataset"`
}

type datasetJSON struct {
	Name       string `json:"name"`
	Digest     string `json:"digest"`
	SourceType string `json:"source_type"`
	Source     string `json:"source"`
	Schema     string `json:"schema,omitempty"`
	Profile    string `json:"profile,omitempty"`
}

type modelInputJSON struct {
	ModelID string `json:"model_id"`
}

type outputsJSON struct {
	Models []modelOutputJSON `json:"model_outputs,omitempty"`
}

type modelOutputJSON struct {
	ModelID string  `json:"model_id"`
	Step    integer `json:"step"`
}

func infoOf(r tracking.CompleteRun) infoJSON {
	return infoJSON{
		RunID: r.ID, RunUUID: r.ID, RunName: r.Name, ExperimentID: strconv.FormatInt(r.ExperimentID, 10), UserID: r.UserID,
		Status: r.Status, StartTime: r.Start, EndTime: r.End, ArtifactURI: r.URI, LifecycleStage: r.Stage,
	}
}

func metricOf(p store.Point) metricJSON {
	m := metricJSON{Key: p.Key, Value: double(p.Value), Timestamp: p.Timestamp, Step: p.Step}
	if p.NaN {
		m.Value = double(math.NaN())
	}
	return m
}

func metricsOf(points []store.Point) []metricJSON {
	out := make([]metricJSON, len(points))
	for i, p := range points {
		out[i] = metricOf(p)
	}
	return out
}

func runOf(r tracking.CompleteRun) runJSON {
	out := runJSON{Info: infoOf(r), Data: dataJSON{Metrics: metricsOf(r.Data.Metrics), Params: r.Data.Params, Tags: r.Data.Tags}}
	for _, d := range r.Data.Datasets {
		out.Inputs.Datasets = append(out.Inputs.Datasets, datasetInputJSON{Tags: d.Tags, Dataset: datasetJSON(d.Dataset)})
	}
	for _, m := range r.Data.Inputs {
		out.Inputs.Models = append(out.Inputs.Models, modelInputJSON{m.ModelID})
	}
	for _, m := range r.Data.Outputs {
		out.Outputs.Models = append(out.Outputs.Models, modelOutputJSON{m.ModelID, integer(m.Step)})
	}
	return out
}

type fileJSON struct {
	Path     string `json:"path"`
	IsDir    bool   `json:"is_dir"`
	FileSize *int64 `json:"file_size,omitempty"` // folders have none
}

func filesOf(files []tracking.File) []fileJSON {
	out := make([]fileJSON, len(files))
	for i, f := range files {
		out[i] = fileJSON{Path: f.Path, IsDir: f.Folder}
		if !f.Folder {
			out[i].FileSize = &files[i].Size
		}
	}
	return out
}
