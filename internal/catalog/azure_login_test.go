package catalog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestLoginThatFailsIsExplained(t *testing.T) {
	const wrong = "AADSTS7000215: Invalid client secret provided."
	for name, tc := range map[string]struct {
		token answer
		code  string
		words []string
	}{
		"wrong secret": {answer{status: 401, body: object{"error": "invalid_client", "error_description": wrong + " Trace ID: 5b0c Correlation ID: 9 Timestamp: 2026"}}, "AzureLoginFailed", []string{wrong, "client_id and the secret", "moorage resource add"}},
		"bare":         {answer{status: 400, body: object{"error": "invalid_request"}}, "AzureLoginFailed", []string{"invalid_request"}},
		"no JSON":      {answer{status: 400, body: "no"}, "AzureLoginFailed", []string{"400"}},
		"throttled":    {answer{status: 429, header: map[string]string{"Retry-After": "60"}, body: object{"error": "throttled"}}, "AzureThrottled", []string{"60 seconds"}},
		"down":         {answer{status: 501, body: object{"error": "server_error"}}, "AzureUnreachable", []string{"501"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLoopback(t)
			l.token = tc.token
			_, err := l.source(t).Address(t.Context(), batchID)
			p := problem(t, err, tc.code, tc.words...)
			if strings.Contains(p.Error(), "Trace ID") || strings.Contains(p.Error()+l.log.String(), testSecret) || len(l.asked) != 0 {
				t.Errorf("%s\n%v", p.Error(), l.asked)
			}
		})
	}
}

func TestCertificateLogsIn(t *testing.T) {
	l := startLoopback(t)
	l.knows(batchID, aBatch)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	a := l.source(t, func(c *AzureConfig) {
		c.Secret, c.Certificate = workspace.Secret{}, certificate(t, key, &key.PublicKey)
	})
	if _, err := a.Address(t.Context(), batchID); err != nil {
		t.Fatal(err)
	}
	if form := l.tokens[0]; form.Get("client_assertion") == "" || form.Get("client_secret") != "" {
		t.Errorf("%v", form)
	}
}

// certificate is a self-signed one with its key, PEM.
func certificate(t *testing.T, key, public any) workspace.Secret {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "moorage"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return workspace.NewSecret(string(slices.Concat(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))))
}

func TestMachinesOwnIdentityLogsIn(t *testing.T) {
	l := startLoopback(t)
	l.knows(batchID, aBatch)
	var asked http.Header
	var query string
	identity := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // the form of App Service; IMDS has a fixed address
		asked, query = r.Header, r.URL.RawQuery
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"x","token_type":"Bearer"}`, testToken, time.Now().Add(time.Hour).Unix())
	}))
	defer identity.Close()
	t.Setenv("IDENTITY_ENDPOINT", identity.URL)
	t.Setenv("IDENTITY_HEADER", "header-of-the-identity")
	a := l.source(t, func(c *AzureConfig) {
		c.Secret, c.Tenant, c.ManagedIdentity, c.HTTP = workspace.Secret{}, "", true, l.Client()
	})
	if _, err := a.Address(t.Context(), batchID); err != nil {
		t.Fatal(err)
	}
	if asked.Get("X-Identity-Header") != "header-of-the-identity" || !strings.Contains(query, "client_id="+testClient) || len(l.tokens) != 0 {
		t.Errorf("%v %s", asked, query)
	}
}

func TestAzureSettingsThatCannotWorkAreRefused(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := workspace.NewSecret(testSecret)
	for name, tc := range map[string]struct {
		c     AzureConfig
		field string
	}{
		"nothing":         {AzureConfig{Tenant: testTenant, Client: testClient}, "client_secret_file"},
		"two ways":        {AzureConfig{Tenant: testTenant, Client: testClient, Secret: secret, ManagedIdentity: true}, "more than one"},
		"no tenant":       {AzureConfig{Client: testClient, Secret: secret}, "azure.tenant_id"},
		"odd tenant":      {AzureConfig{Tenant: "a/b", Client: testClient, Secret: secret}, "azure.tenant_id"},
		"no client":       {AzureConfig{Tenant: testTenant, Secret: secret}, "azure.client_id"},
		"another cloud":   {AzureConfig{Tenant: testTenant, Client: testClient, Secret: secret, Cloud: "mars"}, "azure.cloud"},
		"plain http":      {AzureConfig{Tenant: testTenant, Client: testClient, Secret: secret, Authority: "http://login"}, "azure.authority"},
		"user in the URL": {AzureConfig{Tenant: testTenant, Client: testClient, Secret: secret, ResourceManager: "https://a:b@host"}, "azure.resource_manager"},
		"no PEM":          {AzureConfig{Tenant: testTenant, Client: testClient, Certificate: secret}, "azure.client_certificate_file"},
		"no RSA key":      {AzureConfig{Tenant: testTenant, Client: testClient, Certificate: certificate(t, ec, &ec.PublicKey)}, "azure.client_certificate_file"},
	} {
		_, err := NewAzure(tc.c)
		if p := problem(t, err, "InvalidAzureSettings", tc.field); strings.Contains(p.Error(), testSecret) {
			t.Errorf("%s: the secret is in %s", name, p.Error())
		}
	}
}

func TestCloudsHaveTheirOwnPlaces(t *testing.T) {
	for cloud, want := range map[string]string{
		"":           "https://login.microsoftonline.com/ https://management.azure.com https://management.core.windows.net/",
		"Public":     "https://login.microsoftonline.com/ https://management.azure.com https://management.core.windows.net/",
		"government": "https://login.microsoftonline.us/ https://management.usgovcloudapi.net https://management.core.usgovcloudapi.net/",
		"china":      "https://login.chinacloudapi.cn/ https://management.chinacloudapi.cn https://management.core.chinacloudapi.cn/",
	} {
		p, err := AzureConfig{Cloud: cloud}.cloud()
		if got := p.cloud.ActiveDirectoryAuthorityHost + " " + p.endpoint + " " + p.audience; err != nil || got != want {
			t.Errorf("%q: %s, %v", cloud, got, err)
		}
	}
}
