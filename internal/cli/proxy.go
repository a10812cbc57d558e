package cli

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// proxied are the variables with those added that make the server the proxy of the name under which azureml-core uploads.
// Programs know a proxy for all of https and hosts that are excepted, so everything is excepted that has another ending. A
// server on this machine is called by its address, because who excepts localhost excepts names below it, too.
func proxied(vars [][2]string, blobHost string) ([][2]string, error) {
	server, err := url.Parse(valueOf(vars, "MOORAGE_URL"))
	if err != nil || server.Hostname() == "" {
		return nil, fmt.Errorf("cli: the server's address %q is not a URL", valueOf(vars, "MOORAGE_URL"))
	}
	if blobHost == "" {
		return nil, &workspace.Problem{
			Class: workspace.Unsupported, Code: "NoProxy", Message: "the server does not say under which name azureml-core uploads", Cause: "it is of an older version",
			Mend: "start the server of this version, then run this again",
		}
	}
	if server.Hostname() == "localhost" {
		host := "127.0.0.1"
		if server.Port() != "" {
			host += ":" + server.Port()
		}
		named, addressed := server.Scheme+"://"+server.Host, server.Scheme+"://"+host
		server.Host = host
		for i, v := range vars {
			vars[i][1] = strings.Replace(v[1], named, addressed, 1)
		}
	}
	proxy := url.URL{Scheme: "http", Host: server.Host}
	if !loopback(server.Hostname()) {
		proxy.User = url.UserPassword("moorage", workspace.NewSecret(valueOf(vars, "IDENTITY_HEADER")).ProxyWord().Reveal())
	}
	if server.Port() == "" {
		proxy.Host += ":443"
	}
	for _, name := range []string{"https_proxy", "HTTPS_PROXY"} {
		if other, err := url.Parse(os.Getenv(name)); os.Getenv(name) != "" && (err != nil || other.Host != proxy.Host) {
			return nil, &workspace.Problem{
				Class: workspace.Conflict, Code: "OtherProxy", Target: name, Message: "this shell has a proxy for https already (" + name + "), and there is room for one",
				Cause: "the server leads to itself and nowhere else", Mend: "add " + blobHost + " to the hosts file instead, as moorage env says without --proxy",
			}
		}
	}
	except := excepted(server.Hostname(), blobHost)
	for _, v := range [][2]string{{"proxy", proxy.String()}, {"no_proxy", except}} {
		name := strings.Replace("https_"+v[0], "https_no_", "no_", 1)
		vars = append(vars, [2]string{strings.ToUpper(name), v[1]}, [2]string{name, v[1]})
	}
	return vars, nil
}

// endings are those of names on public and private networks, beside the countries'.
var endings = []string{
	"com", "net", "org", "edu", "gov", "mil", "int", "arpa", "info", "biz", "name", "dev", "app", "cloud", "site", "tech", "online", "page", "run", "sh",
	"lan", "local", "home", "internal", "intranet", "corp", "private", "test", "example", "localdomain",
}

// excepted is NO_PROXY: everything but a name. What the shell has there already stays, unless it means the name.
func excepted(server, name string) string {
	list := []string{server, "127.0.0.1"}
	list = append(list, strings.FieldsFunc(os.Getenv("NO_PROXY")+","+os.Getenv("no_proxy"), func(r rune) bool { return r == ',' || r == ' ' })...)
	list = append(list, "0.0.0.0/1", "128.0.0.0/1") // every IPv4 address
	list = append(list, endings...)
	for a := 'a'; a <= 'z'; a++ { // countries
		for b := 'a'; b <= 'z'; b++ {
			list = append(list, string([]rune{a, b}))
		}
	}
	var out []string
	seen := map[string]bool{}
	for _, e := range list {
		bare := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(e, "*"), "."))
		if strings.Count(bare, ":") > 1 { // an IPv6 address; the native part of azureml-dataprep takes it for a host and a port, and panics
			continue
		}
		if bare == "" || seen[bare] || name == bare || strings.HasSuffix(name, "."+bare) {
			continue
		}
		seen[bare] = true
		out = append(out, e)
	}
	return strings.Join(out, ",")
}
