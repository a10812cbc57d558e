package workspace

import "slices"

// State is a job's status in the words of Azure ML v2 (azureml-v2.md §10).
//
//	                    ┌────────────── CancelRequested ──────────────┐
//	                    │        ▲            ▲            ▲          ▼
//	NotStarted → Queued → Starting → Preparing → Running → Finalizing → Completed | Failed | Canceled
//	                └──────────┴───────────┴──────────┴───────────────────────────→ Failed
//
// NotResponding is shown for a job whose compute cannot be reached; the job keeps its place and comes back from it.
type State string

// The states.
const (
	NotStarted      State = "NotStarted"      // accepted, not looked at yet
	Queued          State = "Queued"          // waits for a slot, or for its compute; the reason is beside it
	Starting        State = "Starting"        // handed to the target
	Preparing       State = "Preparing"       // the target makes environment and inputs
	Running         State = "Running"         // the command runs
	Finalizing      State = "Finalizing"      // the command ended; log and outputs come home
	CancelRequested State = "CancelRequested" // a cancel is accepted and not yet done
	NotResponding   State = "NotResponding"   // the compute cannot be reached
	Completed       State = "Completed"       // the command ended with exit code 0 and everything is home
	Failed          State = "Failed"          // the error says why
	Canceled        State = "Canceled"        // ended by a cancel
)

// Terminal tells whether a job in this state never changes again.
func (s State) Terminal() bool { return s == Completed || s == Failed || s == Canceled }

// States lists every state, in the order of a job's life.
func States() []State {
	return []State{NotStarted, Queued, Starting, Preparing, Running, Finalizing, CancelRequested, NotResponding, Completed, Failed, Canceled}
}

// Unfinished lists the states in which a job still changes.
func Unfinished() []State {
	return slices.DeleteFunc(States(), State.Terminal)
}
