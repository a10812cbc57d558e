package kubernetes

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientconfig "k8s.io/client-go/tools/clientcmd/api"
)

// cluster is the API server of a cluster, and a namespace there.
type cluster struct {
	config    *rest.Config
	http      *http.Client
	base      string // https://host:port, with the path of a proxy if there is one
	namespace string
}

// agentName is what the API server's audit log calls us.
const agentName = "moorage"

// namespaceFile is where a pod finds its own namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// connect finds the API server by the settings. It does no more I/O than to read files.
func (s Settings) connect() (*cluster, error) {
	config, namespace, err := s.find()
	if err != nil {
		return nil, err
	}
	config.UserAgent = agentName
	config.QPS = -1 // the API server says itself when it is too much
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, invalid("the credentials for the cluster cannot be used", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, invalid(fmt.Sprintf("%q is not the address of an API server", config.Host), err)
	}
	return &cluster{config: config, http: client, base: strings.TrimRight(base.String(), "/"), namespace: cmp.Or(s.Namespace, namespace, "default")}, nil
}

// close ends connections that are not in use. Those who add credentials to requests do not pass that on by themselves.
func (c *cluster) close() {
	for rt := c.http.Transport; rt != nil; {
		if idle, ok := rt.(interface{ CloseIdleConnections() }); ok {
			idle.CloseIdleConnections()
			return
		}
		w, ok := rt.(interface{ WrappedRoundTripper() http.RoundTripper })
		if !ok {
			return
		}
		rt = w.WrappedRoundTripper()
	}
}

func (s Settings) find() (*rest.Config, string, error) {
	scheme, rest, _ := strings.Cut(cmp.Or(s.Address, "kubeconfig://"), "://")
	switch scheme {
	case "kubeconfig":
		name, err := url.PathUnescape(rest)
		if err != nil {
			return nil, "", invalid(fmt.Sprintf("%q is not an address", s.Address), err)
		}
		return s.context(name)
	case "incluster":
		return inCluster()
	case "https":
		return s.direct()
	}
	return nil, "", invalid(fmt.Sprintf("%q is not the address of a cluster", s.Address), errors.New("kubeconfig://CONTEXT, incluster:// and https://HOST are spoken"))
}

// context reads a context of the given kubeconfig, or of the server's user's own.
func (s Settings) context(name string) (*rest.Config, string, error) {
	var config *clientconfig.Config
	var err error
	whose := "the kubeconfig in the settings"
	if s.Kubeconfig != "" {
		config, err = clientcmd.Load([]byte(s.Kubeconfig))
		err = errors.Join(err, alone(config))
	} else {
		whose = "the kubeconfig of the server's user"
		config, err = clientcmd.NewDefaultClientConfigLoadingRules().Load()
	}
	if err != nil {
		return nil, "", invalid(whose+" cannot be read", err)
	}
	name = cmp.Or(name, config.CurrentContext)
	if config.Contexts[name] == nil {
		var names []string
		for n := range config.Contexts {
			names = append(names, n)
		}
		return nil, "", invalid(fmt.Sprintf("%s has no context %q", whose, name), fmt.Errorf("it has %q", names))
	}
	c := clientcmd.NewNonInteractiveClientConfig(*config, name, &clientcmd.ConfigOverrides{}, nil)
	out, err := c.ClientConfig()
	if err != nil {
		return nil, "", invalid(fmt.Sprintf("context %q of %s cannot be used", name, whose), err)
	}
	return out, config.Contexts[name].Namespace, nil
}

// alone refuses a kubeconfig that came with the settings and would have the server read files or start programs: whoever
// attaches a compute is not always whoever runs the server.
func alone(c *clientconfig.Config) error {
	if c == nil {
		return nil
	}
	for name, u := range c.AuthInfos {
		switch {
		case u.Exec != nil || u.AuthProvider != nil:
			return fmt.Errorf("user %q logs in by a program, which the server does not start for a kubeconfig in the settings; use a token or a certificate, or the kubeconfig of the server's user", name)
		case u.ClientCertificate != "" || u.ClientKey != "" || u.TokenFile != "":
			return fmt.Errorf("user %q names files; put their content into it: kubectl config view --flatten --minify --raw", name)
		}
	}
	for name, c := range c.Clusters {
		if c.CertificateAuthority != "" {
			return fmt.Errorf("cluster %q names a file; put its content into it: kubectl config view --flatten --minify --raw", name)
		}
	}
	return nil
}

func inCluster() (*rest.Config, string, error) {
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, "", invalid("the server does not run in a pod with a service account", err)
	}
	b, _ := os.ReadFile(namespaceFile) // absent: "default"
	return config, strings.TrimSpace(string(b)), nil
}

func (s Settings) direct() (*rest.Config, string, error) {
	u, err := url.Parse(s.Address)
	if err != nil || u.Host == "" {
		return nil, "", invalid(fmt.Sprintf("%q is not the address of an API server", s.Address), err)
	}
	if s.Token == "" {
		return nil, "", invalid("the settings hold no token for "+u.Host, errors.New("make one with kubectl create token ACCOUNT, or use a kubeconfig"))
	}
	config := &rest.Config{Host: s.Address, BearerToken: s.Token}
	config.TLSClientConfig.CAData = []byte(s.CA)
	return config, "", nil
}
