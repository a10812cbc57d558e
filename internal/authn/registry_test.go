package authn

import (
	"testing"
	"time"
)

func TestRegistryTokensAreForTheRegistryAndTheirWorkspaceAlone(t *testing.T) {
	a := newFixture(t)
	for right, kind := range map[RegistryRight]string{RegistryPull: "puller", RegistryPush: "pusher"} {
		token, expires := a.RegistryToken("W", right, time.Hour)
		p, err := a.Principal(t.Context(), token.Reveal())
		if err != nil || p.Kind != kind || p.Workspace != "W" || p.Administrator() || expires.IsZero() {
			t.Errorf("%s: %+v, %v, until %v", right, p, err, expires)
		}
		// A server of before the registry takes for the administrator's what is marked as ours.
		if c, err := a.verify(token.Reveal()); err != nil || c.Ours {
			t.Errorf("%s: %+v, %v", right, c, err)
		}
	}
	other, _ := a.RegistryToken("W", "something newer", time.Hour)
	if p, err := a.Principal(t.Context(), other.Reveal()); err == nil {
		t.Errorf("a right that is not known makes %+v", p)
	}
	old, _ := a.RegistryToken("W", RegistryPull, -time.Hour)
	if p, err := a.Principal(t.Context(), old.Reveal()); err == nil {
		t.Errorf("a token that is over makes %+v", p)
	}
}
