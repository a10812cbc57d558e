package keeper

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// named are the variables of one process, by name.
func named(vars []string) map[string]string {
	out := map[string]string{}
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		out[name] = value
	}
	return out
}

func TestRanksOfASecondNodeKnowTheMaster(t *testing.T) {
	t.Setenv("JOB_COMPLETION_INDEX", "1")
	r := &Ranks{Framework: pytorch, PerNode: 2, Nodes: 3, NodeVariable: "JOB_COMPLETION_INDEX", Host: "train-{{node}}.train"}
	all, err := r.variables()
	check(t, err)
	got := named(all[1])
	for name, want := range map[string]string{
		"RANK": "3", "LOCAL_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "train-0.train", "MASTER_PORT": "29500", "AZUREML_PROCESS_NAME": "rank_3",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, not %q", name, got[name], want)
		}
	}
	t.Setenv("JOB_COMPLETION_INDEX", "")
	if _, err := r.variables(); err == nil || !strings.Contains(err.Error(), "JOB_COMPLETION_INDEX") {
		t.Errorf("a node without a number: %v", err)
	}
}

func TestTensorFlowKnowsAllWorkers(t *testing.T) {
	all, err := (&Ranks{Framework: tensorflow, PerNode: 2, Nodes: 2, Node: 1, Host: "n{{node}}", Port: 4000}).variables()
	check(t, err)
	var config struct {
		Cluster map[string][]string
		Task    struct {
			Type  string
			Index int
		}
	}
	check(t, json.Unmarshal([]byte(named(all[1])["TF_CONFIG"]), &config))
	if got := strings.Join(config.Cluster["worker"], " "); got != "n0:4000 n0:4001 n1:4000 n1:4001" || config.Task.Type != "worker" || config.Task.Index != 3 {
		t.Errorf("%+v", config)
	}
}

func TestMPIIsTold(t *testing.T) {
	all, err := (&Ranks{Framework: mpi, PerNode: 2, Port: 4000}).variables()
	check(t, err)
	got := named(all[1])
	if got["OMPI_COMM_WORLD_RANK"] != "1" || got["OMPI_COMM_WORLD_SIZE"] != "2" || got["OMPI_COMM_WORLD_LOCAL_RANK"] != "1" || got["AZ_BATCH_MASTER_NODE"] != "127.0.0.1:4000" {
		t.Errorf("%v", got)
	}
}

func TestRanksThatCannotBeAreRefused(t *testing.T) {
	for _, r := range []*Ranks{{PerNode: -1}, {PerNode: maxRanks + 1}, {Node: 1}, {Nodes: 2, Node: 2}, {Port: 65535}} {
		if checkJob(Job{Ranks: r}) == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}

func TestLogOfARankIsBoundedToo(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	x, _ := run(t, c, "J1.1", Job{Command: `head -c 100000 /dev/zero | tr '\0' x`, LogLimit: 10000, Ranks: &Ranks{PerNode: 2}})
	if x.Outcome != Succeeded || x.LogSize > 10000 {
		t.Errorf("%+v", x)
	}
	info, err := os.Stat(filepath.Join(r.dir("J1.1"), dirCode, "logs", "rank-1.txt"))
	if err != nil || info.Size() > 10000 || info.Size() < 5000 {
		t.Errorf("%v %v", info, err)
	}
}

func TestCancelEndsAllRanks(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	submit(t, c, "J1.1", Job{Command: "echo $$ >> pids; [ $(wc -l < pids) = 3 ] && echo ready > ready; exec sleep 300", Ranks: &Ranks{PerNode: 3}, Grace: time.Second})
	until(t, "all run", func() bool { return exists(filepath.Join(r.dir("J1.1"), dirCode, "ready")) })
	check(t, c.Cancel(t.Context(), "J1.1", 1))
	if x := wait(t, c, "J1.1"); x.Outcome != Canceled {
		t.Errorf("%+v", x)
	}
	nonesAlive(t, pids(t, r, "J1.1"))
}

func TestImageWithoutAnEngineIsSaid(t *testing.T) {
	r := newRig(t)
	r.env = []string{"PATH=/nonexistent", "SHELL=/bin/sh"}
	x, _ := run(t, r.dial(), "J1.1", Job{Command: "echo", Image: &Image{Name: "python:3.12"}})
	if x.Outcome != Failed || x.Problem == nil || x.Problem.Mend == "" {
		t.Errorf("%+v", x)
	}
}
