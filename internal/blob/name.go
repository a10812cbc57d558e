package blob

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// MaxName is the longest name in bytes (Azure's limit is 1,024 characters).
const MaxName = 1024

// CheckName refuses names that are not clean: empty segments, "." and "..", a slash at either end, bytes that are not
// UTF-8, control characters, backslashes, and more than MaxName bytes.
func CheckName(name string) error {
	bad := func(why string) error {
		if len(name) > 80 {
			name = strings.ToValidUTF8(name[:80], "") + "…"
		}
		return &workspace.Problem{
			Class: workspace.Invalid, Code: "InvalidBlobName", Target: "name",
			Message: fmt.Sprintf("%q cannot be the name of a blob", name), Cause: why, Mend: "use names like folder/file.txt",
		}
	}
	switch {
	case name == "":
		return bad("it is empty")
	case len(name) > MaxName:
		return bad(fmt.Sprintf("it has more than %d bytes", MaxName))
	case !utf8.ValidString(name):
		return bad("it is not UTF-8")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' }):
		return bad("it has a control character or a backslash")
	}
	for segment := range strings.SplitSeq(name, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return bad("it has an empty segment, or one that is . or ..")
		}
	}
	return nil
}

// IsContainerName tells whether a container may have a name, by Azure's rule: 3 to 63 small letters, digits and single
// dashes between them.
func IsContainerName(name string) bool {
	if len(name) < 3 || len(name) > 63 || strings.Contains(name, "--") || name[0] == '-' || name[len(name)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}
