package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/fault"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// end takes a job's exit record. A job that left no files and whose log came along is over in one write; otherwise it
// is Finalizing until log and files are home.
func (s step) end(ctx context.Context, row *store.Job, status compute.Status, r *result) error {
	s.hold.cfg.Fault.Pass(fault.ExitSeen)
	r.ended = true
	x := status.Exit
	if x == nil {
		return fmt.Errorf("reconcile: job %s: the target says that it ended and not how", row.ID)
	}
	note := s.prepared(row, status)
	if !status.Started.IsZero() {
		row.Started = status.Started.UnixMilli()
	}
	row.Ended, row.LogSize = x.Ended.UnixMilli(), x.LogSize
	if x.Code >= 0 {
		row.ExitCode = &x.Code
	}
	if !x.Files && int64(len(x.Log)) == x.LogSize && x.Problem == nil && !planned(row) {
		row.LogInline = x.Log
		if err := s.dropPieces(ctx, row); err != nil {
			return err
		}
		return s.conclude(ctx, row, x, r, note...)
	}
	if row.Phase != store.Ended || row.State != workspace.Finalizing {
		row.Phase, row.State, row.Reason = store.Ended, workspace.Finalizing, nil
		if err := s.write(ctx, row, note...); err != nil {
			return err
		}
	}
	return s.bring(ctx, row, x, r)
}

// home goes on with a job whose end is known and whose files are not all home.
func (s step) home(ctx context.Context, row *store.Job, r *result) error {
	if s.status != nil && s.status.Phase == compute.Ended {
		return s.end(ctx, row, *s.status, r)
	}
	target, release, err := s.hold.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	status, err := target.Status(ctx, []compute.Handle{s.handle()})
	if err != nil {
		return err
	}
	switch status[0].Phase {
	case compute.Ended:
		return s.end(ctx, row, status[0], r)
	case compute.Missing:
		return s.missing(ctx, row, status[0], r)
	}
	return fmt.Errorf("reconcile: job %s: the target said that it ended, and now that it is %s", row.ID, status[0].Phase)
}

// bring fetches files and log, then concludes. All of it may be repeated.
func (s step) bring(ctx context.Context, row *store.Job, x *compute.Exit, r *result) error {
	target, release, err := s.hold.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	if x.Files {
		err = s.collect(ctx, target, row)
	}
	if err == nil {
		err = s.bringLog(ctx, target, row, x)
	}
	if err == nil && (x.Problem != nil || planned(row)) {
		err = s.bringPreparing(ctx, target, row)
	}
	if errors.Is(err, compute.ErrNotFound) {
		return s.missing(ctx, row, compute.Status{}, r)
	}
	if err != nil {
		return err
	}
	s.hold.cfg.Fault.Pass(fault.FilesHome)
	return s.conclude(ctx, row, x, r)
}

func (s step) log() tracking.JobLog { return tracking.JobLog{Blob: s.hold.cfg.Blob} }

// bringLog joins what is home already with the rest, streamed.
func (s step) bringLog(ctx context.Context, target compute.Target, row *store.Job, x *compute.Exit) error {
	if int64(len(x.Log)) == x.LogSize {
		row.LogInline = x.Log
		return s.dropPieces(ctx, row)
	}
	home, err := s.log().Size(ctx, row.ID)
	if err != nil {
		return err
	}
	return s.stream(ctx, target, compute.LogQuery{From: home}, func(rest io.Reader) error {
		_, err := s.log().Seal(ctx, *row, rest)
		return err
	})
}

// stream gives what a log of the target holds to take, without keeping it in memory.
func (s step) stream(ctx context.Context, target compute.Target, q compute.LogQuery, take func(io.Reader) error) error {
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := target.Logs(ctx, s.handle(), q, write)
		_ = write.CloseWithError(err) // never fails
		done <- err
	}()
	err := take(read)
	_ = read.Close() // never fails; lets a writer go whose reader gave up
	if logErr := <-done; err == nil {
		err = logErr
	}
	return err
}

// dropPieces takes pieces of a log away that came home while the job ran: the whole of it came along with the exit record.
func (s step) dropPieces(ctx context.Context, row *store.Job) error {
	if row.Started == 0 || row.Ended-row.Started < s.hold.cfg.Policy.Interval.Milliseconds() {
		return nil // no piece came home
	}
	return s.log().Drop(ctx, row.ID)
}

// planned tells whether a job asked for an environment, or for a way to upload. What was said in making it, or of the one that
// was there, stays.
func planned(row *store.Job) bool {
	var spec workspace.JobSpec
	return json.Unmarshal(row.Spec, &spec) == nil && (len(spec.Environment) > 0 || uploads(spec))
}

// bringPreparing keeps the log of the making of environment and inputs.
func (s step) bringPreparing(ctx context.Context, target compute.Target, row *store.Job) error {
	return s.stream(ctx, target, compute.LogQuery{Stream: "prepare"}, func(r io.Reader) error { return s.log().SealPreparing(ctx, *row, r) })
}

// interim brings home what a running job has made so far, so that a machine that dies takes little with it. What a kind
// cannot give while a job runs comes at its end.
func (s step) interim(ctx context.Context, row *store.Job, status compute.Status, r *result) error {
	r.after = s.hold.cfg.Policy.Interval
	if s.hold.now().UnixMilli()-row.Started < r.after.Milliseconds() {
		return nil
	}
	target, release, err := s.hold.cfg.Fleet.Use(ctx, s.compute.ID)
	if err != nil {
		return err
	}
	defer release()
	if !s.hold.limits.NoCollectWhileRunning {
		if err := s.collect(ctx, target, row); err != nil {
			return err
		}
	}
	home, err := s.log().Size(ctx, row.ID)
	if err != nil || s.hold.limits.NoLogOffsets || status.LogSize > 0 && status.LogSize <= home {
		return err
	}
	return s.stream(ctx, target, compute.LogQuery{From: home}, func(piece io.Reader) error {
		_, err := s.log().Append(ctx, row.ID, home, piece)
		return err
	})
}

// conclude turns the exit record into the job's terminal state.
func (s step) conclude(ctx context.Context, row *store.Job, x *compute.Exit, r *result, environments ...store.PreparedEnvironment) error {
	state, why := meaning(row, s.compute.Name, x)
	return s.finish(ctx, row, state, why, r, environments...)
}

// meaning is what a job's end means, and what a person should know of it.
func meaning(row *store.Job, computeName string, x *compute.Exit) (workspace.State, *workspace.Problem) {
	logHint := "see what it printed: moorage job stream " + row.Name
	switch x.Outcome {
	case compute.Succeeded:
		return workspace.Completed, nil
	case compute.Canceled:
		return workspace.Canceled, x.Problem
	case compute.TimedOut:
		return workspace.Failed, or(x.Problem, &workspace.Problem{
			Code: "TimedOut", Message: "the job ran longer than its limit and was ended",
			Mend: "raise limits.timeout, or make it shorter; " + logHint,
		})
	case compute.Lost:
		return workspace.Failed, or(x.Problem, &workspace.Problem{
			Code: "JobLost", Message: "compute " + computeName + " cannot tell how the job ended",
			Mend: "submit it again",
		})
	}
	if x.Problem != nil {
		return workspace.Failed, x.Problem
	}
	if x.Signal != "" {
		p := &workspace.Problem{Code: "Killed", Message: "the command was ended by signal " + x.Signal, Mend: logHint}
		if x.Signal == "KILL" {
			p.Cause = fmt.Sprintf("often the machine had no memory left; the largest process had used %d MB", x.PeakMemory>>20)
		}
		return workspace.Failed, p
	}
	return workspace.Failed, &workspace.Problem{
		Code: "ExitCode", Message: fmt.Sprintf("the command ended with exit code %d", x.Code), Mend: logHint,
	}
}

func or(p, other *workspace.Problem) *workspace.Problem {
	if p != nil {
		return p
	}
	return other
}
