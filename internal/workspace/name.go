package workspace

import (
	"fmt"
	"strings"
)

// Workspace is one workspace of the server, addressed as Azure's clients do: by subscription, resource group and name.
type Workspace struct {
	ID            string // a UUID; v1 and v2 clients show it as workspaceId
	Subscription  string
	ResourceGroup string
	Name          string
	Location      string
	Created       int64 // milliseconds since the epoch
}

// Path is the ARM path of the workspace, without a trailing slash.
func (w Workspace) Path() string {
	return "/subscriptions/" + w.Subscription + "/resourceGroups/" + w.ResourceGroup +
		"/providers/Microsoft.MachineLearningServices/workspaces/" + w.Name
}

// CheckComputeName says what is wrong with a compute's name: 2 to 32 letters, digits and dashes, a letter first
// (Azure's own rule for compute names).
func CheckComputeName(name string) *Problem {
	if n := len(name); n >= 2 && n <= 32 && letter(name[0]) && plain(name, "-") && name[n-1] != '-' {
		return nil
	}
	return &Problem{
		Class: Invalid, Code: "InvalidComputeName", Target: "name",
		Message: fmt.Sprintf("compute name %q cannot be used", clip(name)),
		Mend:    "use 2 to 32 letters, digits and dashes, beginning with a letter and not ending with a dash",
	}
}

// CheckName says what is wrong with the name of a job or an asset: 1 to 255 letters, digits, '.', '_' and '-',
// a letter or digit first. Such a name is safe as a file name and as an MLflow run id.
func CheckName(what, name string) *Problem {
	if n := len(name); n >= 1 && n <= 255 && plain(name, "._-") && plain(name[:1], "") {
		return nil
	}
	return &Problem{
		Class: Invalid, Code: "InvalidName", Target: "name",
		Message: fmt.Sprintf("%s name %q cannot be used", what, clip(name)),
		Mend:    "use 1 to 255 letters, digits, '.', '_' and '-', beginning with a letter or digit",
	}
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// plain tells whether s has only letters, digits and the bytes of also. By hand: compiling expressions would be a good
// part of the start of every process, the keeper's and the command line's among them.
func plain(s, also string) bool {
	for i := range len(s) {
		if c := s[i]; !letter(c) && (c < '0' || c > '9') && strings.IndexByte(also, c) < 0 {
			return false
		}
	}
	return true
}

func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
