package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// What a run's definition says of its data (azureml-v1.md §21.2).
type (
	runInput struct {
		DataLocation struct {
			Dataset  *datasetRef
			DataPath *dataPath
			URI      *struct{ Path string }
		}
		Mechanism               string
		EnvironmentVariableName string
		PathOnCompute           string
	}
	datasetRef struct {
		ID      string
		Name    string
		Version scalar
	}
	dataPath struct {
		DatastoreName string
		RelativePath  string
	}
	runOutput struct {
		OutputLocation *struct {
			DataPath *dataPath
			URI      *struct{ Path string }
		}
		Mechanism         string
		AdditionalOptions struct {
			PathOnCompute       string
			RegistrationOptions *struct {
				Name        string
				Description string
				Tags        textMap
			}
		}
	}
	dataReference struct {
		DataStoreName   string
		PathOnDataStore string
		PathOnCompute   string
		Mode            string
	}
)

// runData are the data of a run, resolved: what is read and what is written, wherever the script runs.
type runData struct {
	items     []dataItem
	variables map[string]string // from which the client makes run.input_datasets and run.output_datasets
	read      []lineage
	made      []lineage
	datasets  []workspace.DatasetSpec
}

// dataItem is an input or an output.
type dataItem struct {
	name      string   // unique among inputs, and among outputs
	token     string   // what stands for its value in arguments
	variables []string // of the environment, that have its value
	at        string   // the place that the client chose for it; "" for none

	output bool
	prefix string // of an output: where it goes in the blob store, without a slash at the end

	value  string // of an input that is not fetched
	places []place
	file   string // of an input that is one file: its name
	link   bool   // of an input: read-only is enough
}

// data resolves the data of a run's definition.
func (c *Control) data(ctx context.Context, p workspace.Principal, ws workspace.Workspace, run string, d *runDefinition) (*runData, error) {
	out := &runData{variables: map[string]string{}}
	var kinds []string
	for _, name := range slices.Sorted(maps.Keys(d.Data)) {
		in := d.Data[name]
		if in.EnvironmentVariableName == "" {
			in.EnvironmentVariableName = name
		}
		if err := checkVariable("data", name, in.EnvironmentVariableName); err != nil {
			return nil, err
		}
		if err := c.dataInput(ctx, ws, name, in, out); err != nil {
			return nil, err
		}
		kinds = append(kinds, in.EnvironmentVariableName+":"+strings.ToLower(in.Mechanism))
	}
	for _, name := range slices.Sorted(maps.Keys(d.OutputData)) {
		if err := checkVariable("outputData", name, name); err != nil {
			return nil, err
		}
		if err := c.dataOutput(ctx, p, ws, run, name, d.OutputData[name], out); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.DataReferences)) {
		if err := checkVariable("dataReferences", name, "_"+name); err != nil {
			return nil, err
		}
		if err := c.dataReference(ctx, ws, name, d.DataReferences[name], out); err != nil {
			return nil, err
		}
	}
	if len(kinds) > 0 {
		out.variables["AZUREML_DATASET_ENVIRONMENT_VARS"] = strings.Join(kinds, ",")
	}
	if len(d.OutputData) > 0 {
		out.variables["AZUREML_DATASET_FILE_OUTPUTS"] = strings.Join(slices.Sorted(maps.Keys(d.OutputData)), ";")
	}
	return out, nil
}

var variableName = newNameForm(`^[A-Za-z_][A-Za-z0-9_]*$`, 200)

func checkVariable(field, name, variable string) error {
	if variableName.MatchString(variable) {
		return nil
	}
	return invalid("InvalidName", field, fmt.Sprintf("%s %s cannot be told to the script", field, quote(name)), quote(variable)+" is not the name of an environment variable", "use letters, digits and underscores")
}

// dataInput is a dataset that the run reads.
func (c *Control) dataInput(ctx context.Context, ws workspace.Workspace, name string, in runInput, out *runData) error {
	field, mechanism := "data."+name, strings.ToLower(in.Mechanism)
	set, err := c.inputSet(ctx, ws, field, in)
	if err != nil {
		return err
	}
	variable := in.EnvironmentVariableName
	item := dataItem{
		name: name, token: "DatasetConsumptionConfig:" + name, at: in.PathOnCompute, link: mechanism == "mount",
		variables: []string{variable, strings.ToUpper(variable), "AZUREML_DATAREFERENCE_" + variable},
	}
	switch mechanism {
	case "direct": // the script loads the dataset itself
		item.value = set.saved
	case "mount", "download":
		if item.places, err = c.places(ctx, ws, field, set.paths); err == nil {
			item.file, err = c.onlyFile(ctx, item.places)
		}
		if err != nil {
			return err
		}
	default:
		return unknownMechanism(field, fmt.Sprintf("input %q", name), in.Mechanism, "use as_mount(), as_download() or as_named_input() alone")
	}
	if set.saved != "" {
		out.read = append(out.read, readOf(name, mechanism, in.PathOnCompute, set))
	}
	out.items = append(out.items, item)
	return nil
}

func unknownMechanism(field, what, mechanism, mend string) error {
	return &workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedMechanism", Target: field,
		Message: what + " has the mechanism " + quote(mechanism) + ", which this kind of compute has not", Mend: mend,
	}
}

// dataReference is a path of a datastore that the run reads, or writes when its mode is upload.
func (c *Control) dataReference(ctx context.Context, ws workspace.Workspace, name string, ref dataReference, out *runData) error {
	root, err := c.datastorePath(ctx, ws, ref.DataStoreName, ref.PathOnDataStore)
	if err != nil {
		return err
	}
	item := dataItem{
		name: "reference." + name, token: "$AZUREML_DATAREFERENCE_" + name, variables: []string{"AZUREML_DATAREFERENCE_" + name}, at: ref.PathOnCompute,
	}
	switch mode := strings.ToLower(ref.Mode); mode {
	case "upload":
		item.output, item.prefix = true, root
	case "mount", "download", "":
		item.link, item.places = mode != "download", []place{{root: root}}
		if item.file, err = c.onlyFile(ctx, item.places); err != nil {
			return err
		}
	default:
		return unknownMechanism("dataReferences."+name, fmt.Sprintf("data reference %q", name), ref.Mode, "use as_mount(), as_download() or as_upload()")
	}
	out.items = append(out.items, item)
	return nil
}

// dataOutput is a folder that the run writes, which becomes a dataset.
func (c *Control) dataOutput(ctx context.Context, p workspace.Principal, ws workspace.Workspace, run, name string, o runOutput, out *runData) error {
	field, mechanism, opts := "outputData."+name, strings.ToLower(o.Mechanism), o.AdditionalOptions
	if mechanism != "mount" && mechanism != "upload" {
		return unknownMechanism(field, fmt.Sprintf("output %q", name), o.Mechanism, "use as_mount() or as_upload()")
	}
	store, at := "", ""
	if l := o.OutputLocation; l != nil && l.DataPath != nil {
		store, at = l.DataPath.DatastoreName, l.DataPath.RelativePath
	} else if l != nil && l.URI != nil && l.URI.Path != "" {
		return invalid("UnsupportedOutput", field, fmt.Sprintf("output %q goes to %s, where this server cannot write", name, quote(l.URI.Path)), "", "name a datastore and a path in it")
	}
	into, err := c.Datastore(ctx, ws, store) // the default one where none is named
	if err != nil {
		return err
	}
	at = cmp.Or(strings.Trim(at, "/"), "dataset/{run-id}/{output-name}")
	at = strings.NewReplacer("{run-id}", run, "{output-name}", name).Replace(at)
	root, err := c.datastorePath(ctx, ws, into.Name, at)
	if err != nil {
		return err
	}
	set, err := c.SaveDefinition(ctx, p, ws, Definition{Type: "file", Dataflow: flowOf(pathURI(ws, into.Name, at) + "/")})
	if err != nil {
		return err
	}
	if r := opts.RegistrationOptions; r != nil && r.Name != "" {
		if err := checkDatasetName(field, r.Name); err != nil {
			return err
		}
		out.datasets = append(out.datasets, workspace.DatasetSpec{Name: r.Name, Definition: set.ID, Description: r.Description, Tags: r.Tags})
	}
	out.made = append(out.made, madeBy(name, mechanism, set.ID))
	out.items = append(out.items, dataItem{
		name: name, token: "DatasetOutputConfig:" + name, variables: []string{name, "AZUREML_DATAREFERENCE_" + name},
		at: opts.PathOnCompute, output: true, prefix: root,
	})
	return nil
}

// onTarget declares the data of a run to a target, and words for them in the command.
func (c *Control) onTarget(ctx context.Context, data *runData, spec *workspace.JobSpec, line *commandLine) error {
	for _, item := range data.items {
		var word string
		switch {
		case item.output:
			name := item.name
			if name == compute.OutputsFolder || name == compute.LogsFolder { // the run's own
				name = "output." + name
			}
			spec.Outputs = append(spec.Outputs, workspace.OutputSpec{Name: name, Folder: true, Prefix: item.prefix + "/"})
			word = line.stand(item.at, placeholder("outputs", name), true)
		case item.value != "":
			word = shellWord(item.value)
		default:
			in := workspace.InputSpec{Name: item.name, Folder: item.file == "" || item.at != "", Link: item.link}
			if len(item.places) == 1 && item.places[0].match == nil {
				in.Prefix = item.places[0].root // looked at when the job is handed over
			} else {
				root, err := c.gather(ctx, item.name, item.places)
				if err != nil {
					return err
				}
				in.Tree = string(root)
			}
			spec.Inputs = append(spec.Inputs, in)
			word = line.stand(item.at, placeholder("inputs", item.name), false)
			if item.at != "" && item.file != "" {
				word += "/" + shellWord(item.file)
			}
		}
		for _, name := range item.variables {
			line.variables[name] = word
		}
		line.values[item.token] = word
	}
	return nil
}
