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

// instanceTypes is the setting of the server's own that says what a job's resources.instance_type means on a compute:
// {"NAME": {"gpus": 2}}. A compute without it takes any instance type and gives it no meaning, because jobs written for
// Azure name sizes of Azure's machines.
const instanceTypes = "instance_types"

type instanceType struct {
	GPUs int `json:"gpus"`
}

// checkInstanceTypes refuses a setting that could not be read when a job comes.
func checkInstanceTypes(setting any) error {
	mend := "write it like --set " + instanceTypes + `.NAME.gpus=1, in a body {"` + instanceTypes + `":{"NAME":{"gpus":1}}}`
	b, err := json.Marshal(setting)
	if err != nil {
		return fmt.Errorf("control: instance types: %w", err)
	}
	var types map[string]instanceType
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&types); err != nil {
		return invalid("InvalidInstanceTypes", instanceTypes, "the instance types cannot be read", strings.TrimPrefix(err.Error(), "json: "), mend)
	}
	for _, name := range slices.Sorted(maps.Keys(types)) {
		if types[name].GPUs < 0 {
			return invalid("InvalidInstanceTypes", instanceTypes, "instance type "+quote(name)+" has fewer than no GPUs", "", mend)
		}
	}
	return nil
}

// instanceGPUs is how many GPUs an instance type of the compute has; none for no instance type.
func instanceGPUs(on store.Compute, name string) (int, error) {
	var settings struct {
		Types map[string]instanceType `json:"instance_types"`
	}
	if name == "" || len(on.Settings) == 0 {
		return 0, nil
	}
	if err := json.Unmarshal(on.Settings, &settings); err != nil {
		return 0, fmt.Errorf("control: instance types of %s: %w", on.Name, err)
	}
	t, known := settings.Types[name]
	if !known && len(settings.Types) > 0 {
		return 0, invalid("UnknownInstanceType", "resources.instanceType", "compute "+quote(on.Name)+" has no instance type "+quote(name), "",
			"take one of: "+strings.Join(slices.Sorted(maps.Keys(settings.Types)), ", "))
	}
	return t.GPUs, nil
}
