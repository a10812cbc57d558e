// Package authn turns what a request carries into a principal: the administrator's secret, a token that this server
// signed, a job's own credential, or a signed URL. It decides who asks and never what they may do; that is authz.
// Package api calls it for every request, api/login to issue tokens, server to make the administrator's secret.
package authn

import (
	"cmp"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Config is what an Authenticator is made of.
type Config struct {
	// Key is 32 random bytes that several servers on one store share. Everything that is signed hangs on it.
	Key [32]byte
	// Server is the server's id, the issuer of tokens.
	Server string
	// Admin is the administrator's secret; see AdminSecret.
	Admin workspace.Secret
	Clock clock.Source
	// Jobs tells how a job is; its credential ends with it. ErrNotFound of any kind means that there is none.
	Jobs func(ctx context.Context, jobID string) (Job, error)
	// Runs tells whether a run without a job is over, for RunToken. nil: there are none.
	Runs func(ctx context.Context, workspaceID, run string) (over bool, err error)
	// TokenLife is how long a token is good for that a client gets for a secret, JobTokenLife is it for JobToken. 0: the
	// constants of those names.
	TokenLife, JobTokenLife time.Duration
}

// Job is what a job's credential depends on.
type Job struct {
	Name      string
	Workspace string // its id
	Attempt   int
	Over      bool
}

// Authenticator knows the keys. It is safe for concurrent use.
type Authenticator struct {
	server string
	admin  [sha256.Size]byte // of the secret, so that comparing takes the same time for every length
	noone  bool              // there is no administrator's secret
	clock  clock.Source
	jobs   func(ctx context.Context, jobID string) (Job, error)
	runs   func(ctx context.Context, workspaceID, run string) (bool, error)

	tokenLife, jobTokenLife time.Duration

	tokens, credentials, signatures []byte // one key a purpose
}

// New makes an Authenticator. It does no I/O.
func New(cfg Config) (*Authenticator, error) {
	a := &Authenticator{
		server: cfg.Server, clock: cfg.Clock, jobs: cfg.Jobs, runs: cfg.Runs,
		tokenLife: cmp.Or(cfg.TokenLife, TokenLife), jobTokenLife: cmp.Or(cfg.JobTokenLife, JobTokenLife),
		admin: sha256.Sum256([]byte(cfg.Admin.Reveal())), noone: cfg.Admin.Empty(),
	}
	for purpose, key := range map[string]*[]byte{"tokens": &a.tokens, "job credentials": &a.credentials, "signed URLs": &a.signatures} {
		k, err := hkdf.Key(sha256.New, cfg.Key[:], nil, "moorage "+purpose, 32)
		if err != nil {
			return nil, fmt.Errorf("authn: derive key for %s: %w", purpose, err)
		}
		*key = k
	}
	return a, nil
}

// Administrator is the one built-in principal.
func (a *Authenticator) Administrator() workspace.Principal {
	return workspace.Principal{Kind: "administrator", ID: UUID(a.server, "administrator"), Name: "administrator"}
}

// Authenticate gives the principal of a request, from its Authorization header: Bearer, or Basic with the secret as
// the password (MLflow's MLFLOW_TRACKING_PASSWORD). Every failure is a Problem of class Unauthenticated.
func (a *Authenticator) Authenticate(r *http.Request) (workspace.Principal, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return workspace.Principal{}, unauthenticated("MissingToken", "the request has no Authorization header", "")
	}
	if _, password, ok := r.BasicAuth(); ok {
		return a.Principal(r.Context(), password)
	}
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return workspace.Principal{}, unauthenticated("InvalidAuthenticationToken", "the Authorization header is not a bearer token", "its scheme is "+clip(scheme))
	}
	return a.Principal(r.Context(), strings.TrimSpace(text))
}

// Principal gives the principal of a secret or token: the administrator's secret, a job's credential, or a token of
// this server's. A job's is good only on a connection that came by the way back of that job (see WithWayBack), and
// only while the job is not over.
func (a *Authenticator) Principal(ctx context.Context, text string) (workspace.Principal, error) {
	if a.isAdmin(text) {
		return a.Administrator(), nil
	}
	if strings.HasPrefix(text, credentialPrefix) {
		id, attempt, err := a.readCredential(text)
		if err != nil {
			return workspace.Principal{}, err
		}
		return a.job(ctx, id, attempt)
	}
	c, err := a.verify(text)
	if err != nil {
		return workspace.Principal{}, err
	}
	switch {
	case c.Registry != "":
		return a.registry(c)
	case c.JobID != "":
		return a.job(ctx, c.JobID, c.Attempt)
	case c.RunID != "":
		return a.run(ctx, c.WorkspaceID, c.RunID)
	}
	return a.Administrator(), nil
}

func (a *Authenticator) isAdmin(text string) bool {
	sum := sha256.Sum256([]byte(text))
	return subtle.ConstantTimeCompare(sum[:], a.admin[:]) == 1 && !a.noone
}

// unauthenticated is the answer to a credential that does not count. It never holds the credential.
func unauthenticated(code, message, cause string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Unauthenticated, Code: code, Message: message, Cause: cause,
		Mend: "take a valid one: eval \"$(moorage env)\"",
	}
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// UUID makes an id of UUID form that is the same for the same words. Azure's clients insist on the form.
func UUID(words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\n")))
	sum[6] = sum[6]&0x0f | 0x80 // version 8: of our own making
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
