package authn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

const credentialPrefix = "mj1."

// JobSecret is the credential of one attempt of a job: it reaches that job and nothing else, and ends with it.
func (a *Authenticator) JobSecret(jobID string, attempt int) workspace.Secret {
	return workspace.NewSecret(credentialPrefix + jobID + "." + strconv.Itoa(attempt) + "." + a.jobMAC(jobID, attempt))
}

func (a *Authenticator) jobMAC(jobID string, attempt int) string {
	m := hmac.New(sha256.New, a.credentials)
	m.Write([]byte(jobID + "\n" + strconv.Itoa(attempt)))
	return hex.EncodeToString(m.Sum(nil))
}

func (a *Authenticator) readCredential(text string) (jobID string, attempt int, err error) {
	parts := strings.Split(strings.TrimPrefix(text, credentialPrefix), ".")
	bad := unauthenticated("InvalidAuthenticationToken", "the job's credential is not valid", "")
	if len(parts) != 3 {
		return "", 0, bad
	}
	attempt, err = strconv.Atoi(parts[1])
	if err != nil || !hmac.Equal([]byte(parts[2]), []byte(a.jobMAC(parts[0], attempt))) {
		return "", 0, bad
	}
	return parts[0], attempt, nil
}

type wayBackKey struct{}

type wayBack struct {
	jobID   string
	attempt int
}

// WithWayBack marks what comes over a connection that an attempt of a job made through its compute. The listener of
// the way back gives it to the server as the connection's context.
func WithWayBack(ctx context.Context, jobID string, attempt int) context.Context {
	return context.WithValue(ctx, wayBackKey{}, wayBack{jobID, attempt})
}

// OnWayBack tells whether a request came by the way back of a job.
func OnWayBack(ctx context.Context) bool {
	_, ok := ctx.Value(wayBackKey{}).(wayBack)
	return ok
}

// job is the principal of a job whose credential was found to be genuine.
func (a *Authenticator) job(ctx context.Context, jobID string, attempt int) (workspace.Principal, error) {
	if way, ok := ctx.Value(wayBackKey{}).(wayBack); !ok || way != (wayBack{jobID, attempt}) {
		return workspace.Principal{}, unauthenticated("InvalidAuthenticationToken", "a job's credential is good only where the job runs", "the request did not come by that job's way back")
	}
	j, err := a.jobs(ctx, jobID)
	if err != nil {
		return workspace.Principal{}, unauthenticated("InvalidAuthenticationToken", "the credential's job is not known", "")
	}
	if j.Over || j.Attempt != attempt {
		return workspace.Principal{}, unauthenticated("ExpiredAuthenticationToken", "the credential of job "+j.Name+" ended with it", "")
	}
	return workspace.Principal{Kind: "job", ID: jobID, Name: j.Name, Job: jobID, Workspace: j.Workspace}, nil
}
