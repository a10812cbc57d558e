package border

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table's rules into .golangci.yaml")

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// packages lists the module's packages with what they import for linux and darwin, tests left out.
func packages(t *testing.T) []goPackage {
	t.Helper()
	var all []goPackage
	for _, goos := range []string{"linux", "darwin"} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,Deps", "./...")
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
			var p goPackage
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
	}
	if len(all) < 10 {
		t.Fatalf("go list shows %d packages", len(all))
	}
	return all
}

func TestPackagesImportOnlyWhatTheirRuleAllows(t *testing.T) {
	for _, p := range packages(t) {
		pkg, ours := strings.CutPrefix(p.ImportPath, Module+"/")
		if !ours {
			continue
		}
		rule, ok := RuleFor(pkg)
		if !ok {
			t.Errorf("%s has no rule in internal/border/table.go: add one that says what it may import and why", pkg)
			continue
		}
		for _, i := range p.Imports {
			if other, ours := strings.CutPrefix(i, Module+"/"); ours && !rule.Allows(other) {
				t.Errorf("%s imports %s, which its rule forbids (%s)", pkg, other, rule.Why)
			}
		}
		for _, never := range rule.Never {
			full := never
			if strings.HasPrefix(never, "internal/") {
				full = Module + "/" + never
			}
			for _, d := range p.Deps {
				if d == full {
					t.Errorf("%s is linked with %s, which its rule forbids (%s)", pkg, never, rule.Why)
				}
			}
		}
	}
}

func TestFirstRuleCounts(t *testing.T) {
	for pkg, want := range map[string]string{
		"internal/compute":               "internal/compute",
		"internal/compute/ssh":           "internal/compute/...",
		"internal/compute/internal/sshx": "internal/compute/internal/...",
		"internal/compute/internal/kept": "internal/compute/internal/kept",
		"cmd/keeper":                     "cmd/keeper",
		"cmd/moorage":                    "cmd/...",
		"internal/computers":             "",
	} {
		if rule, _ := RuleFor(pkg); rule.Package != want {
			t.Errorf("%s: got the rule of %q, want %q", pkg, rule.Package, want)
		}
	}
	ssh, _ := RuleFor("internal/compute/ssh")
	if ssh.Allows("internal/store") || ssh.Allows("internal/compute/local") || !ssh.Allows("internal/compute/internal/sshx") {
		t.Error("a driver may import what it must not, or not what it needs")
	}
}

const (
	begin = "        # From internal/border/table.go; renew with: go test ./internal/border -update\n"
	end   = "        # End of what the table makes.\n"
)

func TestLinterHasTheTablesRules(t *testing.T) {
	const file = "../../.golangci.yaml"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	rules, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf(".golangci.yaml lacks the lines %q and %q", begin, end)
	}
	if rules == Depguard() {
		return
	}
	if !*update {
		t.Fatal(".golangci.yaml differs from the table; renew it with: go test ./internal/border -update")
	}
	if err := os.WriteFile(file, []byte(before+begin+Depguard()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
