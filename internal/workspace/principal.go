package workspace

// Principal is who makes a request, as authn established it.
type Principal struct {
	// Kind is "administrator", "job", "run", "signed" (a URL of ours), or "puller" and "pusher" of the image registry; service
	// principals and people come with their own issue.
	Kind string
	ID   string // stable; a UUID for people and services, the job's id for a job
	Name string // for display and the audit log
	// Job is set for a job's own credential: the id of the job that it may reach, and nothing else. For the credential of a
	// run that has no job it is the run.
	Job string
	// Workspace is the id of the workspace that the credential of a job, a run or the image registry is bound to; empty means all.
	Workspace string
}

// Administrator tells whether the principal may do everything.
func (p Principal) Administrator() bool { return p.Kind == "administrator" }
