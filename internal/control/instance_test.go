package control

import (
	"strings"
	"testing"
)

func TestInstanceTypeGivesAJobItsGPUs(t *testing.T) {
	r := newRig(t)
	r.attached("gpu", "fake://m1", settings(`{"instance_types":{"two":{"gpus":2},"none":{}}}`))
	r.attached("plain", "fake://m2")
	for name, tc := range map[string]struct {
		properties string
		gpus       int
	}{
		"by type":             {`"resources":{"instanceType":"two"}`, 2},
		"a type without any":  {`"resources":{"instanceType":"none"}`, 0},
		"no type":             {`"resources":{}`, 0},
		"a number beside it":  {`"resources":{"instanceType":"two","properties":{"gpus":1}}`, 1},
		"sizes have no sense": {`"computeId":"azureml:plain","resources":{"instanceType":"Standard_NC6"}`, 0},
	} {
		if job := r.submitted(strings.ReplaceAll(name, " ", "-"), tc.properties); job.GPUs != tc.gpus || !strings.Contains(string(job.Spec), `"gpus"`) != (tc.gpus == 0) {
			t.Errorf("%s: %d GPUs, spec %s; want %d", name, job.GPUs, job.Spec, tc.gpus)
		}
	}
	_, err := r.submit("unknown", `"resources":{"instanceType":"Two"}`)
	if p := r.refused(err, "UnknownInstanceType"); !strings.Contains(p.Message, `"Two"`) || p.Mend != "take one of: none, two" {
		t.Errorf("%+v", p)
	}
	opened, err := r.Settings(t.Context(), r.compute("gpu").ID)
	if err != nil || strings.Contains(string(opened.JSON), "instance_types") {
		t.Errorf("the driver gets a setting that is not its own: %s, %v", opened.JSON, err)
	}
}

func TestInstanceTypesThatCannotBeReadAreRefusedWhenAttaching(t *testing.T) {
	r := newRig(t)
	r.attached("other", "fake://m2")
	for _, bad := range []string{`["two"]`, `{"two":2}`, `{"two":{"gpus":"2"}}`, `{"two":{"gpus":-1}}`, `{"two":{"cores":1}}`, `{"two":{"cpus":2,"cpu_limit":1}}`, `{"two":{"memory":"8GB"}}`, `{"two":{"resources":{"limits":{"rdma/hca":1}}}}`} {
		_, err := r.attach("gpu", "fake://m1", settings(`{"instance_types":`+bad+`}`))
		r.refused(err, "InvalidInstanceTypes")
		_, err = r.UpdateCompute(t.Context(), r.admin, r.ws, "other", UpdateRequest{Settings: []byte(`{"instance_types":` + bad + `}`)})
		r.refused(err, "InvalidInstanceTypes")
	}
	if _, err := r.UpdateCompute(t.Context(), r.admin, r.ws, "other", UpdateRequest{Settings: []byte(`{"instance_types":null}`)}); err != nil {
		t.Errorf("taken away: %v", err)
	}
}
