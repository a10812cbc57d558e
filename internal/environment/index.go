package environment

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Index is the operator's choice of package index for environments. It holds no secret: credentials belong in the
// netrc file or keyring of each target.
type Index struct {
	URL   string   // of a simple index; "": the target's own configuration
	Extra []string // further ones
	CA    string   // PEM: a bundle to be trusted instead of the target's own
}

// Check says what is wrong with the settings.
func (x Index) Check() *workspace.Problem {
	for _, u := range append([]string{x.URL}, x.Extra...) {
		if u == "" {
			continue
		}
		p, err := url.Parse(u)
		problem := &workspace.Problem{Class: workspace.Invalid, Code: "InvalidPackageIndex", Target: "index"}
		switch {
		case err != nil || p.Host == "" || (p.Scheme != "https" && p.Scheme != "http"):
			problem.Message = "the package index is not an https address"
			problem.Mend = "give the address of a simple index"
			return problem
		case p.User != nil:
			problem.Message = fmt.Sprintf("the address of the package index %s holds credentials", p.Host)
			problem.Cause = "the address is shown in process lists of computes"
			problem.Mend = "take them out of the address and put them into the file .netrc of the login on each compute"
			return problem
		}
	}
	return nil
}

func (x Index) key() string { return hash(append([]string{x.URL, x.CA}, x.Extra...)...) }

// files are what env refers to.
func (x Index) files() map[string]string {
	files := map[string]string{}
	if x.CA != "" {
		files["ca.pem"] = x.CA
	}
	return files
}

// env puts the settings, under the given names, before a command.
func (x Index) env(main, extra string, args []string) []string {
	var vars []string
	if x.URL != "" {
		vars = append(vars, main+"="+x.URL)
	}
	if len(x.Extra) > 0 {
		vars = append(vars, extra+"="+strings.Join(x.Extra, " "))
	}
	if x.CA != "" {
		vars = append(vars, "SSL_CERT_FILE={{env}}/ca.pem", "PIP_CERT={{env}}/ca.pem")
	}
	if len(vars) == 0 {
		return args
	}
	return append(append([]string{"env"}, vars...), args...)
}
