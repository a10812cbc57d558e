package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// azurePlace is one Azure: where one logs in, and where its resources are managed.
type azurePlace struct {
	cloud    cloud.Configuration
	endpoint string // without a slash at the end
	audience string // as the authority knows it, with one
}

// cloud gives the Azure that is meant.
func (c AzureConfig) cloud() (azurePlace, error) {
	var p azurePlace
	switch strings.ToLower(c.Cloud) { // endpoints and audiences as azcore/arm has them
	case "", "public":
		p = azurePlace{cloud.AzurePublic, "https://management.azure.com", "https://management.core.windows.net/"}
	case "government":
		p = azurePlace{cloud.AzureGovernment, "https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net/"}
	case "china":
		p = azurePlace{cloud.AzureChina, "https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn/"}
	default:
		return p, badAzure("cloud", fmt.Sprintf("%q is not one of Azure's clouds", c.Cloud), "use public, government or china, or give authority and resource_manager of your own")
	}
	for _, own := range []struct {
		field, given string
		replaces     *string
	}{{"authority", c.Authority, &p.cloud.ActiveDirectoryAuthorityHost}, {"resource_manager", c.ResourceManager, &p.endpoint}} {
		if own.given == "" {
			continue
		}
		u, err := url.Parse(own.given)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return p, badAzure(own.field, "it is no base URL", "write https://HOST/")
		}
		*own.replaces = strings.TrimSuffix(own.given, "/")
	}
	if c.ResourceManager != "" {
		p.audience = p.endpoint + "/"
	}
	return p, nil
}

// credential makes the one that the configuration describes. Variables AZURE_… are never read: on a machine that uses
// this server as its Azure they name the server itself.
func (c AzureConfig) credential(options policy.ClientOptions) (azcore.TokenCredential, error) {
	ways := 0
	for _, given := range []bool{!c.Secret.Empty(), !c.Certificate.Empty(), c.ManagedIdentity} {
		if given {
			ways++
		}
	}
	switch {
	case ways == 0:
		return nil, badAzure("client_secret_file", "nothing proves to Azure who this server is", "give client_secret_file (or the variable MOORAGE_AZURE_CLIENT_SECRET), client_certificate_file or managed_identity")
	case ways > 1:
		return nil, badAzure("client_secret_file", "there is more than one proof of who this server is", "give one of client_secret_file, client_certificate_file and managed_identity")
	case c.ManagedIdentity:
		o := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
		if c.Client != "" {
			o.ID = azidentity.ClientID(c.Client)
		}
		credential, err := azidentity.NewManagedIdentityCredential(o)
		if err != nil {
			return nil, badAzure("managed_identity", "this machine's identity cannot be used: "+clip(err.Error()), "log in as an application: client_id with client_secret_file")
		}
		return credential, nil
	case c.Tenant == "":
		return nil, badAzure("tenant_id", "the tenant is missing", "name it: its id, or a domain of it")
	case c.Client == "":
		return nil, badAzure("client_id", "the application is missing", "name it: the application (client) id of an app registration")
	}
	// The authority of a person's own cloud is not among those that Microsoft vouches for.
	own := c.Authority != ""
	if !c.Secret.Empty() {
		credential, err := azidentity.NewClientSecretCredential(c.Tenant, c.Client, c.Secret.Reveal(), &azidentity.ClientSecretCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: own})
		if err != nil {
			return nil, badAzure("tenant_id", "the login cannot be used: "+clip(err.Error()), "correct tenant_id and client_id")
		}
		return credential, nil
	}
	certificates, key, err := azidentity.ParseCertificates([]byte(c.Certificate.Reveal()), nil)
	if err != nil { // its text names what is missing and quotes nothing of the file
		return nil, badAzure("client_certificate_file", "the certificate cannot be used: "+clip(err.Error()), "give certificate and RSA private key in one PEM file, without a password")
	}
	credential, err := azidentity.NewClientCertificateCredential(c.Tenant, c.Client, certificates, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: options, DisableInstanceDiscovery: own})
	if err != nil {
		return nil, badAzure("client_certificate_file", "the login cannot be used: "+clip(err.Error()), "correct tenant_id, client_id and the certificate")
	}
	return credential, nil
}

func badAzure(field, cause, mend string) *workspace.Problem {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidAzureSettings", Target: "azure." + field,
		Message: "the server's azure settings cannot be used", Cause: "azure." + field + ": " + cause, Mend: mend,
	}
}

// notLoggedIn explains why there is no token. Entra answers {"error","error_description"}; the description's first line
// has the number that people search for, AADSTS…, and what follows are trace ids.
func (a *Azure) notLoggedIn(ctx context.Context, c call, l *loginError) error {
	p := &workspace.Problem{
		Class: workspace.Unavailable, Code: "AzureUnreachable", Target: "resourceId",
		Message: fmt.Sprintf("this server could not log in to Azure to ask where %s %s is", noun(c.id), c.id.name()), Cause: "the authority did not answer in time",
		Mend: "see that this server reaches Azure's login (HTTPS_PROXY counts), try again, or " + tell(c.id),
	}
	var resp *http.Response
	if f, ok := errors.AsType[*azidentity.AuthenticationFailedError](l); ok {
		resp = f.RawResponse
	}
	switch {
	case resp == nil && ctx.Err() != nil:
	case resp == nil:
		p.Cause = clip(rootCause(l))
	case resp.StatusCode == http.StatusTooManyRequests:
		wait := retryAfter(resp)
		a.hush(c.id.subscription, wait)
		return throttled(c.id, wait, "the login: "+resp.Status)
	case resp.StatusCode >= http.StatusInternalServerError:
		p.Cause = "the authority answers " + resp.Status
	default:
		p.Class, p.Code, p.Cause = workspace.Denied, "AzureLoginFailed", entraError(resp)
		p.Message = "Azure does not let this server log in"
		p.Mend = "correct tenant_id, client_id and the secret in the server's azure settings (secrets expire), or " + tell(c.id)
	}
	return p
}

func entraError(resp *http.Response) string {
	body, _ := runtime.Payload(resp) // it was read already
	var doc struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &doc) != nil || doc.Error == "" {
		return resp.Status
	}
	line, _, _ := strings.Cut(strings.TrimSpace(doc.Description), "\n")
	line, _, _ = strings.Cut(line, " Trace ID:")
	if line == "" {
		return clip(doc.Error)
	}
	return clip(line)
}
