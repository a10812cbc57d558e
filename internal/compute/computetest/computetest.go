// Package computetest is the exam that defines what a kind of compute is: Run asks of a target everything that the
// contract of package compute promises. A driver's own test opens a real engine and calls Run; nothing is mocked.
//
// A limit of a kind (compute.Limits) is asserted, not passed over. A case that cannot be asked of a kind needs a reason,
// which is printed, and which the table of kinds in the docs shows.
package computetest

import (
	"context"
	"os"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
)

// Opener opens the target under examination as env says. It is called often: with an equal Env and Want it is the same
// attachment, opened again. The exam closes what it opened.
type Opener func(ctx context.Context, env compute.Env, w Want) (compute.Target, error)

// Want is what a case needs of the target.
type Want struct {
	Place   string // a word: attachments with equal ones share a machine and a folder on it, others share nothing that matters
	Slots   int    // jobs that run at once; 0: at least two
	GPUs    int    // what the machine's nvidia-smi shows; 0: whatever it has
	Refused bool   // open with credentials that the target does not take
}

// Options tells how a kind is examined.
type Options struct {
	Limits compute.Limits
	// Many is how many jobs are asked about at once; 0: 200, or 1000 when MOORAGE_EXAM_FULL=1.
	Many int
	// Outage makes the target of a place unreachable, and reachable again. Nil needs a reason in Skip["unreachable"].
	Outage func(t *testing.T, place string, down bool)
	// Shared is a folder that jobs can write and the exam can read; empty if there is none.
	Shared string
	// Folder is where the target keeps everything of a place, if the exam can read it; nil otherwise.
	Folder func(place string) string
	// Processes tells that the exam sees the target's processes in its own /proc.
	Processes bool
	// Image and OtherImage, if not empty, are images in which jobs of the target can run, at hand or to be had by it. Both
	// have a POSIX shell with the usual programs, and bash. In OtherImage alone the variable EXAM_IMAGE is set, to "other".
	Image, OtherImage string
	// Nodes tells that the target under examination can run a job on two nodes.
	Nodes bool
	// NoShell, if not empty, is why jobs cannot run a POSIX shell; then only the cases that need none are asked, in the
	// words echo, sleep and exit.
	NoShell string
	// Skip has reasons, by the name of a case, or by one of the words "unreachable", "refused", "gpus", "image".
	Skip map[string]string
}

// need is what a case needs beside a target.
type need int

const (
	shell  need = 1 << iota // a POSIX shell
	shared                  // Options.Shared
	folder                  // Options.Folder
	processes
	unreachable
	refused
	gpus
	image
)

type examCase struct {
	name  string
	needs need
	want  Want
	run   func(x *exam)
}

func cases() []examCase {
	return []examCase{
		{"ProbeTellsWhoTheTargetIs", 0, Want{}, probeTells},
		{"JobSucceedsAndItsLogIsWhole", 0, Want{}, jobSucceeds},
		{"StandardErrorIsInTheLog", shell, Want{}, stderrIsLogged},
		{"LogIsReadFromAnOffset", 0, Want{}, logFromOffset},
		{"LogIsFollowedToTheEnd", 0, Want{}, logFollowed},
		{"LogOf100MBArrivesWhole", shell, Want{}, bigLog},
		{"LogOverItsLimitIsDroppedAndCounted", shell, Want{}, logLimited},
		{"ExitCodeIsKept", 0, Want{}, exitCodeKept},
		{"SignalIsKept", shell, Want{}, signalKept},
		{"SubmitTwiceRunsOnce", 0, Want{}, submitTwice},
		{"SubmitConcurrentlyRunsOnce", 0, Want{}, submitConcurrently},
		{"SubmitAfterEndStartsNothing", 0, Want{}, submitAfterEnd},
		{"SubmitAfterCancelStartsNothing", 0, Want{}, submitAfterCancel},
		{"CancelBeforeSubmitStartsNothing", 0, Want{}, cancelBeforeSubmit},
		{"SubmitByAStaleServerStartsNothing", 0, Want{}, staleSubmit},
		{"SubmitByAStaleServerAfterReleaseStartsNothing", 0, Want{}, staleSubmitAfterRelease},
		{"CancelByAStaleServerDoesNothing", 0, Want{}, staleCancel},
		{"JobSurvivesRestartOfTheCaller", 0, Want{}, survivesRestart},
		{"CancelEndsAQueuedJob", 0, Want{Slots: 1}, cancelQueued},
		{"CancelEndsAPreparingJob", shell, Want{}, cancelPreparing},
		{"CancelEndsARunningJob", 0, Want{}, cancelRunning},
		{"CancelTwiceAndAfterTheEndIsNoError", 0, Want{}, cancelTwice},
		{"CancelEndsTheWholeTree", shell | processes, Want{}, cancelEndsTree},
		{"EndOfTheCommandEndsWhatItLeft", shell | processes, Want{}, endEndsRest},
		{"CancelAsksBeforeItEnds", shell, Want{}, graceIsGiven},
		{"CancelEndsWhatIgnoresIt", shell, Want{}, graceEnds},
		{"TimeoutEndsTheJob", 0, Want{}, timeoutEnds},
		{"ReleasedJobIsMissing", 0, Want{}, releasedIsMissing},
		{"UnknownJobIsMissing", 0, Want{}, unknownIsMissing},
		{"NothingIsLeftAfterRelease", shell | folder, Want{}, nothingLeft},
		{"RefusedCredentialsAreDenied", refused, Want{Refused: true}, refusedIsDenied},
		{"UnreachableTargetIsSaidAndMended", unreachable, Want{}, unreachableAndMended},
		{"FollowedLogSurvivesAnOutageOfTheTarget", unreachable | shell, Want{}, followOverOutage},
		{"UnicodeAndSpacesPassThrough", shell, Want{}, unicode},
		{"SnapshotArrivesWithModesAndLinks", shell, Want{}, snapshotArrives},
		{"SameSnapshotServesManyJobs", shell, Want{}, snapshotIsNotShared},
		{"InputsArrive", shell, Want{}, inputsArrive},
		{"InputOnTheTargetIsUsedInPlace", shell | shared, Want{}, inputInPlace},
		{"InputIsFetchedByTheTarget", shell, Want{}, inputFetched},
		{"OutputsComeHome", shell, Want{}, outputsComeHome},
		{"OutputsComeHomeWhileRunning", shell, Want{}, outputsWhileRunning},
		{"SecretsStayHidden", shell | processes | folder, Want{}, secretsHidden},
		{"ManyJobsAreAnsweredAtOnce", 0, Want{}, manyJobs},
		{"QueueKeepsItsOrder", 0, Want{Slots: 1}, queueOrder},
		{"GPUsAreAllotted", shell | gpus, Want{GPUs: 2, Slots: 4}, gpusAllotted},
		{"TwoServersDoNotMeet", shell, Want{}, twoServers},
		{"WatchTellsOfChanges", 0, Want{}, watchTells},
		{"WayBackCarriesARequest", shell, Want{}, wayBackCarries},
		{"WayBackWaitsForTheServer", shell, Want{}, wayBackWaits},
		{"DialReachesAPortOfTheJob", shell, Want{}, dialReaches},
		{"EnvironmentIsMadeOnce", shell, Want{}, environmentOnce},
		{"FailingStepFailsTheJobInItsOwnWords", shell, Want{}, stepFails},
		{"RanksFindEachOther", shell, Want{}, ranksFindEachOther},
		{"FailingRankEndsAll", shell, Want{}, failingRankEndsAll},
		{"NodesAreOneJobOrRefused", shell, Want{}, nodesAreOneJob},
		{"ImageIsWhatTheJobSees", shell | image, Want{}, imageIsSeen},
		{"ImageThatIsMissingIsSaid", shell | image, Want{}, imageIsMissing},
		{"JobInAnImageGetsItsGrace", shell | image, Want{}, imageGetsItsGrace},
		{"JobInAnImageKeepsItsSecrets", shell | image, Want{}, imageKeepsSecrets},
		{"JobInAnImageReachesTheServer", shell | image, Want{}, imageReachesTheServer},
		{"EnvironmentIsMadeInTheImage", shell | image, Want{}, imageMakesItsEnvironment},
		{"MemoryOverItsLimitIsSaid", shell | image, Want{}, imageRunsOutOfMemory},
		{"RemoveAllLeavesNothing", folder | shell, Want{}, removeAllLeavesNothing},
	}
}

// Run examines a kind. Each case is a subtest on a place of its own; cases run beside each other.
func Run(t *testing.T, open Opener, opts Options) {
	if opts.Many == 0 {
		opts.Many = 200
		if os.Getenv("MOORAGE_EXAM_FULL") == "1" {
			opts.Many = 1000
		}
	}
	known := map[string]bool{"unreachable": true, "refused": true, "gpus": true, "image": true}
	t.Run("Exam", func(t *testing.T) { // holds the parallel cases, so that Run returns after them
		for _, c := range cases() {
			known[c.name] = true
			t.Run(c.name, func(t *testing.T) {
				if reason := opts.reason(c); reason != "" {
					t.Skip(reason)
				}
				t.Parallel()
				c.run(newExam(t, open, opts, c.want))
			})
		}
	})
	for name := range opts.Skip {
		if !known[name] {
			t.Errorf("the exam has no case %q to skip", name)
		}
	}
}

// reason says why a case cannot be asked; empty if it can.
func (o Options) reason(c examCase) string {
	if r := o.Skip[c.name]; r != "" {
		return r
	}
	has := func(n need) bool { return c.needs&n != 0 }
	switch {
	case has(shell) && o.NoShell != "":
		return o.NoShell
	case has(unreachable) && o.Outage == nil:
		return orMissing(o.Skip["unreachable"], "Outage")
	case has(refused) && o.Skip["refused"] != "":
		return o.Skip["refused"]
	case has(gpus) && o.Skip["gpus"] != "":
		return o.Skip["gpus"]
	case has(image) && o.Skip["image"] != "":
		return o.Skip["image"]
	case has(image) && (o.Image == "" || o.OtherImage == ""):
		return "the target under examination offers no images"
	case has(shared) && o.Shared == "":
		return "no folder is shared between jobs and the exam"
	case has(folder) && o.Folder == nil:
		return "the exam cannot read the target's folder"
	case has(processes) && !o.Processes:
		return "the exam cannot see the target's processes"
	}
	return ""
}

// orMissing is the reason, or the complaint that there is none; a case then fails rather than hide.
func orMissing(reason, option string) string {
	if reason == "" {
		panic("computetest: Options." + option + " is nil and Options.Skip gives no reason")
	}
	return reason
}
