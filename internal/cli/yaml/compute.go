package yaml

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Compute is a compute read from YAML: the body of its ARM PUT.
type Compute struct {
	Name     string
	Kind     string // as written in type, lower case
	Body     map[string]any
	Warnings []workspace.Problem
}

// computeTypes are the YAML types and their computeType on the wire; those from "ssh" on are ours, the others are v2's.
var computeTypes = map[string]string{
	"virtualmachine": "VirtualMachine", "amlcompute": "AmlCompute", "kubernetes": "Kubernetes", "synapsespark": "SynapseSpark", "computeinstance": "ComputeInstance",
	"ssh": "VirtualMachine", "local": "Local", "docker": "Docker", "batch": "Batch", "hdinsight": "HDInsight", "databricks": "Databricks",
	"datalakeanalytics": "DataLakeAnalytics", "adla": "DataLakeAnalytics", "aci": "ACI", "aks": "AKS",
}

// computeSchemas are the names of v2's schema files, lower case, and the type that each stands for.
var computeSchemas = map[string]string{
	"vmcompute": "virtualmachine", "amlcompute": "amlcompute", "kubernetescompute": "kubernetes", "synapsesparkcompute": "synapsespark",
	"synapsespark": "synapsespark", "kubernetes": "kubernetes", "computeinstance": "computeinstance", "compute": "",
}

// ComputeType is the computeType on the wire of a kind or a YAML type; an unknown word stands for itself.
func ComputeType(kind string) string {
	if t, ok := computeTypes[strings.ToLower(kind)]; ok {
		return t
	}
	return kind
}

var (
	commonCompute = []string{"$schema", "name", "type", "description", "location", "tags", "resource_id", "identity", "id", "created_on", "provisioning_state", "provisioning_errors"}
	// ourCompute are the fields of the kinds that v2 lacks, beside settings, which the kind's driver defines.
	ourCompute = []string{"address", "ssh_settings", "settings", "slots", "gpus", "folder", "jump", "use_agent", "host_key", "config_file", "password_file", "distinct"}
	sshFields  = []string{"admin_username", "admin_password", "ssh_private_key_file", "ssh_port", "passphrase", "passphrase_file", "ssh_key_value"}
)

var typeFields = map[string][]string{
	"virtualmachine": append([]string{"ssh_settings", "compute_location"}, ourCompute...),
	"amlcompute": {
		"size", "tier", "min_instances", "max_instances", "idle_time_before_scale_down", "ssh_public_access_enabled", "ssh_settings", "network_settings",
		"enable_node_public_ip", "alias",
	},
	"kubernetes":      append([]string{"namespace", "properties", "image", "kubeconfig_file"}, ourCompute...),
	"docker":          append([]string{"image", "tls"}, ourCompute...),
	"synapsespark":    {"node_family", "node_size", "node_count", "spark_version", "scale_settings", "auto_pause_settings"},
	"computeinstance": {"size", "ssh_settings", "network_settings", "schedules", "idle_time_before_shutdown_minutes", "setup_scripts"},
	"databricks":      append([]string{"access_token", "workspace_url"}, ourCompute...),
	"batch":           append([]string{"account_name", "pool"}, ourCompute...),
}

// ParseCompute reads a compute of any type.
func ParseCompute(d *Document) (*Compute, error) {
	r := &reader{doc: d}
	kind, err := computeType(r)
	if err != nil {
		return nil, err
	}
	fields, ok := typeFields[kind]
	if !ok {
		fields = append([]string{"account_name", "workspace_url", "access_token", "pool"}, ourCompute...)
	}
	o := r.object(d.Root, "", append(append([]string{}, commonCompute...), fields...)...)
	c := &Compute{Name: o.text("name"), Kind: kind}
	outer := map[string]any{"computeType": computeTypes[kind]}
	body := map[string]any{"properties": outer}
	for key, wire := range map[string]string{"description": "description", "resource_id": "resourceId"} {
		if v := o.text(key); v != "" {
			outer[wire] = v
		}
	}
	if v := o.text("location"); v != "" {
		body["location"] = v
		outer["computeLocation"] = v
	}
	if v := o.texts("tags"); v != nil {
		body["tags"] = v
	}
	if id := o.child("identity", "type", "user_assigned_identities", "principal_id", "tenant_id"); id.n != nil {
		if kind == "kubernetes" {
			r.warn(id.n.Line, id.n.Column, "Ignored", `"identity" has no meaning here: a cluster is entered by its kubeconfig or by the server's own service account`, "leave it out, or keep it for Azure")
		}
		body["identity"] = map[string]any{"type": id.choice("type", map[string]string{"system_assigned": "SystemAssigned", "user_assigned": "UserAssigned"})}
	}
	switch kind {
	case "virtualmachine":
		outer["properties"] = distinct(o, machine(o))
	case "amlcompute", "computeinstance":
		outer["properties"] = cluster(o)
	case "kubernetes":
		outer["properties"] = distinct(o, k8s(o))
	case "docker":
		outer["properties"] = distinct(o, map[string]any{"settings": engine(o)})
	case "synapsespark":
	default:
		outer["properties"] = distinct(o, map[string]any{"settings": driverSettings(o)})
	}
	c.Body = body
	if o.has("name") {
		if bad := workspace.CheckComputeName(c.Name); bad != nil {
			r.fail(o.get("name"), bad.Code, bad.Message, bad.Mend)
		}
	}
	c.Warnings = r.warnings
	return c, r.err()
}

// computeType finds the type in "type", or in "$schema" when that is absent.
func computeType(r *reader) (string, error) {
	root := r.doc.Root
	n := root.Get("type")
	kind := ""
	if n != nil && n.Kind == Scalar {
		kind = strings.ToLower(n.Text)
	} else if n = root.Get("$schema"); n != nil && n.Kind == Scalar {
		base := n.Text[strings.LastIndexByte(n.Text, '/')+1:]
		kind = computeSchemas[strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(base, ".json"), ".schema"))]
	}
	if computeTypes[kind] != "" {
		return kind, nil
	}
	names := make([]string, 0, len(computeTypes))
	for name := range computeTypes {
		names = append(names, name)
	}
	p := &workspace.Problem{
		Class: workspace.Invalid, Code: "InvalidComputeType", Target: r.doc.File,
		Message: r.doc.File + `: the field "type" is missing`, Mend: "add it, for example type: ssh",
	}
	if kind != "" {
		p.Message = fmt.Sprintf("%s: %q is not a type of compute", r.doc.where(n.Line, n.Column), clip(kind))
		p.Mend = "use one of virtualmachine, amlcompute, kubernetes, synapsespark, ssh, local, docker, batch, hdinsight, databricks, datalakeanalytics"
		if near := nearest(kind, names); near != "" {
			p.Mend = fmt.Sprintf("did you mean %q?", near)
		}
		if kind == "command" || kind == "pipeline" || kind == "sweep" {
			p.Mend = "this looks like a job: moorage job create -f " + r.doc.File
		}
	}
	return "", p
}

// machine is the inner properties of a VirtualMachine as v2 sends them (azureml-v2.md §5). Fields of ours beside them
// travel in settings.
func machine(o object) map[string]any {
	inner := map[string]any{}
	ssh := o.child("ssh_settings", sshFields...)
	port := int64(22)
	if n, ok := ssh.number("ssh_port", 1); ok {
		port = n
	}
	inner["sshPort"] = port
	account := map[string]any{}
	if v := ssh.text("admin_username"); v != "" {
		account["username"] = v
	}
	if v := ssh.text("admin_password"); v != "" {
		account["password"] = v
	}
	if v := o.r.secretFile(ssh, "ssh_private_key_file"); v != "" {
		account["privateKeyData"] = v
	}
	if v := passphrase(ssh); v != "" {
		account["passphrase"] = v
	}
	if len(account) > 0 {
		inner["administratorAccount"] = account
	}
	settings := ownSettings(o)
	if v, ok := settings["address"]; ok {
		inner["address"] = v
		delete(settings, "address")
	}
	if len(settings) > 0 {
		inner["settings"] = settings
	}
	return inner
}

// distinct adds the wish to attach although another compute looks like the same machine, as --distinct does.
func distinct(o object, inner map[string]any) map[string]any {
	if v, _ := o.boolean("distinct"); v {
		inner["distinct"] = true
	}
	return inner
}

func passphrase(ssh object) string {
	if v := ssh.text("passphrase"); v != "" {
		return v
	}
	return strings.TrimRight(ssh.r.secretFile(ssh, "passphrase_file"), "\r\n")
}

// secretFile is the content of the file that a field names.
func (r *reader) secretFile(o object, key string) string {
	path := o.text(key)
	if path == "" {
		return ""
	}
	text, err := os.ReadFile(r.doc.Path(path))
	if err != nil {
		r.fail(o.get(key), "FileNotReadable", fmt.Sprintf("%s cannot be read: %s", r.doc.Path(path), reason(err)), "relative paths start at the folder of the YAML file")
		return ""
	}
	return string(text)
}

// driverSettings is what the driver of one of our kinds takes, with v2's ssh_settings folded in.
func driverSettings(o object) map[string]any {
	s := ownSettings(o)
	ssh := o.child("ssh_settings", sshFields...)
	if v := ssh.text("admin_username"); v != "" {
		s["username"] = v
	}
	if v := ssh.text("admin_password"); v != "" {
		s["password"] = v
	}
	if v := o.r.secretFile(ssh, "ssh_private_key_file"); v != "" {
		s["private_key"] = v
	}
	if v := passphrase(ssh); v != "" {
		s["passphrase"] = v
	}
	if n, ok := ssh.number("ssh_port", 1); ok {
		a, _ := s["address"].(string)
		if u, err := url.Parse(a); err == nil && u.Host != "" && u.Port() == "" {
			u.Host += ":" + strconv.FormatInt(n, 10)
			s["address"] = u.String()
		}
	}
	for _, key := range []string{"access_token", "workspace_url", "account_name", "pool"} {
		if v := o.text(key); v != "" {
			s[key] = v
		}
	}
	return s
}

// ownSettings are the fields that all our kinds share, over those of "settings".
func ownSettings(o object) map[string]any {
	s := map[string]any{}
	if n := o.get("settings"); n != nil {
		if n.Kind != Map {
			o.r.fail(n, "InvalidField", `"settings" must be a map, not `+n.what(), "")
		}
		for _, f := range n.Fields {
			s[f.Key] = f.Value.Any()
		}
	}
	for _, key := range []string{"address", "folder", "host_key", "config_file"} {
		if v := o.text(key); v != "" {
			s[key] = v
		}
	}
	if v := strings.TrimRight(o.r.secretFile(o, "password_file"), "\r\n"); v != "" {
		s["password"] = v
	}
	for _, key := range []string{"slots", "gpus"} {
		if n, ok := o.number(key, 0); ok {
			s[key] = n
		}
	}
	if v := o.list("jump"); v != nil {
		s["jump"] = v
	}
	if v, ok := o.boolean("use_agent"); ok {
		s["use_agent"] = v
	}
	return s
}

// cluster is the inner properties of AmlCompute as v2 sends them, and in alias, a field of ours, the attached compute
// that it stands for.
func cluster(o object) map[string]any {
	inner := map[string]any{}
	if v := o.text("size"); v != "" {
		inner["vmSize"] = v
	}
	if v := o.choice("tier", map[string]string{"dedicated": "Dedicated", "low_priority": "LowPriority", "lowpriority": "LowPriority"}); v != "" {
		inner["vmPriority"] = v
	}
	if v := o.text("alias"); v != "" {
		inner["alias"] = v
	}
	if o.has("min_instances") || o.has("max_instances") || o.has("idle_time_before_scale_down") {
		scale := map[string]any{"minNodeCount": int64(0), "maxNodeCount": int64(1)}
		if n, ok := o.number("min_instances", 0); ok {
			scale["minNodeCount"] = n
		}
		if n, ok := o.number("max_instances", 0); ok {
			scale["maxNodeCount"] = n
		}
		if n, ok := o.number("idle_time_before_scale_down", 1); ok {
			scale["nodeIdleTimeBeforeScaleDown"] = isoDuration(n)
		}
		inner["scaleSettings"] = scale
	}
	return inner
}
