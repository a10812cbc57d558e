package control

import (
	"archive/zip"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/environment"
	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/tracking"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// LocalWay is how a run on the user's own computer reaches this server, and as whom.
type LocalWay struct {
	Service      string // scheme, host and port, as the client reached them
	Token        workspace.Secret
	Expires      time.Time // of Token
	ExperimentID string
	// Sign gives the query by which a blob of a container may be reached; the empty blob is all of it.
	Sign func(container, blob, verbs string) string
}

// local are the programs that the client is sent.
//
//go:embed local
var local embed.FS

// localFolder is where the client looks for Invocation.sh, or on Windows Invocation.bat (azureml-v1.md §10).
const localFolder = "azureml-setup/"

// LocalRun accepts a run that the client starts on its own computer, and gives the zip file from which it does. The run has
// no job: the program in the file moves it. Way is asked for when the run is there, because its token depends on it.
func (c *Control) LocalRun(ctx context.Context, p workspace.Principal, ws workspace.Workspace, name string, r ScriptRun, way LocalWay) ([]byte, error) {
	if p := workspace.CheckName("run", name); p != nil {
		return nil, p
	}
	d, err := parseRunDefinition(r.Definition)
	if err == nil {
		err = d.fits(store.Compute{Name: "local", Kind: "local"})
	}
	if err == nil {
		var size scale
		if size, err = d.scale(); err == nil {
			err = size.alone()
		}
	}
	if err != nil {
		return nil, err
	}
	if d.inContainer() {
		return nil, &workspace.Problem{
			Class: workspace.Unsupported, Code: "UnsupportedDocker", Target: "docker", Message: "a run on the client's own computer does not use Docker here",
			Mend: "switch Docker off, or attach the computer as a compute",
		}
	}
	kept, err := c.KeepEnvironment(ctx, p, ws, d.Environment)
	if err != nil {
		return nil, err
	}
	data, err := c.localData(ctx, p, ws, name, d, way)
	if err != nil {
		return nil, err
	}
	spec := localSpec{
		Service: way.Service, Workspace: ws.Path(), Experiment: r.Experiment, Run: name, Container: "dcid." + name, Token: way.Token.Reveal(),
		Script: d.Script, Command: strings.TrimSpace(d.Command), Arguments: d.arguments(), Seconds: d.seconds(), Registers: data.registers, localData: *data,
		Variables: localVariables(ws, name, r.Experiment, way),
	}
	maps.Copy(spec.Variables, d.variables(kept.Spec))
	if spec.Interpreter = kept.Spec.Interpreter; spec.Interpreter == "" {
		if err := spec.packages(kept.Spec, c.Curated); err != nil {
			return nil, err
		}
	}
	target := "local"
	kind := runType
	patch := tracking.RunPatch{
		ID: name, Type: &kind, Target: &target, Properties: d.properties(r, target), Body: d.body(r, &runData{read: data.read, made: data.made}),
	}
	if r.Parent != "" {
		patch.Parent = &r.Parent
	}
	t := tracking.New(tracking.Config{Store: c.Store, Blob: c.Blob, Clock: c.Clock})
	if _, err := t.PatchRun(ctx, tracking.Scope{WorkspaceID: ws.ID}, r.Experiment, p.Name, patch); err != nil {
		return nil, err
	}
	return spec.zip()
}

// localVariables are those of a job (azureml-v1.md §9) but for the credentials.
func localVariables(ws workspace.Workspace, run, experiment string, way LocalWay) map[string]string {
	return map[string]string{
		"AZUREML_RUN_ID": run, "AZUREML_EXPERIMENT_NAME": experiment, "AZUREML_EXPERIMENT_ID": way.ExperimentID,
		"AZUREML_ARM_SUBSCRIPTION": ws.Subscription, "AZUREML_ARM_RESOURCEGROUP": ws.ResourceGroup,
		"AZUREML_ARM_WORKSPACE_NAME": ws.Name, "AZUREML_ARM_PROJECT_NAME": experiment, "AZUREML_WORKSPACE_ID": ws.ID,
		"AZUREML_DATA_CONTAINER_ID": "dcid." + run, "AZUREML_RUN_TOKEN_EXPIRY": way.Expires.UTC().Format(time.RFC3339),
		"AZUREML_SERVICE_ENDPOINT": way.Service, "AZUREML_DISCOVERY_SERVICE_ENDPOINT": way.Service + "/discovery/workspaces/" + ws.ID,
		"ARM_CLOUD_METADATA_URL": way.Service + "/metadata/endpoints?api-version=2019-05-01", "AZUREML_CURRENT_CLOUD": "MoorageCloud",
		"MLFLOW_TRACKING_URI": way.Service + "/mlflow/v1.0" + ws.Path(), "MLFLOW_RUN_ID": run, "MLFLOW_EXPERIMENT_NAME": experiment,
		"PYTHONUNBUFFERED": "1",
	}
}

// localSpec is what run.py reads.
type localSpec struct {
	Service     string            `json:"service"`
	Workspace   string            `json:"workspace"` // its path
	Experiment  string            `json:"experiment"`
	Run         string            `json:"run"`
	Container   string            `json:"container"` // of its artifacts
	Token       string            `json:"token"`
	Interpreter string            `json:"interpreter"` // the user's own; else Packages
	Packages    *localPackages    `json:"packages"`
	Script      string            `json:"script"`
	Command     string            `json:"command"` // in place of a script
	Arguments   []string          `json:"arguments"`
	Variables   map[string]string `json:"variables"`
	Seconds     int64             `json:"seconds"`   // 0: no limit
	Registers   bool              `json:"registers"` // outputs are registered at its end
	localData
}

type localPackages struct {
	Python       string   `json:"python"`
	CondaFile    string   `json:"conda_file"`
	Requirements []string `json:"requirements"`
	Say          []string `json:"say"`
	Hash         string   `json:"hash"`
}

func (s *localSpec) packages(wanted environment.Spec, curated environment.Curated) error {
	p, err := environment.ReadPackages(wanted, curated)
	if err == nil && p.CondaFile != "" {
		s.Packages = &localPackages{p.Python, p.CondaFile, p.Requirements, p.Say, p.Hash}
	}
	return err
}

// zip is the file that the client unpacks over the copy of the project.
func (s *localSpec) zip() ([]byte, error) {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	add := func(name string, mode fs.FileMode, content []byte) error {
		header := &zip.FileHeader{Name: localFolder + name, Method: zip.Deflate}
		header.SetMode(mode)
		w, err := z.CreateHeader(header)
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("control: local run %s: %w", s.Run, err)
	}
	sh, bat, program, err := s.programs()
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name    string
		mode    fs.FileMode
		content []byte
	}{
		{"Invocation.sh", 0o755, sh},
		{"Invocation.bat", 0o644, bat},
		{"run.py", 0o644, program},
		{"run.json", 0o600, text},
		{"flush/sitecustomize.py", 0o644, flushModule},
	} {
		if err := add(f.name, f.mode, f.content); err != nil {
			return nil, fmt.Errorf("control: local run %s: %w", s.Run, err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("control: local run %s: %w", s.Run, err)
	}
	return out.Bytes(), nil
}

// programs are the two scripts that start run.py, for the shells of Linux and macOS and for that of Windows, and run.py.
func (s *localSpec) programs() (sh, bat, program []byte, err error) {
	own, quoted := "", ""
	if s.Interpreter != "" {
		own, quoted = shellWord(s.Interpreter), batchWord(s.Interpreter)
	}
	read := func(name, python string) []byte {
		b, e := local.ReadFile("local/" + name)
		if err == nil {
			err = e
		}
		return bytes.ReplaceAll(b, []byte("{{python}}"), []byte(python))
	}
	sh, bat, program = read("Invocation.sh", own), read("Invocation.bat", quoted), read("run.py", "")
	return sh, bytes.ReplaceAll(bat, []byte("\n"), []byte("\r\n")), program, err
}

// batchWord quotes a path for a batch file of Windows. No path there holds a quote.
func batchWord(text string) string {
	return `"` + strings.NewReplacer(`"`, "", "%", "%%", "\r", "", "\n", "").Replace(text) + `"`
}

// localData is what run.py fetches and stores.
type localData struct {
	Inputs    []localItem       `json:"inputs"`
	Outputs   []localItem       `json:"outputs"`
	Variables map[string]string `json:"data_variables"`

	read, made []lineage
	registers  bool
}

// localItem is an input or output.
type localItem struct {
	Name      string            `json:"name"`
	At        string            `json:"at"`        // where the client wants it, or ""
	Token     string            `json:"token"`     // what stands for its value in arguments
	Variables []string          `json:"variables"` // that have its value
	Value     string            `json:"value"`     // of an input that is not fetched
	Files     map[string]string `json:"files"`     // of an input: signed paths at the server, by name below its folder
	File      string            `json:"file"`      // the one file that is meant, if it is one
	Prefix    string            `json:"prefix"`    // of an output: the path at the server below which its files go, and
	Query     string            `json:"query"`     // what signs it
}

func (c *Control) localData(ctx context.Context, p workspace.Principal, ws workspace.Workspace, run string, d *runDefinition, way LocalWay) (*localData, error) {
	data, err := c.data(ctx, p, ws, run, d)
	if err != nil {
		return nil, err
	}
	out := &localData{Inputs: []localItem{}, Outputs: []localItem{}, Variables: data.variables, read: data.read, made: data.made, registers: len(data.datasets) > 0}
	for _, item := range data.items {
		l := localItem{Name: item.name, At: item.at, Token: item.token, Variables: item.variables, Value: item.value}
		if item.output {
			container, folder, _ := strings.Cut(strings.TrimPrefix(item.prefix, "c/"), "/")
			l.Prefix, l.Query = serverPath(container, folder)+"/", way.Sign(container, "", "cw")
			out.Outputs = append(out.Outputs, l)
			continue
		}
		l.Files, l.File = map[string]string{}, item.file
		for _, spot := range item.places {
			files, err := c.blobsOf(ctx, spot)
			if err != nil {
				return nil, err
			}
			for name, info := range files {
				container, blob, _ := strings.Cut(strings.TrimPrefix(info.Name, "c/"), "/")
				l.Files[name] = serverPath(container, blob) + "?" + way.Sign(container, blob, "r")
			}
		}
		out.Inputs = append(out.Inputs, l)
	}
	return out, nil
}

// serverPath is the path of a blob at this server by whatever name it is reached.
func serverPath(container, blob string) string {
	return (&url.URL{Path: path.Join("/blob/run", container, blob)}).EscapedPath()
}
