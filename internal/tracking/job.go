package tracking

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// JobRun is the run that a job brings with it. Its id is the job's name.
type JobRun struct {
	WorkspaceID string
	Name        string
	Experiment  string // by name; made if it does not exist. Empty: Default
	DisplayName string
	User        string
	Tags        map[string]string
	Parent      string // name of the job above, empty for none
	Created     int64  // milliseconds since the epoch
}

// MLflow's statuses.
const (
	Running   = "RUNNING"
	Scheduled = "SCHEDULED"
	Finished  = "FINISHED"
	Failed    = "FAILED"
	Killed    = "KILLED"
)

// CreateJobRun makes the run of a job in the transaction that accepts the job. A run that a client made under that name
// becomes the job's.
func CreateJobRun(ctx context.Context, tx *store.Tx, r JobRun) error {
	e, err := jobExperiment(ctx, tx, r)
	if err != nil {
		return err
	}
	if r.DisplayName == "" {
		r.DisplayName = r.Name
	}
	tags := map[string]string{tagUser: r.User, tagSourceType: "JOB"}
	maps.Copy(tags, r.Tags)
	tags[tagName] = r.DisplayName
	if r.Parent != "" {
		tags[tagParent] = r.Parent
	}
	labels := labelsOf(tags, maxTag)
	run := store.Run{
		WorkspaceID: r.WorkspaceID, ID: r.Name, ExperimentID: e.ID, Job: true, ParentID: parentOf(labels), Name: r.DisplayName,
		UserID: r.User, Status: Scheduled, Stage: store.StageActive, Start: r.Created,
	}
	run.Number, err = tx.InsertRun(ctx, run)
	if errors.Is(err, store.ErrExists) {
		return adoptRun(ctx, tx, run, labels)
	}
	if err != nil {
		return err
	}
	return tx.SetRunTags(ctx, run.Number, labels)
}

func adoptRun(ctx context.Context, tx *store.Tx, run store.Run, labels []store.Label) error {
	had, err := tx.Run(ctx, run.WorkspaceID, run.ID)
	if err != nil {
		return err
	}
	run.Number, run.ExperimentID = had.Number, had.ExperimentID
	if err := tx.UpdateRun(ctx, run); err != nil {
		return err
	}
	return tx.SetRunTags(ctx, run.Number, labels)
}

func jobExperiment(ctx context.Context, tx *store.Tx, r JobRun) (store.Experiment, error) {
	if err := tx.InsertDefaultExperiment(ctx, r.WorkspaceID, r.Created); err != nil {
		return store.Experiment{}, err
	}
	if r.Experiment == "" {
		return tx.Experiment(ctx, r.WorkspaceID, 0)
	}
	if err := checkExperimentName("experimentName", r.Experiment); err != nil {
		return store.Experiment{}, err
	}
	e, err := tx.ExperimentByName(ctx, r.WorkspaceID, r.Experiment)
	if err == nil && e.Stage != store.StageActive {
		return e, &workspace.Problem{
			Class: workspace.Invalid, Code: "ExperimentDeleted", Target: "experimentName",
			Message: "experiment " + clip(r.Experiment) + " is deleted",
			Mend:    "restore it, or submit to another one: mlflow experiments restore --experiment-id " + experimentText(e.ID),
		}
	}
	if !errors.Is(err, store.ErrNotFound) {
		return e, err
	}
	e = store.Experiment{WorkspaceID: r.WorkspaceID, Name: r.Experiment, Stage: store.StageActive, Created: r.Created, Updated: r.Created}
	e.ID, err = tx.InsertExperiment(ctx, e)
	return e, err
}

// SetJobRunState makes the run of a job show the job's state. A job without a run is left alone.
func SetJobRunState(ctx context.Context, tx *store.Tx, job store.Job) error {
	run, err := tx.Run(ctx, job.WorkspaceID, job.Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	before := run
	run.Status = statusOf(job.State, run.Status)
	if job.Started != 0 {
		run.Start = job.Started
	}
	run.End = 0
	if job.State.Terminal() {
		run.End = job.Ended
	}
	if run == before {
		return nil
	}
	return tx.UpdateRun(ctx, run)
}

// DescribeJobRun makes the run of a job show name and tags that the job was given, in the transaction that gave them. had
// is the job as it was.
func DescribeJobRun(ctx context.Context, tx *store.Tx, had, job store.Job) error {
	run, err := tx.Run(ctx, job.WorkspaceID, job.Name)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	was, tags := textsOf(had.Tags), textsOf(job.Tags)
	for key := range was {
		if _, stays := tags[key]; !stays {
			if _, err := tx.DeleteRunTag(ctx, run.Number, key); err != nil {
				return err
			}
		}
	}
	maps.DeleteFunc(tags, func(key, value string) bool { had, known := was[key]; return known && had == value })
	if run.Name != job.DisplayName {
		run.Name = job.DisplayName
		tags[tagName] = run.Name
		if err := tx.UpdateRun(ctx, run); err != nil {
			return err
		}
	}
	return tx.SetRunTags(ctx, run.Number, labelsOf(tags, maxTag))
}

// labelJob makes a job show what its run was given: the name, and the tags that are people's.
func labelJob(ctx context.Context, tx *store.Tx, run store.Run, set []store.Label, removed []string) error {
	if !run.Job {
		return nil
	}
	job, err := tx.Job(ctx, run.WorkspaceID, run.ID)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	label(&job, set, removed)
	return tx.DescribeJob(ctx, job)
}

// label changes the tags of a job, and its name by the tag that means it. MLflow's own tags are for its clients alone,
// unless the job came with them.
func label(job *store.Job, set []store.Label, removed []string) {
	tags := textsOf(job.Tags)
	for _, l := range set {
		if l.Key == tagName {
			job.DisplayName = l.Value
		}
		if _, had := tags[l.Key]; had || !isSystem(l.Key) {
			tags[l.Key] = l.Value
		}
	}
	for _, key := range removed {
		delete(tags, key)
	}
	if !maps.Equal(tags, textsOf(job.Tags)) {
		job.Tags, _ = json.Marshal(tags) // texts always encode
	}
}

// isSystem tells the tags that MLflow's clients and servers write for each other.
func isSystem(key string) bool { return strings.HasPrefix(key, "mlflow.") }

// textsOf reads an object of texts; anything else has none.
func textsOf(b json.RawMessage) map[string]string {
	var m map[string]string
	if json.Unmarshal(b, &m) != nil || m == nil {
		return map[string]string{}
	}
	return m
}

// statusOf gives MLflow's word for a state. States that say nothing about progress leave the status as it is.
func statusOf(s workspace.State, before string) string {
	switch s {
	case workspace.NotStarted, workspace.Queued, workspace.Starting, workspace.Preparing:
		return Scheduled
	case workspace.Running, workspace.Finalizing:
		return Running
	case workspace.Completed:
		return Finished
	case workspace.Failed:
		return Failed
	case workspace.Canceled:
		return Killed
	}
	return before // CancelRequested, NotResponding
}
