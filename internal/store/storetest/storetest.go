// Package storetest is the exam of package store: what every database must do. A database's own test is a few lines.
// It also starts a real PostgreSQL for tests of other packages.
package storetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Run takes the exam. fresh gives the URL of an empty database that is left to the test.
func Run(t *testing.T, fresh func(t testing.TB) string) {
	e := &exam{fresh: fresh}
	for _, c := range []struct {
		promise string
		test    func(t *testing.T)
	}{
		{"WriteKeepsAllOrNothing", e.writeKeepsAllOrNothing},
		{"WriteSeesItsOwnRows", e.writeSeesItsOwnRows},
		{"FailedStatementLosesTheWholeWrite", e.failedStatementLosesTheWholeWrite},
		{"DoubledKeyLeavesTheWriteUsable", e.doubledKeyLeavesTheWriteUsable},
		{"ConcurrentReadModifyWriteLosesNothing", e.concurrentReadModifyWrite},
		{"CancelledRequestsDoNotHarmOthers", e.cancelledRequests},
		{"PanicAndExitInsideAWriteUndoItAlone", e.panicInsideWrite},
		{"ClosedStoreSaysSo", e.closed},
		{"ReopenedStoreHasEverything", e.reopened},
		{"ManyServersOpenOneDatabaseAtOnce", e.openAtOnce},
		{"NewerSchemaIsRefused", e.newerSchema},

		{"WorkspacePathIgnoresCaseOfGroupAndSubscription", e.workspacePath},
		{"DeletedWorkspaceTakesItsRowsAlong", e.workspaceDelete},
		{"ComputeKeepsEveryField", e.computeFields},
		{"OneTargetIsAttachedOnce", e.computeIdentity},
		{"ComputeNameIsUniqueInItsWorkspace", e.computeName},

		{"JobKeepsEveryField", e.jobFields},
		{"JobsOfBeforeLearnTheNameOfTheirCompute", e.jobsOfBefore},
		{"JobNameIsUniqueInItsWorkspace", e.jobName},
		{"JobListPagesNewestFirst", e.jobPages},
		{"JobListFilters", e.jobFilters},
		{"QueuedJobsComeByPriorityThenAge", e.queue},
		{"StaleEpochWritesNothing", e.staleEpoch},
		{"EndedJobNeverChangesItsState", e.endedJob},
		{"CancelIsNotLostToAnOlderView", e.cancelRace},
		{"CancelIsWishedOnce", e.cancelOnce},
		{"ForcedEndStandsAgainstAHolder", e.forced},
		{"DeletedJobLeavesNoRow", e.deleteJob},

		{"LeaseHasOneHolder", e.leaseOneHolder},
		{"LeaseEpochNeverGoesBack", e.leaseEpoch},
		{"PausedHolderDoesNoHarm", e.leasePaused},
		{"RenewListsWhatIsStillHeld", e.leaseRenew},
		{"DeadHoldersAreForgottenAndEpochsStay", e.leaseFreeAll},
		{"FreeListsWhatNobodyWorksFor", e.leaseFree},
		{"TwoServersFightWithoutOverlap", e.leaseFight},

		{"DocumentsKeepVersionsNewestFirst", e.documents},
		{"ContainersShowTheLatestOfEachName", e.containers},
		{"SettingIsSetOnceForAllServers", e.settings},
		{"SecretsAreReplacedAndForgotten", e.secrets},
		{"ResourceIdIgnoresCase", e.resources},
		{"AuditLogPagesNewestFirst", e.audit},
		{"PreparedEnvironmentsKeepEveryField", e.environments},
		{"ImageBuildsHaveOneHolder", e.imageBuilds},
		{"JobFilesAreReplacedByNewerVersions", e.jobFiles},
		{"PinsAndCondemnationsExcludeEachOther", e.pins},

		{"UploadsOfBlobsGoOnFromWhereTheyStand", e.registryUploads},
		{"BlobsGoWhenNoRepositoryHasThem", e.registrySweep},
		{"ManifestsKeepEveryFieldAndTheirTags", e.registryManifests},

		{"RunRecordsKeepEveryField", e.runRecords},
		{"RunHistoryFilters", e.historyFilters},
		{"RunHistoryOrdersAndPages", e.historyPages},
		{"SeriesGrowAndKeepTheOrderOfTimes", e.series},
		{"ChunksTellWhatIsUnsorted", e.chunks},
		{"PointsAreTakenBackFromAStepOn", e.takenPoints},

		{"HintsFireAfterCommitOnly", e.hintsAfterCommit},
		{"HintsThatOverflowAreFoldedIntoOne", e.hintsOverflow},
	} {
		t.Run(c.promise, c.test)
	}
}

type exam struct{ fresh func(t testing.TB) string }

// open opens an empty database.
func (e *exam) open(t *testing.T) *store.Store { return Open(t, e.fresh(t)) }

// Open opens a database and closes it with the test.
func Open(t testing.TB, url string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{URL: url, Clock: clock.System()})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// write is Store.Write that must succeed.
func write(t testing.TB, s *store.Store, fn func(ctx context.Context, tx *store.Tx) error) {
	t.Helper()
	ctx := t.Context()
	if err := s.Write(ctx, func(tx *store.Tx) error { return fn(ctx, tx) }); err != nil {
		t.Fatalf("write: %v", err)
	}
}

func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually waits for a condition, up to ten seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// id is the n-th of a series of ids with a given order.
func id(n int) string { return fmt.Sprintf("01J%023d", n) }

func job(n int, edit ...func(*store.Job)) store.Job {
	j := store.Job{
		ID: id(n), WorkspaceID: "w", Name: fmt.Sprintf("job-%d", n), ComputeID: "c", Experiment: "Default",
		State: workspace.Queued, Due: new(int64(1)), Created: int64(n), Doc: []byte(`{"a":1}`), Spec: []byte(`{"b":2}`),
	}
	for _, e := range edit {
		e(&j)
	}
	return j
}

func insertJobs(t testing.TB, s *store.Store, jobs ...store.Job) {
	t.Helper()
	write(t, s, func(ctx context.Context, tx *store.Tx) error {
		for _, j := range jobs {
			if err := tx.InsertJob(ctx, j); err != nil {
				return err
			}
		}
		return nil
	})
}

func acquire(t testing.TB, s *store.Store, compute, holder string, ttl time.Duration) (epoch int64, ok bool) {
	t.Helper()
	write(t, s, func(ctx context.Context, tx *store.Tx) (err error) {
		epoch, ok, err = tx.Acquire(ctx, compute, holder, ttl)
		return err
	})
	return epoch, ok
}
