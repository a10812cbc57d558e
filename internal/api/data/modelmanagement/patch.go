package modelmanagement

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// operation is one of a JSON patch (RFC 6902), of which azureml-core uses replace and add, on whole fields.
type operation struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`
}

// maxOperations bounds a patch; the client sends a handful.
const maxOperations = 100

func (h handlers) patch(w http.ResponseWriter, r *http.Request) error {
	var operations []operation
	if err := api.DecodeJSON(r, &operations); err != nil {
		return err
	}
	if len(operations) > maxOperations {
		return &workspace.Problem{Class: workspace.TooLarge, Code: "PatchTooLong", Message: "the patch has more than 100 operations", Mend: "send it in parts"}
	}
	m, err := h.models.UpdateModel(r.Context(), api.PrincipalOf(r), api.WorkspaceOf(r), r.PathValue("id"), func(m *control.Model) error {
		for _, o := range operations {
			if err := apply(m, o); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, h.view(r, m))
}

// apply carries one operation out. To add datasets is to add them to those there are, as the client means it.
func apply(m *control.Model, o operation) error {
	if o.Op != "replace" && o.Op != "add" && o.Op != "remove" {
		return unpatched(o)
	}
	if o.Op == "remove" {
		o.Value = json.RawMessage("null")
	}
	field, key, deeper := strings.Cut(strings.TrimPrefix(o.Path, "/"), "/")
	fields := map[string]any{
		"description": &m.Description, "kvTags": &m.Tags, "properties": &m.Properties, "sampleInputData": &m.SampleInput,
		"sampleOutputData": &m.SampleOutput, "resourceRequirements": &m.Resources, "datasets": &m.Datasets,
	}
	to, known := fields[field]
	if !known {
		return unpatched(o)
	}
	switch to := to.(type) {
	case *map[string]string:
		return setEntry(to, o, key, deeper)
	case *[]control.ModelDataset:
		had := *to
		*to = nil
		if o.Op == "add" {
			defer func() { *to = append(had, *to...) }()
		}
	case *string:
		*to = "" // null is none
	}
	if deeper {
		return unpatched(o)
	}
	return api.Decode(o.Value, to)
}

// setEntry replaces a map, or one of its entries.
func setEntry(to *map[string]string, o operation, key string, one bool) error {
	if !one {
		*to = map[string]string{}
		if err := api.Decode(o.Value, to); err != nil {
			return err
		}
		if *to == nil {
			*to = map[string]string{}
		}
		return nil
	}
	key = strings.NewReplacer("~1", "/", "~0", "~").Replace(key)
	if o.Op == "remove" {
		delete(*to, key)
		return nil
	}
	var value string
	if err := api.Decode(o.Value, &value); err != nil {
		return err
	}
	(*to)[key] = value
	return nil
}

func unpatched(o operation) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidPatch", Target: o.Path, Message: "the patch's operation " + o.Op + " on " + o.Path + " cannot be carried out",
		Mend: "replace, add or remove description, kvTags, properties, sampleInputData, sampleOutputData, resourceRequirements or datasets",
	}
}
