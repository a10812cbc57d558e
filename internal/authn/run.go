package authn

import (
	"context"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// JobTokenLife is how long JobToken's are good for unless Config says otherwise. Azure's v1 client insists on a JWT and
// decodes it for its end (azureml-v1.md §9). It gets a new one in time, but a token may wait on a target until its job
// starts, so they are good for long and end with their job instead.
const JobTokenLife = 400 * 24 * time.Hour

// runTokenLife is that of RunToken's, which MLflow holds as well, and never gets anew.
const runTokenLife = 400 * 24 * time.Hour

// JobToken is the credential of one attempt of a job as a JWT. It is good for what JobSecret is good for, only there, and
// only as long.
func (a *Authenticator) JobToken(jobID string, attempt int) (token workspace.Secret, expires time.Time) {
	c := a.claims(workspace.Principal{ID: UUID(a.server, "job", jobID), Name: jobID}, "", a.jobTokenLife)
	c.Ours, c.JobID, c.Attempt = true, jobID, attempt
	return a.runToken(c)
}

// RunToken is the credential of a run that has no job: of a script that the client runs on its own computer, which reaches
// the server like any other client (azureml-v1.md §10). It reaches that run and ends with it.
func (a *Authenticator) RunToken(workspaceID, run string) (token workspace.Secret, expires time.Time) {
	c := a.claims(workspace.Principal{ID: UUID(a.server, "run", workspaceID, run), Name: run}, "", runTokenLife)
	c.Ours, c.RunID, c.WorkspaceID = true, run, workspaceID
	return a.runToken(c)
}

func (a *Authenticator) runToken(c claims) (workspace.Secret, time.Time) {
	token, err := a.seal(c)
	if err != nil {
		panic("authn: claims of ours cannot be signed: " + err.Error()) // strings and numbers under a key of our making
	}
	return workspace.NewSecret(token), c.Expiry.Time()
}

// run is the principal of a run's token that was found to be genuine.
func (a *Authenticator) run(ctx context.Context, workspaceID, run string) (workspace.Principal, error) {
	over, err := true, error(nil)
	if a.runs != nil {
		over, err = a.runs(ctx, workspaceID, run)
	}
	if err != nil {
		return workspace.Principal{}, unauthenticated("InvalidAuthenticationToken", "the token's run is not known", "")
	}
	if over {
		return workspace.Principal{}, unauthenticated("ExpiredAuthenticationToken", "the token of run "+run+" ended with it", "")
	}
	return workspace.Principal{Kind: "run", ID: UUID(a.server, "run", workspaceID, run), Name: run, Job: run, Workspace: workspaceID}, nil
}
