package tracking

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// tagNote is where MLflow keeps a run's or an experiment's description.
const tagNote = "mlflow.note.content"

// RunPatch is what a client of Azure's run history sends of a run. It makes the run if there is none of that id; nil and
// absent fields leave things as they are (azureml-v1.md §6.1).
type RunPatch struct {
	ID          string
	Parent      *string
	Status      *string // Azure's word
	Start, End  int64   // milliseconds since the epoch; 0: absent
	DisplayName *string
	Description *string
	Hidden      *bool
	Type        *string
	Target      *string
	Tags        map[string]string // added to those that there are, or in the place of the same
	Properties  map[string]string // added; they cannot change
	Body        store.RunBody     // its empty fields are absent
}

// PatchRun makes or changes a run of an experiment, which is named and made if need be, and gives the run as it is then.
// The status and the times of a job's run are the job's, and stay.
func (t *Tracking) PatchRun(ctx context.Context, s Scope, experiment, user string, p RunPatch) (store.HistoryRun, error) {
	list, err := t.PatchRuns(ctx, s, experiment, user, []RunPatch{p})
	if err != nil {
		return store.HistoryRun{}, err
	}
	return list[0], nil
}

// maxPatches bounds a batch: each run costs several statements of one transaction.
const maxPatches = 1000

// PatchRuns is PatchRun for several runs, all or none.
func (t *Tracking) PatchRuns(ctx context.Context, s Scope, experiment, user string, patches []RunPatch) ([]store.HistoryRun, error) {
	if len(patches) > maxPatches {
		return nil, invalid("runs", "one request may change at most %d runs, and this one has %d", maxPatches, len(patches))
	}
	for i := range patches {
		if err := patches[i].check(); err != nil {
			return nil, err
		}
	}
	list := make([]store.HistoryRun, len(patches))
	err := t.again(ctx, func(tx *store.Tx) error {
		for i, p := range patches {
			if err := t.patchRun(ctx, tx, s, experiment, user, p); err != nil {
				return err
			}
			run, err := tx.HistoryRun(ctx, s.WorkspaceID, p.ID)
			if err != nil {
				return err
			}
			list[i] = run
		}
		return nil
	})
	return list, err
}

// check refuses what no run can have.
func (p *RunPatch) check() error {
	switch {
	case p.ID == "":
		return missing("runId")
	case !runPattern().MatchString(p.ID):
		return invalid("runId", "%q cannot be the id of a run: ids have letters, digits, '_', '.' and '-', and at most 256 characters", clip(p.ID))
	case p.Status != nil && store.AzureStates[*p.Status] == "":
		return invalid("status", "%q is no status of a run", clip(*p.Status))
	}
	for _, m := range []struct {
		what   string
		labels map[string]string
	}{{"tags", p.Tags}, {"properties", p.Properties}} {
		if len(m.labels) > maxLabels {
			return invalid(m.what, "a run may get at most %d %s at once, and these are %d", maxLabels, m.what, len(m.labels))
		}
		for key := range m.labels {
			if strings.TrimSpace(key) == "" || strings.ContainsRune(key, 0) {
				return invalid(m.what, "a key of the %s is empty", m.what)
			}
			if err := checkLength(m.what, key, maxKey); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxLabels bounds the tags or properties of one request. A search by HyperDrive has a tag for each of its runs.
const maxLabels = 10_000

func (t *Tracking) patchRun(ctx context.Context, tx *store.Tx, s Scope, experiment, user string, p RunPatch) error {
	run, err := tx.HistoryRun(ctx, s.WorkspaceID, p.ID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		if run, err = t.newHistoryRun(ctx, tx, s, experiment, user, p); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if _, err := s.activeRun(ctx, tx, p.ID); err != nil {
			return err
		}
	}
	h := historyRun{run}
	if run.Job != nil {
		job := *run.Job
		h.Job = &job
	}
	if err := h.describe(p, t.clock.Millis()); err != nil {
		return err
	}
	return h.save(ctx, tx, run, p.labels(h))
}

// historyRun is a run that is being changed.
type historyRun struct{ store.HistoryRun }

// newHistoryRun makes a run for a client of the run history. One without a status is not started: an event says when.
func (t *Tracking) newHistoryRun(ctx context.Context, tx *store.Tx, s Scope, experiment, user string, p RunPatch) (store.HistoryRun, error) {
	e, err := t.runExperiment(ctx, tx, s, experiment)
	if err != nil {
		return store.HistoryRun{}, err
	}
	run := store.Run{
		WorkspaceID: s.WorkspaceID, ID: p.ID, ExperimentID: e.ID, Name: p.ID, UserID: user,
		Status: Scheduled, Stage: store.StageActive, Start: t.clock.Millis(),
	}
	if p.Parent != nil {
		run.ParentID = *p.Parent
	}
	if err := s.allowParent(ctx, tx, run.ParentID); err != nil {
		return store.HistoryRun{}, err
	}
	if run.Number, err = tx.InsertRun(ctx, run); err != nil {
		return store.HistoryRun{}, err
	}
	labels := []store.Label{{Key: tagName, Value: run.Name}, {Key: tagUser, Value: user}}
	if run.ParentID != "" {
		root, err := tx.RunRoot(ctx, s.WorkspaceID, run.ParentID)
		if errors.Is(err, store.ErrNotFound) {
			root, err = run.ParentID, nil
		}
		if err != nil {
			return store.HistoryRun{}, err
		}
		labels = append(labels, store.Label{Key: tagParent, Value: run.ParentID}, store.Label{Key: tagRoot, Value: root})
	}
	return store.HistoryRun{Run: run, Experiment: e.Name}, tx.SetRunTags(ctx, run.Number, labels)
}

// runExperiment is the experiment for a new run.
func (t *Tracking) runExperiment(ctx context.Context, tx *store.Tx, s Scope, name string) (store.Experiment, error) {
	if s.Run != "" {
		return tx.Experiment(ctx, s.WorkspaceID, s.Experiment) // whatever a job says, its runs are in its own experiment
	}
	return jobExperiment(ctx, tx, JobRun{WorkspaceID: s.WorkspaceID, Experiment: name, Created: t.clock.Millis()})
}

// describe lays a patch over a run.
func (h *historyRun) describe(p RunPatch, now int64) error {
	if p.DisplayName != nil && *p.DisplayName != "" {
		h.Name = cut(*p.DisplayName, maxTag)
	}
	if err := h.addProperties(p.Properties); err != nil {
		return err
	}
	if p.Hidden != nil {
		h.hide(*p.Hidden)
	}
	set(&h.Record.Type, p.Type)
	set(&h.Record.Target, p.Target)
	h.Record.RunBody = overlay(h.Record.RunBody, p.Body)
	if p.Status != nil {
		h.move(*p.Status, cmp.Or(p.Start, now), cmp.Or(p.End, now))
	}
	return nil
}

// Properties are the properties of a run, which its job keeps if it has one.
func Properties(h store.HistoryRun) map[string]string {
	if h.Job == nil {
		return h.Record.Properties
	}
	return textsOf(h.Job.Properties)
}

// addProperties refuses to change one (azureml-v1.md §25); saying the same again changes nothing.
func (h *historyRun) addProperties(more map[string]string) error {
	if len(more) == 0 {
		return nil
	}
	all := maps.Clone(Properties(h.HistoryRun))
	if all == nil {
		all = map[string]string{}
	}
	for _, key := range slices.Sorted(maps.Keys(more)) {
		if had, known := all[key]; known && had != more[key] {
			return &workspace.Problem{
				Class: workspace.Invalid, Code: "PropertyImmutable", Target: "properties", Message: fmt.Sprintf("property %q of run %s cannot change", clip(key), h.ID),
				Cause: fmt.Sprintf("it is %q, and would become %q", clip(had), clip(more[key])), Mend: "use a tag for what changes, or another key",
			}
		}
		all[key] = more[key]
	}
	if h.Job == nil {
		h.Record.Properties = all
		return nil
	}
	text, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("tracking: properties of %s: %w", h.ID, err)
	}
	h.Job.Properties = text
	return nil
}

func (h *historyRun) hide(hidden bool) {
	if h.Job != nil {
		h.Job.Archived = hidden
		return
	}
	h.Record.Hidden = hidden
}

// move gives a run another status at its client's word. A job's run follows its job alone, and what has ended stays so.
func (h *historyRun) move(state string, start, end int64) {
	if h.Run.Job || workspace.State(h.State()).Terminal() {
		return
	}
	if h.Status == Scheduled && store.AzureStates[state] == Running {
		h.Start = start
	}
	h.Record.State, h.Status = state, store.AzureStates[state]
	if workspace.State(state).Terminal() {
		h.End = end
	}
}

// save writes what of a run is not as it was.
func (h *historyRun) save(ctx context.Context, tx *store.Tx, was store.HistoryRun, labels []store.Label) error {
	if h.Run != was.Run {
		if err := tx.UpdateRun(ctx, h.Run); err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(h.Record, was.Record) {
		if err := tx.PutRunRecord(ctx, h.Number, h.Record); err != nil {
			return err
		}
	}
	if len(labels) > 0 {
		if err := tx.SetRunTags(ctx, h.Number, labels); err != nil {
			return err
		}
	}
	if h.Job == nil {
		return nil
	}
	label(h.Job, labels, nil)
	if reflect.DeepEqual(h.Job, was.Job) {
		return nil
	}
	return tx.DescribeJob(ctx, *h.Job)
}

// labels are the tags that a patch sets, with those of MLflow that mean the same as fields of it.
func (p RunPatch) labels(h historyRun) []store.Label {
	tags := maps.Clone(p.Tags)
	if tags == nil {
		tags = map[string]string{}
	}
	if p.DisplayName != nil && *p.DisplayName != "" {
		tags[tagName] = h.Name
	}
	if p.Description != nil {
		tags[tagNote] = *p.Description
	}
	return labelsOf(tags, maxTag)
}

func set(to *string, from *string) {
	if from != nil {
		*to = *from
	}
}

// overlay lays what is not empty of one body over another.
func overlay(had, by store.RunBody) store.RunBody {
	for _, f := range []struct{ to, from *string }{{&had.Name, &by.Name}, {&had.Script, &by.Script}, {&had.Metric, &by.Metric}} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	for _, f := range []struct{ to, from *json.RawMessage }{
		{&had.TypeV2, &by.TypeV2},
		{&had.From, &by.From},
		{&had.Definition, &by.Definition},
		{&had.Inputs, &by.Inputs},
		{&had.Outputs, &by.Outputs},
		{&had.Error, &by.Error},
	} {
		if len(*f.from) > 0 {
			*f.to = *f.from
		}
	}
	had.Warnings = append(had.Warnings, by.Warnings...)
	return had
}
