package control

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
)

// Settings of the server's own that say what a job's resources.instance_type means on a compute, and which one it has that
// names none. A compute without instance types takes any name and gives it no meaning, because jobs written for Azure
// name sizes of Azure's machines.
const (
	instanceTypes       = "instance_types"
	defaultInstanceType = "default_instance_type"
)

// azuresDefault is the name by which Azure's documentation asks for the default instance type of a cluster.
const azuresDefault = "defaultinstancetype"

// InstanceType is what each node of a job gets. Zero values ask for nothing.
type InstanceType struct {
	GPUs        int               `json:"gpus,omitempty"`
	CPUs        float64           `json:"cpus,omitempty"`
	CPULimit    float64           `json:"cpu_limit,omitempty"`
	Memory      int64             `json:"memory,omitempty"` // bytes
	MemoryLimit int64             `json:"memory_limit,omitempty"`
	Shm         int64             `json:"shm,omitempty"` // bytes of /dev/shm
	Selector    map[string]string `json:"node_selector,omitempty"`
}

// instanceInput is an instance type as people write it: in our words, or as Azure does, {nodeSelector, resources:
// {requests, limits}} (azureml-v2.md §5).
type instanceInput struct {
	GPUs        int               `json:"gpus"`
	CPUs        quantity          `json:"cpus"`
	CPULimit    quantity          `json:"cpu_limit"`
	Memory      quantity          `json:"memory"`
	MemoryLimit quantity          `json:"memory_limit"`
	Shm         quantity          `json:"shm"`
	Selector    map[string]string `json:"node_selector"`

	NodeSelector map[string]string `json:"nodeSelector"`
	Resources    *struct {
		Requests map[string]*quantity `json:"requests"`
		Limits   map[string]*quantity `json:"limits"`
	} `json:"resources"`
}

// instanceMend says how instance types are written.
const instanceMend = "write it like --set " + instanceTypes + `.NAME.gpus=1, in a body {"` + instanceTypes + `":{"NAME":{"gpus":1,"cpus":"4","memory":"16Gi"}}}`

// settleInstanceTypes reads the instance types among settings, refuses what could not be given to a job, and writes them
// in the one form that is kept.
func settleInstanceTypes(settings map[string]any) error {
	types := map[string]InstanceType{}
	if given := settings[instanceTypes]; given != nil {
		var err error
		if types, err = readInstanceTypes(given); err != nil {
			return err
		}
		settings[instanceTypes] = types
	}
	given := settings[defaultInstanceType]
	name, text := given.(string)
	if given != nil && !text {
		return invalid("InvalidInstanceTypes", defaultInstanceType, "the default instance type is not a name", "", "write it like --set "+defaultInstanceType+"=NAME")
	}
	if _, known := types[name]; name != "" && !known && len(types) > 0 {
		return invalid("InvalidInstanceTypes", defaultInstanceType, "the default instance type "+quote(name)+" is none of the instance types", "",
			"take one of: "+strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	return nil
}

func readInstanceTypes(setting any) (map[string]InstanceType, error) {
	b, err := json.Marshal(setting)
	if err != nil {
		return nil, fmt.Errorf("control: instance types: %w", err)
	}
	var inputs map[string]instanceInput
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&inputs); err != nil {
		return nil, invalid("InvalidInstanceTypes", instanceTypes, "the instance types cannot be read", strings.TrimPrefix(err.Error(), "json: "), instanceMend)
	}
	types := map[string]InstanceType{}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		t, err := inputs[name].settled()
		if err != nil {
			return nil, invalid("InvalidInstanceTypes", instanceTypes, "instance type "+quote(name)+" cannot be used", err.Error(), instanceMend)
		}
		types[name] = t
	}
	return types, nil
}

// settled is the instance type in our words.
func (in instanceInput) settled() (InstanceType, error) {
	t := InstanceType{
		GPUs: in.GPUs, CPUs: float64(in.CPUs), CPULimit: float64(in.CPULimit),
		Memory: in.Memory.bytes(), MemoryLimit: in.MemoryLimit.bytes(), Shm: in.Shm.bytes(), Selector: in.Selector,
	}
	if t.Selector == nil {
		t.Selector = in.NodeSelector
	}
	if in.Resources != nil {
		if err := t.ask(in.Resources.Requests, &t.CPUs, &t.Memory); err != nil {
			return t, err
		}
		if err := t.ask(in.Resources.Limits, &t.CPULimit, &t.MemoryLimit); err != nil {
			return t, err
		}
	}
	switch {
	case t.GPUs < 0:
		return t, fmt.Errorf("it has fewer than no GPUs")
	case t.CPULimit > 0 && t.CPUs > t.CPULimit:
		return t, fmt.Errorf("it requests %g CPUs and has a limit of %g", t.CPUs, t.CPULimit)
	case t.MemoryLimit > 0 && t.Memory > t.MemoryLimit:
		return t, fmt.Errorf("it requests %d bytes of memory and has a limit of %d", t.Memory, t.MemoryLimit)
	}
	return t, nil
}

// ask takes over one of Azure's lists. A resource that ends in "/gpu" is the cluster's GPU, by whatever vendor's name.
func (t *InstanceType) ask(list map[string]*quantity, cpus *float64, memory *int64) error {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		q := list[name]
		switch {
		case q == nil: // clients write what is not there as null
		case name == "cpu":
			*cpus = float64(*q)
		case name == "memory":
			*memory = q.bytes()
		case name == "gpu", strings.HasSuffix(name, "/gpu"):
			if n := float64(*q); n != float64(int(n)) {
				return fmt.Errorf("it asks for %g of %s", n, name)
			}
			t.GPUs = int(*q)
		default:
			return fmt.Errorf("it asks for %s, and only cpu, memory and GPUs are asked for here", name)
		}
	}
	return nil
}

// InstanceTypes are the instance types of a compute by their names, and the name of the default one.
func InstanceTypes(on store.Compute) (types map[string]InstanceType, usual string, err error) {
	var settings struct {
		Types   map[string]InstanceType `json:"instance_types"`
		Default string                  `json:"default_instance_type"`
	}
	if len(on.Settings) == 0 {
		return nil, "", nil
	}
	if err := json.Unmarshal(on.Settings, &settings); err != nil {
		return nil, "", fmt.Errorf("control: instance types of %s: %w", on.Name, err)
	}
	return settings.Types, settings.Default, nil
}

// instanceType is what a name means on a compute; "" is its default.
func instanceType(on store.Compute, name string) (InstanceType, error) {
	types, usual, err := InstanceTypes(on)
	if err != nil {
		return InstanceType{}, err
	}
	t, known := types[name]
	if known || len(types) == 0 {
		return t, nil
	}
	if name == "" || strings.EqualFold(name, azuresDefault) {
		return types[usual], nil
	}
	return t, invalid("UnknownInstanceType", "resources.instanceType", "compute "+quote(on.Name)+" has no instance type "+quote(name), "",
		"take one of: "+strings.Join(slices.Sorted(maps.Keys(types)), ", "))
}
