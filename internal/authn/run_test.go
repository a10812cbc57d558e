package authn

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestATokenOfAJobIsGoodWhereItsCredentialIs(t *testing.T) {
	f := newFixture(t)
	token, expires := f.JobToken(jobID, 1)
	own := WithWayBack(t.Context(), jobID, 1)
	f.now = f.now.Add(30 * 24 * time.Hour) // a long job
	if !expires.After(f.now) {
		t.Errorf("it says that it ends at %s", expires)
	}
	p, err := f.ask(t, own, "Bearer "+token.Reveal())
	if err != nil || p.Job != jobID || p.Name != "train1" || p.Administrator() {
		t.Fatalf("principal = %+v, %v", p, err)
	}
	if _, _, err := f.Exchange(own, token.Reveal(), base, base); err == nil {
		t.Error("it was exchanged for another token")
	}
	for name, ctx := range map[string]context.Context{"elsewhere": t.Context(), "another attempt's": WithWayBack(t.Context(), jobID, 2)} {
		if _, err := f.ask(t, ctx, "Bearer "+token.Reveal()); err == nil {
			t.Errorf("it works %s", name)
		}
	}
	f.job.Over = true
	if _, err := f.ask(t, own, "Bearer "+token.Reveal()); !errors.Is(err, &workspace.Problem{Code: "ExpiredAuthenticationToken"}) {
		t.Errorf("after the job: %v", err)
	}
}

func TestATokenOfARunIsGoodForThatRunUntilItIsOver(t *testing.T) {
	f := newFixture(t)
	token, _ := f.RunToken("W", "exp_1")
	if _, err := f.ask(t, t.Context(), "Bearer "+token.Reveal()); err == nil {
		t.Error("it works where nobody knows of runs")
	}
	over := false
	f.runs = func(_ context.Context, workspaceID, run string) (bool, error) {
		if workspaceID != "W" || run != "exp_1" {
			return false, errors.New("no such run")
		}
		return over, nil
	}
	p, err := f.ask(t, t.Context(), "Bearer "+token.Reveal())
	if err != nil || p.Kind != "run" || p.Name != "exp_1" || p.Job == "" || p.Workspace != "W" || p.Administrator() {
		t.Fatalf("principal = %+v, %v", p, err)
	}
	other, _ := f.RunToken("W", "exp_2")
	if _, err := f.ask(t, t.Context(), "Bearer "+other.Reveal()); err == nil {
		t.Error("the token of an unknown run works")
	}
	over = true
	if _, err := f.ask(t, t.Context(), "Bearer "+token.Reveal()); !errors.Is(err, &workspace.Problem{Code: "ExpiredAuthenticationToken"}) {
		t.Errorf("after the run: %v", err)
	}
}
