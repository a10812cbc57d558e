package server

import (
	"fmt"
	"os"
	"strings"

	"github.com/moorage-ml/moorage/internal/catalog"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Azure says who the server is in Azure, so that it can ask there for the addresses of resource ids. Its zero value
// leaves Azure alone. No secret stands in it: the secret of an application is in a file, or in the variable
// MOORAGE_AZURE_CLIENT_SECRET.
type Azure struct {
	TenantID              string `yaml:"tenant_id"`
	ClientID              string `yaml:"client_id"`
	ClientSecretFile      string `yaml:"client_secret_file"`
	ClientCertificateFile string `yaml:"client_certificate_file"` // with its private key
	ManagedIdentity       bool   `yaml:"managed_identity"`        // of the machine that the server runs on
	Cloud                 string `yaml:"cloud"`                   // public (the default), government, china
	// Authority and ResourceManager are base URLs that replace those of Cloud.
	Authority       string `yaml:"authority"`
	ResourceManager string `yaml:"resource_manager"`
}

// addresses is what the server knows of resource ids: the table, and Azure where it is configured.
func (s *Server) addresses() (*catalog.Catalog, error) {
	table := catalog.New(s.store)
	const variable = "MOORAGE_AZURE_CLIENT_SECRET"
	secret := os.Getenv(variable)
	_ = os.Unsetenv(variable) // what runs on this machine inherits the rest; it fails for no name that stands here
	c := s.cfg.Azure
	if c == (Azure{}) && secret == "" {
		return table, nil
	}
	cfg := catalog.AzureConfig{
		Tenant: c.TenantID, Client: c.ClientID, Secret: workspace.NewSecret(secret), ManagedIdentity: c.ManagedIdentity,
		Cloud: c.Cloud, Authority: c.Authority, ResourceManager: c.ResourceManager, Log: s.log, Now: s.opts.Clock.Now,
	}
	for _, f := range []struct {
		file, field string
		into        *workspace.Secret
	}{{c.ClientSecretFile, "client_secret_file", &cfg.Secret}, {c.ClientCertificateFile, "client_certificate_file", &cfg.Certificate}} {
		if f.file == "" {
			continue
		}
		b, err := s.readSecret(f.file)
		if err != nil {
			return nil, &workspace.Problem{
				Class: workspace.Invalid, Code: "InvalidAzureSettings", Target: "azure." + f.field, Message: "the server's azure settings cannot be used",
				Cause: fmt.Sprintf("azure.%s: %v", f.field, err), Mend: "correct the name of that file, or what is in it",
			}
		}
		*f.into = b
	}
	azure, err := catalog.NewAzure(cfg)
	if err != nil {
		return nil, err
	}
	s.log.Info("addresses of resource ids are asked of Azure", "tenant", c.TenantID, "client", c.ClientID, "managed_identity", c.ManagedIdentity)
	return table.WithSource(azure), nil
}

// readSecret reads a file with a secret. Others may read it where it is mounted for a container, so that is only said.
func (s *Server) readSecret(file string) (workspace.Secret, error) {
	info, err := os.Stat(file)
	if err != nil {
		return workspace.Secret{}, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return workspace.Secret{}, err
	}
	text := strings.TrimSpace(string(b)) // editors end files with a newline
	if text == "" {
		return workspace.Secret{}, fmt.Errorf("%s is empty", file)
	}
	if info.Mode().Perm()&0o007 != 0 {
		s.log.Warn("a file with a secret can be read by everybody on this machine", "file", file, "mend", "chmod 600 "+file)
	}
	return workspace.NewSecret(text), nil
}
