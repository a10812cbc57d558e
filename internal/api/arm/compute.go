package arm

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/api/attach"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Computes is what the routes of computes call; package control has it.
type Computes interface {
	Kinds() []control.KindInfo
	Attach(ctx context.Context, p workspace.Principal, ws workspace.Workspace, req control.AttachRequest) (store.Compute, error)
	UpdateCompute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, req control.UpdateRequest) (store.Compute, error)
	Detach(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, opts control.DetachOptions) (left []string, err error)
	Compute(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (store.Compute, error)
	Computes(ctx context.Context, p workspace.Principal, ws workspace.Workspace) ([]store.Compute, error)
	ComputeSecrets(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string) (map[string]workspace.Secret, error)
}

func (h handlers) computeRoutes() []api.Route {
	one := ws("/computes/{name}")
	return []api.Route{
		{Method: "GET", Pattern: ws("/computes"), Action: act("computes/read"), Handler: h.listComputes},
		{Method: "GET", Pattern: one, Action: act("computes/read"), Handler: h.getCompute},
		{Method: "PUT", Pattern: one, Action: act("computes/write"), Handler: h.putCompute},
		{Method: "PATCH", Pattern: one, Action: act("computes/write"), Handler: h.patchCompute},
		{Method: "DELETE", Pattern: one, Action: act("computes/delete"), Stream: true, Handler: h.deleteCompute},
		{Method: "POST", Pattern: one + "/listKeys", Action: act("computes/listKeys/action"), Handler: h.listKeys},
		{Method: "POST", Pattern: one + "/listNodes", Action: act("computes/listNodes/action"), Handler: h.listNodes},
		{Method: "POST", Pattern: one + "/start", Action: act("computes/start/action"), Handler: h.notOurs},
		{Method: "POST", Pattern: one + "/stop", Action: act("computes/stop/action"), Handler: h.notOurs},
		{Method: "POST", Pattern: one + "/restart", Action: act("computes/restart/action"), Handler: h.notOurs},
	}
}

func (h handlers) listComputes(w http.ResponseWriter, r *http.Request) error {
	rows, err := h.Computes.Computes(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r))
	if err != nil {
		return err
	}
	after := r.URL.Query().Get("$skip")
	for len(rows) > 0 && after != "" && rows[0].Name <= after { // they come by name
		rows = rows[1:]
	}
	rows, more := cut(rows, pageSize(r.URL.Query(), 200))
	next := ""
	if more {
		next = rows[len(rows)-1].Name
	}
	views := make([]api.Object, len(rows))
	for i, row := range rows {
		views[i] = h.computeView(r, row)
	}
	return list(w, r, views, next)
}

func (h handlers) getCompute(w http.ResponseWriter, r *http.Request) error {
	row, err := h.Computes.Compute(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, h.computeView(r, row))
}

// putCompute attaches. What is done at once is answered as done, and what takes longer can be followed as an operation;
// azureml-core insists on one either way (azureml-v1.md §4).
func (h handlers) putCompute(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	req, err := attach.Request(body.JSON(), h.Computes.Kinds(), h.DefaultCompute)
	if err != nil {
		return err
	}
	req.Name = r.PathValue("name")
	began := h.Clock.Millis()
	row, err := h.Computes.Attach(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), req)
	if err != nil {
		return final(r, err)
	}
	if row.State == store.ComputeFailed && row.HealthReason != nil && !asksOperation(r) {
		return final(r, row.HealthReason)
	}
	follow(w, r, "attach."+row.Name)
	status := http.StatusCreated
	if row.Created < began && row.State == store.ComputeSucceeded {
		status = http.StatusOK
	}
	return api.WriteJSON(w, status, h.computeView(r, row))
}

// asksOperation tells whether the client learns only from the operation why an attachment failed: azureml-core, and the
// management clients of its time. A refused PUT they show as a broken server, with headers and raw bytes
// (azureml-v1.md §4.4). Later ones show the error of the PUT itself.
func asksOperation(r *http.Request) bool {
	version := r.URL.Query().Get("api-version")
	return version != "" && version < "2021"
}

// final makes a verdict of a problem that clients would otherwise answer by trying again: a target that could not be
// reached was tried already.
func final(r *http.Request, err error) error {
	p := *api.ProblemOf(r, err)
	if p.Class == workspace.Unavailable || p.Class == workspace.Throttled {
		p.Class = workspace.Invalid
	}
	if p.Class == workspace.Internal || p.Class == workspace.Unauthenticated {
		return err
	}
	return &p
}

// patchCompute changes settings, secrets among them; what the body does not name stays.
func (h handlers) patchCompute(w http.ResponseWriter, r *http.Request) error {
	body, err := api.ReadObject(r)
	if err != nil {
		return err
	}
	name, p, ws := r.PathValue("name"), api.PrincipalOf(r), api.WorkspaceOf(r)
	row, err := h.Computes.Compute(r.Context(), p, ws, name)
	if err != nil {
		return err
	}
	update, err := attach.Update(row, body.JSON(), h.Computes.Kinds())
	if err != nil {
		return err
	}
	if row, err = h.Computes.UpdateCompute(r.Context(), p, ws, name, update); err != nil {
		return final(r, err)
	}
	return api.WriteJSON(w, http.StatusOK, h.computeView(r, row))
}

// detachWait is how long a client waits for a detach before it is told to ask again.
const detachWait = 60 * time.Second

// deleteCompute detaches, whatever underlyingResourceAction says: the target is not ours to delete (azureml-v2.md §5).
func (h handlers) deleteCompute(w http.ResponseWriter, r *http.Request) error {
	name, p, ws, q := r.PathValue("name"), api.PrincipalOf(r), api.WorkspaceOf(r), r.URL.Query()
	opts := control.DetachOptions{Force: truth(q.Get("force")), CancelJobs: truth(q.Get("cancelJobs"))}
	id := "detach." + name + "." + h.Clock.NewID()
	if _, err := h.Computes.Compute(r.Context(), p, ws, name); err != nil {
		if api.ProblemOf(r, err).Class == workspace.NotFound {
			follow(w, r, id)
			status := http.StatusNoContent
			if asksOperation(r) { // the management client of its time knows no 204 here
				status = http.StatusOK
			}
			w.WriteHeader(status)
			return nil
		}
		return err
	}
	op := h.Operations.start(r.Context(), id, detachWait, func(ctx context.Context) ([]string, error) { return h.Computes.Detach(ctx, p, ws, name, opts) })
	if !op.over() {
		follow(w, r, id)
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	if op.err != nil {
		return final(r, op.err)
	}
	follow(w, r, id)
	left := op.left
	if left == nil {
		left = []string{}
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"left": left})
}

func truth(text string) bool { return text == "1" || same(text, "true") }

func same(a, b string) bool { return strings.EqualFold(a, b) }

// listKeys gives the secrets of a compute, for those with the right to read them.
func (h handlers) listKeys(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	row, err := h.Computes.Compute(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name)
	if err != nil {
		return err
	}
	secrets, err := h.Computes.ComputeSecrets(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), name)
	if err != nil {
		return err
	}
	settings := api.AsObject(row.Settings)
	account := map[string]string{"username": settings.Text("username")}
	out := map[string]any{"computeType": api.AsObject(row.Doc).Child("properties").Text("computeType")}
	if row.Kind == "ssh" || row.Kind == "hdinsight" {
		out["administratorAccount"] = account
	}
	plain := map[string]string{}
	for k, s := range secrets {
		plain[k] = s.Reveal()
		switch k {
		case "password":
			account["password"] = s.Reveal()
		case "private_key":
			account["privateKeyData"] = s.Reveal()
		case "kubeconfig":
			out["userKubeConfig"] = s.Reveal() // as an AKS cluster's keys have it
		}
	}
	out["settings"] = plain
	w.Header().Set("Cache-Control", "no-store")
	return api.WriteJSON(w, http.StatusOK, out)
}

func (h handlers) listNodes(w http.ResponseWriter, r *http.Request) error {
	if _, err := h.Computes.Compute(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("name")); err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, map[string]any{"nodes": []any{}})
}

func (h handlers) notOurs(_ http.ResponseWriter, r *http.Request) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "NotSupported", Target: r.PathValue("name"), Message: "an attached compute is not started, stopped or restarted by this server",
		Mend: "do that where the machine is managed",
	}
}
