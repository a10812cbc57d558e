// Package login serves what Azure's clients ask before they know anything: the description of the cloud, and tokens
// (azureml-v2.md §1, azureml-v1.md §3). Nothing here is secret but what it takes to get a token.
package login

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Tokens gives tokens for secrets; package authn has it.
type Tokens interface {
	Exchange(ctx context.Context, secret, audience, base string) (token string, expires time.Time, err error)
	Tenant() string
}

type handlers struct{ tokens Tokens }

// Routes is login's part of the route table.
func Routes(tokens Tokens) []api.Route {
	h := handlers{tokens}
	const describes, exchanges = "it describes the cloud to clients that have no token yet", "tokens are got here; it checks the secret itself"
	table := []api.Route{
		{Method: "GET", Pattern: "/metadata/endpoints", Public: describes, Handler: h.metadata},
		{Method: "GET", Pattern: "/discovery", Public: describes, Handler: h.discovery},
		{Method: "GET", Pattern: "/discovery/{path...}", Public: describes, Handler: h.discovery}, // api.DiscoveryURL
		{Method: "GET", Pattern: "/common/discovery/instance", Public: describes, Handler: h.openID},
		{Method: "GET", Pattern: "/msi/token", Public: exchanges, Handler: h.managedIdentity},
		{Method: "POST", Pattern: "/msi/token", Public: exchanges, Handler: h.managedIdentity},
		{Method: "GET", Pattern: "/ui/{path...}", Public: "a page that holds no data", Handler: page},
	}
	for _, tenant := range []string{"adfs", "common", "organizations", tokens.Tenant()} {
		table = append(table,
			api.Route{Method: "GET", Pattern: "/" + tenant + "/.well-known/openid-configuration", Public: describes, Handler: h.openID},
			api.Route{Method: "GET", Pattern: "/" + tenant + "/v2.0/.well-known/openid-configuration", Public: describes, Handler: h.openID},
			api.Route{Method: "POST", Pattern: "/" + tenant + "/oauth2/v2.0/token", Public: exchanges, Handler: h.clientCredentials},
			api.Route{Method: "POST", Pattern: "/" + tenant + "/oauth2/token", Public: exchanges, Handler: h.clientCredentials},
		)
	}
	for i := range table {
		table[i].Dialect = dialect{}
	}
	return table
}

// metadata is our cloud: in a list for api-versions before 2022 and alone from then on (azureml-v2.md §1.3). The client
// takes the cloud whose resourceManager is a part of the URL that the user typed, so everything is made from that.
//
// The list has it under two names. The v2 client takes the first that fits, and of one called AzureCloud it uses what is
// built into itself. The v1 client and azureml-mlflow know no other name than that.
func (h handlers) metadata(w http.ResponseWriter, r *http.Request) error {
	base, version := api.BaseURL(r), r.URL.Query().Get("api-version")
	login := base
	// azureml-mlflow hands the host to azure-identity, which refuses a port (mlflow.md §13). The v1 client, which fetches
	// with urllib, and the Azure CLI log in here and need the port.
	if version < "2022" && !strings.HasPrefix(r.UserAgent(), "Python-urllib") {
		login = withoutPort(base)
	}
	cloud := map[string]any{
		"name": "MoorageCloud", "portal": "https://portal.moorage.local", "resourceManager": base,
		"authentication": map[string]any{"loginEndpoint": login, "audiences": []string{base, base + "/"}, "tenant": "common", "identityProvider": "AAD"},
		"suffixes": map[string]string{
			"storage": "core.moorage.local", "keyVaultDns": "vault.moorage.local", "acrLoginServer": "azurecr.moorage.local", "sqlServerHostname": "database.moorage.local",
			"azureDataLakeStoreFileSystem": "azuredatalakestore.moorage.local", "azureDataLakeAnalyticsCatalogAndJob": "azuredatalakeanalytics.moorage.local",
		},
		"graph": base, "graphAudience": base, "gallery": base, "media": base, "batch": base, "vmImageAliasDoc": base, "sqlManagement": base, "activeDirectoryDataLake": base,
	}
	if version >= "2022" {
		return api.WriteJSON(w, http.StatusOK, cloud)
	}
	azure := maps.Clone(cloud)
	azure["name"] = "AzureCloud"
	return api.WriteJSON(w, http.StatusOK, []any{cloud, azure})
}

func withoutPort(base string) string {
	scheme, host, _ := strings.Cut(base, "://")
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	return scheme + "://" + host
}

// planes are the data planes by the names in which clients look for them. azureml-core breaks on each that is missing
// (azureml-v1.md §3).
var planes = []string{
	"api", "artifacts", "catalog", "deploymentmanager", "experimentation", "gallery", "history", "hyperdrive", "inferencing", "labeling", "metrics", "mlflow",
	"modelmanagement", "pipelines", "studio",
}

// discovery names the base URL of each data plane: all are this server. The studio is what clients print links to.
func (h handlers) discovery(w http.ResponseWriter, r *http.Request) error {
	all := map[string]string{}
	for _, name := range planes {
		all[name] = api.BaseURL(r)
	}
	all["studio"] += "/ui"
	return api.WriteJSON(w, http.StatusOK, all)
}

func (h handlers) openID(w http.ResponseWriter, r *http.Request) error {
	tenant, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	base := api.BaseURL(r) + "/" + tenant
	return api.WriteJSON(w, http.StatusOK, map[string]any{
		"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
		"device_authorization_endpoint": base + "/oauth2/v2.0/devicecode", "tenant_discovery_endpoint": base + "/v2.0/.well-known/openid-configuration",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"pairwise"}, "id_token_signing_alg_values_supported": []string{"HS256"},
		"metadata": []any{},
	})
}

// managedIdentity is App Service's protocol, and the older one of MSI_ENDPOINT: the secret comes in a header.
func (h handlers) managedIdentity(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	resource := r.Form.Get("resource")
	if resource == "" {
		resource = api.BaseURL(r)
	}
	secret := r.Header.Get("X-IDENTITY-HEADER")
	if secret == "" {
		secret = r.Header.Get("Secret")
	}
	return h.answer(w, r, secret, resource)
}

// clientCredentials is OAuth 2: the secret comes in the form, or as Basic.
func (h handlers) clientCredentials(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	if g := r.PostForm.Get("grant_type"); g != "client_credentials" {
		return &workspace.Problem{Class: workspace.Invalid, Code: "unsupported_grant_type", Message: "only client_credentials is served here", Mend: "log in as a service principal with the server's secret"}
	}
	audience := r.PostForm.Get("resource")
	for scope := range strings.FieldsSeq(r.PostForm.Get("scope")) {
		if name, ok := strings.CutSuffix(scope, "/.default"); ok {
			audience = name
		}
	}
	if audience == "" {
		audience = api.BaseURL(r)
	}
	secret := r.PostForm.Get("client_secret")
	if _, password, ok := r.BasicAuth(); ok && secret == "" {
		secret = password
	}
	return h.answer(w, r, secret, audience)
}

func readForm(r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return &workspace.Problem{Class: workspace.Invalid, Code: "invalid_request", Message: "the form cannot be read", Cause: err.Error(), Mend: "send application/x-www-form-urlencoded"}
	}
	return nil
}

func (h handlers) answer(w http.ResponseWriter, r *http.Request, secret, audience string) error {
	if secret == "" {
		return &workspace.Problem{Class: workspace.Unauthenticated, Code: "invalid_client", Message: "no secret was given", Mend: "set IDENTITY_HEADER, or give a client secret: moorage env prints it"}
	}
	token, expires, err := h.tokens.Exchange(r.Context(), secret, audience, api.BaseURL(r))
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	body := map[string]any{
		"access_token": token, "token_type": "Bearer", "resource": audience,
		"expires_on": strconv.FormatInt(expires.Unix(), 10), // text, as azureml-v2.md §1.1 says
	}
	if strings.HasPrefix(r.URL.Path, "/msi/") {
		body["expires_in"] = strconv.Itoa(lifetime(expires))
	} else {
		body["expires_in"], body["ext_expires_in"] = lifetime(expires), lifetime(expires) // MSAL adds it to the time
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

// lifetime is how many seconds a token is good for, a little less than it is.
func lifetime(expires time.Time) int { return max(0, int(time.Until(expires).Seconds())) }

// page stands where clients link to a job.
func page(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_, err := w.Write([]byte(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Moorage</title>
<body style="font:16px/1.5 system-ui;max-width:36em;margin:4em auto;padding:0 1em">
<h1>Moorage</h1><p>This version of the server has no web pages. Use the command line to look at a job:</p>
<pre>moorage job show NAME
moorage job log NAME --follow</pre></body></html>
`))
	return err
}
