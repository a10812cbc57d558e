package registry

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const tokenPath = "/v2/token"

// tokenLife is how long a token is good for that a client got for the administrator's secret. One push of a large image
// must end within it.
const tokenLife = 2 * time.Hour

// token is Docker's token authentication: a client that was refused comes here with its name and password, GET with
// Basic, or POST with a form as OAuth 2 has it (containerd). The name does not matter.
//
// For the administrator's secret it gives a token that is good for the registry alone, and only to pull unless more was
// asked for. Any other credential is answered with itself: it gains nothing, and lives no longer.
func (h handlers) token(w http.ResponseWriter, r *http.Request) error {
	password, scopes, err := asked(r)
	if err != nil {
		return err
	}
	p, err := h.Tokens.Principal(r.Context(), password)
	if err != nil {
		return err
	}
	token, life := password, tokenLife
	if p.Administrator() {
		secret, _ := h.Tokens.RegistryToken("", rightOf(scopes), tokenLife)
		token = secret.Reveal()
	}
	w.Header().Set("Cache-Control", "no-store")
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"token": token, "access_token": token, "expires_in": int(life.Seconds()) - 60, "issued_at": h.Clock.Now().UTC().Format(time.RFC3339),
	})
}

// asked reads what a client asks a token for, and with which password.
func asked(r *http.Request) (password string, scopes []string, err error) {
	if err := r.ParseForm(); err != nil {
		return "", nil, &workspace.Problem{Class: workspace.Invalid, Code: "InvalidRequest", Message: "the form cannot be read", Cause: err.Error(), Mend: "send application/x-www-form-urlencoded"}
	}
	_, password, ok := r.BasicAuth()
	if !ok {
		password = formPassword(r.PostForm)
	}
	if password == "" {
		return "", nil, &workspace.Problem{
			Class: workspace.Unauthenticated, Code: "MissingPassword", Message: "no password was given", Mend: "log in first: moorage registry login prints how",
		}
	}
	for _, s := range r.Form["scope"] {
		scopes = append(scopes, strings.Fields(s)...)
	}
	return password, scopes, nil
}

func formPassword(form url.Values) string {
	switch form.Get("grant_type") {
	case "password":
		return form.Get("password")
	case "refresh_token":
		return form.Get("refresh_token")
	}
	return ""
}

// rightOf is the least right that serves all scopes: "repository:NAME:pull,push".
func rightOf(scopes []string) authn.RegistryRight {
	for _, s := range scopes {
		actions := s[strings.LastIndexByte(s, ':')+1:]
		for action := range strings.SplitSeq(actions, ",") {
			if action != "pull" && !strings.HasPrefix(s, "registry:") {
				return authn.RegistryPush
			}
		}
	}
	return authn.RegistryPull
}

// loginRoutes give people tokens of a workspace, to log engines and clusters in with.
func (h handlers) loginRoutes() []api.Route {
	return []api.Route{{
		Method: "POST", Pattern: "/native/v1" + api.WorkspacePath + "/registry/login", Action: api.ActionRegistry + "listCredentials/action",
		Dialect: api.ARM{}, Handler: h.login,
	}}
}

// The lives of a workspace's token.
const (
	defaultDays = 30
	maxDays     = 400
)

// login makes a token for the images of the workspace, to pull or also to push.
func (h handlers) login(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Push bool `json:"push"`
		Days int  `json:"days"` // 0: 30
	}
	if err := api.DecodeJSON(r, &in); err != nil {
		return err
	}
	if in.Days == 0 {
		in.Days = defaultDays
	}
	if in.Days < 0 || in.Days > maxDays {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidDays", Target: "days", Message: "a token is good for 1 to 400 days", Mend: "choose a number of days in between"}
	}
	right := authn.RegistryPull
	if in.Push {
		right = authn.RegistryPush
	}
	ws := api.WorkspaceOf(r)
	prefix, err := h.Images.PrefixOf(r.Context(), ws)
	if err != nil {
		return err
	}
	token, expires := h.Tokens.RegistryToken(ws.ID, right, time.Duration(in.Days)*24*time.Hour)
	w.Header().Set("Cache-Control", "no-store")
	return api.WriteJSON(w, http.StatusOK, map[string]any{"server": r.Host, "prefix": prefix, "username": "moorage", "password": token.Reveal(), "expires": expires.UTC().Format(time.RFC3339)})
}
