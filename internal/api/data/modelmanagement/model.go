package modelmanagement

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// model is a model on the wire (azureml-v1.md §11).
type model struct {
	ID               string                 `json:"id"`
	Name             string                 `json:"name"`
	Version          int                    `json:"version"`
	URL              string                 `json:"url"` // aml://asset/ID
	MimeType         string                 `json:"mimeType"`
	Description      *string                `json:"description"`
	Created          string                 `json:"createdTime"`
	Modified         string                 `json:"modifiedTime"`
	Unpack           bool                   `json:"unpack"`
	Framework        *string                `json:"framework"`
	FrameworkVersion *string                `json:"frameworkVersion"`
	Parent           *string                `json:"parentModelId"`
	Run              *string                `json:"runId"`
	Experiment       *string                `json:"experimentName"`
	Tags             map[string]string      `json:"kvTags"`
	Properties       map[string]string      `json:"properties"`
	Datasets         []control.ModelDataset `json:"datasets"`
	Derived          []string               `json:"derivedModelIds"`
	SampleInput      *string                `json:"sampleInputData"`
	SampleOutput     *string                `json:"sampleOutputData"`
	Resources        json.RawMessage        `json:"resourceRequirements"`
	CreatedBy        createdBy              `json:"createdBy"`
}

type createdBy struct {
	ID     string `json:"userObjectId"`
	Tenant string `json:"userTenantId"`
	Name   string `json:"userName"`
}

// assetScheme begins the URL of a model.
const assetScheme = "aml://asset/"

func (h handlers) view(r *http.Request, m control.Model) model {
	out := model{
		ID: m.ID(), Name: m.Name, Version: m.Version, URL: assetScheme + m.Asset, MimeType: m.MimeType, Description: api.OrNull(m.Description),
		Created: api.FormatTime(m.Created), Modified: api.FormatTime(m.Modified), Unpack: m.Unpack, Framework: api.OrNull(m.Framework), FrameworkVersion: api.OrNull(m.FrameworkVersion),
		Parent: api.OrNull(m.Parent), Run: api.OrNull(m.Run), Experiment: api.OrNull(m.Experiment), Tags: m.Tags, Properties: m.Properties,
		Datasets: m.Datasets, Derived: []string{}, SampleInput: api.OrNull(m.SampleInput), SampleOutput: api.OrNull(m.SampleOutput), Resources: m.Resources,
		CreatedBy: createdBy{h.principalID(r, m.CreatedBy), h.tenant, m.CreatedBy},
	}
	if m.Asset == "" { // another client registered it: its files are found by its own id
		out.URL += m.ID()
	}
	if out.MimeType == "" {
		out.MimeType = "application/octet-stream"
	}
	if out.Datasets == nil {
		out.Datasets = []control.ModelDataset{}
	}
	if len(out.Resources) == 0 {
		out.Resources = json.RawMessage("null")
	}
	return out
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func (h handlers) register(w http.ResponseWriter, r *http.Request) error {
	var req model
	if err := api.DecodeJSON(r, &req); err != nil {
		return err
	}
	id, ours := strings.CutPrefix(req.URL, assetScheme)
	if !ours || id == "" {
		return &workspace.Problem{Class: workspace.Invalid, Code: "InvalidModelUrl", Target: "url", Message: "the model's url names no asset", Cause: "it is " + strconv.Quote(req.URL), Mend: "let Model.register upload a file or folder"}
	}
	m, err := h.models.RegisterModel(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), control.Model{
		Name: req.Name, Description: text(req.Description), Tags: req.Tags, Properties: req.Properties,
		ModelDetails: control.ModelDetails{
			Asset: id, MimeType: req.MimeType, Unpack: req.Unpack, Framework: text(req.Framework), FrameworkVersion: text(req.FrameworkVersion), Run: text(req.Run),
			Experiment: text(req.Experiment), Parent: text(req.Parent), SampleInput: text(req.SampleInput), SampleOutput: text(req.SampleOutput), Datasets: req.Datasets, Resources: req.Resources,
		},
	})
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, h.view(r, m))
}

// list is newest first. The token of the next page is in a link, from which the client takes it.
func (h handlers) list(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("count"))
	if err != nil || limit <= 0 || limit > 255 {
		limit = 255
	}
	latest, _ := strconv.ParseBool(q.Get("latestVersionOnly")) // what is no truth value is false
	list, next, err := h.models.Models(r.Context(), api.WorkspaceOf(r), control.ModelFilter{
		Name: q.Get("name"), Framework: q.Get("framework"), Run: q.Get("runId"), Dataset: q.Get("datasetId"), LatestOnly: latest,
		Tags: append(wanted(q.Get("tags")), wanted(q.Get("tag"))...), Properties: wanted(q.Get("properties")),
	}, store.Page{After: q.Get("$skipToken"), Limit: limit})
	if err != nil {
		return err
	}
	views := make([]model, len(list))
	for i, m := range list {
		views[i] = h.view(r, m)
	}
	body := map[string]any{"value": views, "nextLink": nil}
	if next != "" {
		body["nextLink"] = nextLink(r, q, next)
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

func nextLink(r *http.Request, q url.Values, token string) string {
	q.Set("$skipToken", token)
	return api.BaseURL(r) + r.URL.EscapedPath() + "?" + q.Encode()
}

// wanted reads "key=value,key": entries that must be there, some with their value.
func wanted(list string) []control.Wanted {
	var out []control.Wanted
	for entry := range strings.SplitSeq(list, ",") {
		key, value, given := strings.Cut(entry, "=")
		if key == "" {
			continue
		}
		w := control.Wanted{Key: key}
		if given {
			w.Value = &value
		}
		out = append(out, w)
	}
	return out
}
