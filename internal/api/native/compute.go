package native

import (
	"context"
	"encoding/json"
	"net"
	"net/http"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/attach"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Computes is what the routes of computes and of the catalogue call; package control has it.
type Computes interface {
	Kinds() []control.KindInfo
	CheckCompute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, req control.AttachRequest) (control.Facts, error)
	Recheck(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (control.Facts, error)
	Environments(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) ([]store.PreparedEnvironment, error)
	PutResource(ctx context.Context, p workspace.Principal, req control.ResourceRequest) error
	Resources(ctx context.Context, p workspace.Principal) ([]store.Resource, error)
	DeleteResource(ctx context.Context, p workspace.Principal, id string) error
}

func (h handlers) computeRoutes() []api.Route {
	resources := api.ActionServer + "resources/"
	return []api.Route{
		{Method: "GET", Pattern: Base + "/kinds", Action: api.ActionServer + "kinds/read", Handler: h.kinds},
		{Method: "GET", Pattern: Base + "/resources", Action: resources + "read", Handler: h.listResources},
		{Method: "PUT", Pattern: Base + "/resources", Action: resources + "write", Handler: h.putResource},
		{Method: "DELETE", Pattern: Base + "/resources", Action: resources + "delete", Handler: h.deleteResource},
		{Method: "POST", Pattern: ws("/computes/check"), Action: act("computes/write"), Handler: h.check},
		{Method: "POST", Pattern: ws("/computes/{name}/check"), Action: act("computes/read"), Handler: h.recheck},
		{Method: "GET", Pattern: ws("/computes/{name}/environments"), Action: act("computes/read"), Handler: h.environments},
	}
}

func (h handlers) kinds(w http.ResponseWriter, _ *http.Request) error {
	return api.WriteJSON(w, http.StatusOK, map[string]any{"kinds": h.Computes.Kinds(), "version": h.Version})
}

func (h handlers) check(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadJSON(r)
	if err != nil {
		return err
	}
	req, err := attach.Request(body, h.Computes.Kinds(), h.DefaultCompute)
	if err != nil {
		return err
	}
	if req.Alias != "" {
		return &workspace.Problem{Class: workspace.Invalid, Code: "NothingToCheck", Message: "an AmlCompute is an alias of an attached compute", Mend: "check that one: moorage compute check " + req.Alias}
	}
	facts, err := h.Computes.CheckCompute(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), req)
	return writeFacts(w, r, facts, err)
}

func (h handlers) recheck(w http.ResponseWriter, r *http.Request) error {
	facts, err := h.Computes.Recheck(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	return writeFacts(w, r, facts, err)
}

// writeFacts writes what a pre-flight found. A target that could not be tried at all is a finding too; what is wrong
// with the request itself is an error.
func writeFacts(w http.ResponseWriter, r *http.Request, f control.Facts, err error) error {
	if err != nil {
		p := api.ProblemOf(r, err)
		if p.Class == workspace.Internal || p.Class == workspace.Invalid || p.Class == workspace.NotFound || p.Class == workspace.Unsupported {
			return err
		}
		f.Problems = append(f.Problems, *p)
	}
	out := struct {
		Identity []string            `json:"identity"`
		Details  map[string]string   `json:"details"`
		Problems []workspace.Problem `json:"problems"`
	}{f.Identity, f.Details, f.Problems}
	if out.Identity == nil {
		out.Identity = []string{}
	}
	if out.Details == nil {
		out.Details = map[string]string{}
	}
	if out.Problems == nil {
		out.Problems = []workspace.Problem{}
	}
	return api.WriteJSON(w, http.StatusOK, out)
}

// environments lists what was made of jobs' environments on a compute, the one used last first.
func (h handlers) environments(w http.ResponseWriter, r *http.Request) error {
	rows, err := h.Computes.Environments(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	type environment struct {
		Hash     string             `json:"hash"`
		Phase    string             `json:"phase"`
		LastUsed string             `json:"last_used"`
		Problem  *workspace.Problem `json:"problem"` // why it failed
		Spec     json.RawMessage    `json:"spec,omitempty"`
	}
	list := make([]environment, len(rows))
	for i, row := range rows {
		list[i] = environment{row.Hash, row.Phase, moment(row.LastUsed), row.Problem, row.Spec}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"environments": list})
}

// resource is a line of the catalogue. Settings are taken with their secrets and shown without; Secret tells that there
// are some.
type resource struct {
	ID       string          `json:"id"`
	Address  string          `json:"address"`
	Settings json.RawMessage `json:"settings,omitempty"`
	Secret   bool            `json:"secret,omitempty"`
}

func (h handlers) listResources(w http.ResponseWriter, r *http.Request) error {
	rows, err := h.Computes.Resources(r.Context(), api.PrincipalOf(r))
	if err != nil {
		return err
	}
	list := make([]resource, len(rows))
	for i, row := range rows {
		list[i] = resource{row.ID, row.Address, row.Settings, row.SecretID != ""}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"resources": list})
}

func (h handlers) putResource(w http.ResponseWriter, r *http.Request) error {
	var body resource
	if err := api.DecodeJSON(r, &body); err != nil {
		return err
	}
	if body.ID == "" {
		body.ID = r.URL.Query().Get("id")
	}
	if err := h.Computes.PutResource(r.Context(), api.PrincipalOf(r), control.ResourceRequest{ID: body.ID, Address: body.Address, Settings: body.Settings}); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, resource{ID: body.ID, Address: body.Address})
}

func (h handlers) deleteResource(w http.ResponseWriter, r *http.Request) error {
	if err := h.Computes.DeleteResource(r.Context(), api.PrincipalOf(r), r.URL.Query().Get("id")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}
