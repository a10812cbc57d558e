package arm

import (
	"net/http"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/authn"
)

// uploadTime is how long the signed URL of an upload is good for.
const uploadTime = 24 * time.Hour

func (h handlers) codeRoutes() []api.Route {
	return []api.Route{{
		Method: "POST", Pattern: ws("/codes/{name}/versions/{version}/startPendingUpload"), Action: act("codes/versions/startPendingUpload/action"), Handler: h.startUpload,
	}}
}

// startUpload gives the client a container of its own and a signed URL for it (azureml-v2.md §6).
func (h handlers) startUpload(w http.ResponseWriter, r *http.Request) error {
	if _, err := api.ReadObject(r); err != nil {
		return err
	}
	container := h.Assets.NewUpload()
	place := api.BaseURL(r) + "/blob/acct/" + container
	query := h.Sign(authn.Signature{Container: container, Verbs: "rcwl", Expires: h.Clock.Now().Add(uploadTime)})
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"pendingUploadId": authn.UUID("upload", container), "pendingUploadType": "TemporaryBlobReference",
		"blobReferenceForConsumption": map[string]any{
			"blobUri": place, "storageAccountArmId": "",
			"credential": map[string]string{"credentialType": "SAS", "sasUri": place + "?" + query},
		},
	})
}

// codesByHash lists the code that was uploaded before under the client's own hash, whatever its name: finding it is
// what spares the client the upload.
func (h handlers) codesByHash(w http.ResponseWriter, r *http.Request) error {
	doc, ok, err := h.Assets.CodeByHash(r.Context(), api.WorkspaceOf(r), r.URL.Query().Get("hash"))
	if err != nil {
		return err
	}
	views := []api.Object{}
	if ok {
		view, err := versionView(r, doc)
		if err != nil {
			return err
		}
		views = append(views, view)
	}
	return list(w, r, views, "")
}
