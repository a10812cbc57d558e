package border

import (
	"fmt"
	"slices"
	"strings"
)

// RuleFor gives the rule of a package, by its path relative to the module.
func RuleFor(pkg string) (Rule, bool) {
	i := slices.IndexFunc(Table, func(r Rule) bool { return covers(r.Package, pkg) })
	if i < 0 {
		return Rule{}, false
	}
	return Table[i], true
}

// Allows tells whether the rule lets its package import another of ours.
func (r Rule) Allows(pkg string) bool {
	return slices.ContainsFunc(r.May, func(p string) bool { return covers(p, pkg) })
}

func covers(pattern, pkg string) bool {
	base, below := strings.CutSuffix(pattern, "/...")
	return pkg == base || below && strings.HasPrefix(pkg, base+"/")
}

// Depguard is the table as rules of golangci-lint's depguard, indented for .golangci.yaml.
func Depguard() string {
	var b strings.Builder
	for _, r := range Table {
		if slices.Contains(r.May, "internal/...") {
			continue
		}
		name := strings.NewReplacer("/...", "-below", "/", "-").Replace(strings.TrimPrefix(r.Package, "internal/"))
		fmt.Fprintf(&b, "        %s: # %s\n          list-mode: lax\n          files:\n", name, r.Why)
		base, below := strings.CutSuffix(r.Package, "/...")
		if below {
			fmt.Fprintf(&b, "            - \"**/%s/**/*.go\"\n", base)
		}
		fmt.Fprintf(&b, "            - \"**/%s/*.go\"\n            - \"!$test\"\n", base)
		for _, earlier := range Table {
			if earlier.Package == r.Package {
				break
			}
			if e, _ := strings.CutSuffix(earlier.Package, "/..."); below && covers(r.Package, e) {
				fmt.Fprintf(&b, "            - \"!**/%s/*.go\"\n", e)
			}
		}
		if len(r.May) > 0 {
			b.WriteString("          allow:\n")
		}
		for _, m := range r.May {
			if base, below := strings.CutSuffix(m, "/..."); below {
				fmt.Fprintf(&b, "            - %s/%s\n", Module, base)
			} else {
				fmt.Fprintf(&b, "            - %s/%s$\n", Module, m)
			}
		}
		fmt.Fprintf(&b, "          deny:\n            - pkg: %s\n              desc: \"%s may not import it: see internal/border/table.go\"\n", Module, r.Package)
		for _, n := range r.Never {
			if !strings.HasPrefix(n, "internal/") {
				fmt.Fprintf(&b, "            - pkg: %s\n              desc: \"it would make the program large\"\n", n)
			}
		}
	}
	return b.String()
}
