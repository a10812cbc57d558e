// Package attach reads the bodies in which computes are put and changed. ARM's dialect and the native one take the same
// bodies, so they share it.
package attach

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/api"
	"github.com/moorage-ml/moorage/internal/control"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// Request reads the body of a compute's PUT (azureml-v2.md §5). Its document holds no secret. Kinds are those
// that can be attached; defaultCompute is what an AmlCompute stands for that names no other.
func Request(body json.RawMessage, kinds []control.KindInfo, defaultCompute string) (control.AttachRequest, error) {
	doc := api.AsObject(body)
	outer := doc.Child("properties")
	inner := outer.Child("properties")
	computeType := outer.Text("computeType")
	if computeType == "" {
		return control.AttachRequest{}, invalid("MissingComputeType", "properties.computeType", "the compute has no computeType", "give one, e.g. VirtualMachine or Local")
	}
	if strings.EqualFold(computeType, "AmlCompute") {
		return alias(doc, outer, inner, defaultCompute), nil
	}
	req := control.AttachRequest{Kind: kindOf(computeType)}
	if strings.EqualFold(computeType, "AKS") {
		req.Kind = kubernetes
	}
	req.ResourceID = outer.Text("resourceId")
	i := slices.IndexFunc(kinds, func(k control.KindInfo) bool { return k.Kind == req.Kind })
	if i < 0 {
		if !control.Foreseen(req.Kind) {
			return req, unknownKind(computeType, kinds)
		}
		req.Address = address("", inner, req.ResourceID, req.Kind)
		req.Doc = withoutSettings(doc)
		return req, nil
	}
	settings := settingsOf(inner, req.Kind)
	req.Address = address(settings.Text("address"), inner, req.ResourceID, req.Kind)
	_ = json.Unmarshal(inner["sshPort"], &req.Port) // another type is as good as none
	delete(settings, "address")
	req.Distinct = string(inner["distinct"]) == "true"
	req.Settings = settings.JSON()
	req.Doc = withoutSecrets(doc, kinds[i])
	return req, nil
}

// settingsOf gives the driver's settings in a body, with what Azure's clients write beside them.
func settingsOf(inner api.Object, kind string) api.Object {
	settings, account := inner.Child("settings"), inner.Child("administratorAccount")
	for from, to := range map[string]string{"username": "username", "password": "password", "privateKeyData": "private_key", "passphrase": "passphrase"} {
		if account.Text(from) != "" {
			settings.Set(to, account.Text(from))
		}
	}
	if kind == kubernetes {
		clusterSettings(settings, inner)
	}
	return settings
}

// address is where the target is: what the settings or the properties say, or the resource id when it is an address
// itself ("ssh://bob@host:22"). Empty leaves the question to the catalogue.
func address(given string, inner api.Object, resourceID, kind string) string {
	if given == "" {
		given = inner.Text("address")
	}
	if given == "" && strings.Contains(resourceID, "://") {
		given = resourceID
	}
	if given == "" || kind != "ssh" {
		return given
	}
	if !strings.Contains(given, "://") {
		given = "ssh://" + given
	}
	scheme, rest, _ := strings.Cut(given, "://")
	user, host, found := strings.Cut(rest, "@")
	if !found {
		user, host = "", rest
	}
	if user == "" {
		user = inner.Child("administratorAccount").Text("username")
	}
	host = strings.TrimSuffix(host, "/")
	if !hasPort(host) {
		var port int
		if json.Unmarshal(inner["sshPort"], &port) != nil || port == 0 {
			port = 22
		}
		host = fmt.Sprintf("%s:%d", host, port)
	}
	if user != "" {
		host = user + "@" + host
	}
	return scheme + "://" + host
}

var port = regexp.MustCompile(`:\d+$`)

func hasPort(host string) bool {
	if strings.Contains(host, "]") || strings.Count(host, ":") == 1 {
		return port.MatchString(host)
	}
	return false
}

// aliasOf finds the name of a compute in the text that Azure's clients let a person write.
var aliasOf = regexp.MustCompile(`(?i)\balias of ([A-Za-z][A-Za-z0-9-]*[A-Za-z0-9])`)

// alias makes an AmlCompute a second name of an attached compute: the one that its tag "compute" or its description
// ("alias of NAME") names, or the default one. It provisions nothing.
func alias(doc, outer, inner api.Object, defaultCompute string) control.AttachRequest {
	req := control.AttachRequest{Kind: "amlcompute", Alias: doc.Child("tags").Text("compute")}
	if req.Alias == "" {
		req.Alias = inner.Text("alias")
	}
	if m := aliasOf.FindStringSubmatch(outer.Text("description")); req.Alias == "" && m != nil {
		req.Alias = m[1]
	}
	if req.Alias == "" {
		req.Alias = defaultCompute
	}
	req.Doc = withoutSecrets(doc, control.KindInfo{})
	return req
}

func unknownKind(computeType string, kinds []control.KindInfo) error {
	var names []string
	for _, k := range kinds {
		name := ComputeType(k.Kind)
		if !strings.EqualFold(name, k.Kind) {
			name += " (kind " + k.Kind + ")"
		}
		names = append(names, name)
	}
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedComputeType", Target: "properties.computeType",
		Message: fmt.Sprintf("this server does not yet run computes of type %s", clip(computeType)),
		Mend:    "attach one of these types: " + strings.Join(names, ", ") + ", AmlCompute (an alias)",
	}
}

// withoutSettings gives the document of a compute whose kind has no driver, and so no schema to say what of its settings
// is a secret: none is kept.
func withoutSettings(doc api.Object) json.RawMessage {
	outer := doc.Child("properties")
	inner := outer.Child("properties")
	delete(inner, "settings")
	out := maps.Clone(doc)
	outer.Set("properties", inner)
	out.Set("properties", outer)
	return withoutSecrets(out, control.KindInfo{})
}

// Update reads the body of a compute's PATCH. The address may be repeated but not changed; control sees to that.
func Update(row store.Compute, body json.RawMessage, kinds []control.KindInfo) (control.UpdateRequest, error) {
	i := slices.IndexFunc(kinds, func(k control.KindInfo) bool { return k.Kind == row.Kind })
	if i < 0 {
		return control.UpdateRequest{}, unknownKind(ComputeType(row.Kind), kinds)
	}
	change := api.AsObject(body)
	outer := change.Child("properties")
	inner := outer.Child("properties")
	settings := settingsOf(inner, row.Kind)
	if given := settings.Text("address"); given != "" {
		settings.Set("address", address(given, inner, "", row.Kind))
	}
	doc := api.AsObject(merge(row.Doc, withoutSecrets(change, kinds[i])))
	return control.UpdateRequest{Settings: settings.JSON(), Doc: doc.JSON()}, nil
}

// merge lays a change over a document, object by object; null takes a field away (RFC 7396).
func merge(doc, change json.RawMessage) json.RawMessage {
	var c api.Object
	if json.Unmarshal(change, &c) != nil || c == nil {
		return change
	}
	d := api.AsObject(doc)
	for field, v := range c {
		if string(v) == "null" {
			delete(d, field)
			continue
		}
		d[field] = merge(d[field], v)
	}
	return d.JSON()
}

// secretFields are fields that hold secrets in bodies of Azure's clients, whatever the kind.
var secretFields = []string{
	"password", "privateKeyData", "private_key", "passphrase", "databricksAccessToken", "access_token", "accessToken", "adminUserPassword", "accountKey", "account_key",
	"clientSecret", "client_secret", "sasToken", "secret", "token", "kubeconfig", "relayConnectionString", "serviceBusConnectionString",
}

// withoutSecrets gives the document without fields that hold secrets: those known by name, and those that the kind's
// schema marks as writeOnly.
func withoutSecrets(doc api.Object, kind control.KindInfo) json.RawMessage {
	var schema struct {
		Properties map[string]struct {
			WriteOnly bool `json:"writeOnly"`
		} `json:"properties"`
	}
	names := slices.Clone(secretFields)
	if len(kind.Schema) > 0 && json.Unmarshal(kind.Schema, &schema) == nil {
		for name, p := range schema.Properties {
			if p.WriteOnly {
				names = append(names, name)
			}
		}
	}
	return strip(withoutCertificateKey(doc).JSON(), names)
}

func strip(doc json.RawMessage, names []string) json.RawMessage {
	var list []json.RawMessage
	if json.Unmarshal(doc, &list) == nil && list != nil {
		for i := range list {
			list[i] = strip(list[i], names)
		}
		b, err := json.Marshal(list)
		if err != nil {
			panic("attach: a list of raw values cannot be encoded: " + err.Error()) // each was valid when it came
		}
		return b
	}
	var o api.Object
	if json.Unmarshal(doc, &o) != nil || o == nil {
		return doc
	}
	maps.DeleteFunc(o, func(field string, _ json.RawMessage) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, field) })
	})
	for field, v := range o {
		o[field] = strip(v, names)
	}
	return o.JSON()
}

func invalid(code, target, message, mend string) *workspace.Problem {
	return &workspace.Problem{Class: workspace.Invalid, Code: code, Target: target, Message: message, Mend: mend}
}

// computeTypes are Azure's words for kinds; a kind of ours alone is written with a capital letter.
var computeTypes = map[string]string{
	"ssh": "VirtualMachine", "kubernetes": "Kubernetes", "synapsespark": "SynapseSpark", "hdinsight": "HDInsight", "databricks": "Databricks", "adla": "DataLakeAnalytics",
	"aci": "ACI", "datafactory": "DataFactory",
}

// ComputeType is Azure's word for a kind.
func ComputeType(kind string) string {
	if t, ok := computeTypes[kind]; ok {
		return t
	}
	if kind == "" {
		return ""
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}

func kindOf(computeType string) string {
	for kind, t := range computeTypes {
		if strings.EqualFold(t, computeType) {
			return kind
		}
	}
	return strings.ToLower(computeType)
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
