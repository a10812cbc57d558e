package catalog

import (
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// armID is a resource id in parts: /subscriptions/S/resourceGroups/G/providers/P/T1/N1/T2/N2. All that comes in, from
// people and from Azure itself, goes through it, so that no request leaves the path that its code names.
type armID struct {
	subscription, group, provider string
	types, names                  []string
}

// parseID reads an id; the fixed words count in any case. False for what is no id of a resource.
func parseID(text string) (armID, bool) {
	parts := strings.Split(strings.TrimSuffix(text, "/"), "/")
	if len(parts) < 9 || len(parts)%2 == 0 || len(text) > 2000 || parts[0] != "" {
		return armID{}, false
	}
	if !strings.EqualFold(parts[1], "subscriptions") || !strings.EqualFold(parts[3], "resourceGroups") || !strings.EqualFold(parts[5], "providers") {
		return armID{}, false
	}
	if slices.ContainsFunc(parts[1:], func(part string) bool { return !plain(part) }) {
		return armID{}, false
	}
	id := armID{subscription: parts[2], group: parts[4], provider: parts[6]}
	for i := 7; i < len(parts); i += 2 {
		id.types, id.names = append(id.types, parts[i]), append(id.names, parts[i+1])
	}
	return id, true
}

// plain tells whether text may be one segment of an id: letters of any script, digits, and the marks that Azure takes.
func plain(text string) bool {
	if text == "" || text == "." || text == ".." {
		return false
	}
	return !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.()", r)
	})
}

// kind is the full type, "Microsoft.Compute/virtualMachines".
func (id armID) kind() string { return id.provider + "/" + strings.Join(id.types, "/") }

// name is the resource's own name, the last one.
func (id armID) name() string { return id.names[len(id.names)-1] }

// as writes the types as Microsoft's contract writes them ("Microsoft.Compute/virtualMachines"), whatever the person wrote.
func (id armID) as(kind string) armID {
	words := strings.Split(kind, "/")
	id.provider, id.types = words[0], words[1:]
	return id
}

// parent is the id that contains this one, whose first n types are kept.
func (id armID) parent(n int) armID {
	id.types, id.names = id.types[:n], id.names[:n]
	return id
}

// path is the id as the path of a request.
func (id armID) path() string {
	var b strings.Builder
	for i, part := range id.parts() {
		if i%2 == 1 {
			part = url.PathEscape(part)
		}
		b.WriteString("/" + part)
	}
	return b.String()
}

// String is the id as people know it.
func (id armID) String() string { return "/" + strings.Join(id.parts(), "/") }

// parts are the segments; each second one is a value.
func (id armID) parts() []string {
	parts := []string{"subscriptions", id.subscription, "resourceGroups", id.group, "providers", id.provider}
	for i := range id.types {
		parts = append(parts, id.types[i], id.names[i])
	}
	return parts
}
