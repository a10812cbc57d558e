package computetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
)

// ranked is a job of several processes, which print who they are.
func (x *exam) ranked(nodes, perNode int) compute.Job {
	j := x.job(`echo "rank $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE on node $NODE_RANK, $AZUREML_PROCESS_NAME, $MASTER_ADDR:$MASTER_PORT"`)
	j.Ranks = compute.Ranks{Nodes: nodes, PerNode: perNode, Framework: compute.PyTorch}
	return j
}

func ranksFindEachOther(x *exam) {
	t := x.attach()
	h := x.submit(t, x.ranked(1, 3))
	x.succeed(t, h)
	lines := []string{strings.TrimSpace(x.log(t, h))}
	home := &Home{}
	x.collect(t, h, home)
	for _, name := range []string{"rank-1.txt", "rank-2.txt"} {
		b, ok := home.Text(compute.LogsFolder, name)
		if !ok {
			x.Fatalf("%s did not come home: %q", name, home.Names())
		}
		lines = append(lines, strings.TrimSpace(b))
	}
	masters := map[string]bool{}
	for i, line := range lines {
		want := fmt.Sprintf("rank %d of 3, %d of 3 on node 0, rank_%d, ", i, i, i)
		master, ok := strings.CutPrefix(line, want)
		if !ok {
			x.Errorf("rank %d: %q", i, line)
		}
		masters[master] = true
	}
	if len(masters) != 1 || masters[":"] {
		x.Errorf("where the master is: %v", masters)
	}
}

func failingRankEndsAll(x *exam) {
	t := x.attach()
	j := x.ranked(1, 3)
	j.Command = `if [ "$RANK" = 2 ]; then echo failing; exit 7; fi; sleep 60`
	begun := time.Now()
	h, e := x.run(t, j)
	if e.Outcome != compute.Failed || e.Code != 7 || e.Problem == nil || !strings.Contains(e.Problem.Message, "rank 2 of 3") {
		x.Errorf("exit: %s", x.describe(t, h, e))
	}
	if took := time.Since(begun); took > 20*time.Second {
		x.Errorf("the others were ended after %s", took)
	}
}

func nodesAreOneJob(x *exam) {
	t := x.attach()
	j := x.ranked(2, 2)
	if x.opts.Limits.NoNodes {
		if _, err := t.Submit(x.Context(), j); !errors.Is(err, compute.ErrInvalid) {
			x.Errorf("a limit of the kind, NoNodes, and a job on two nodes is answered: %v", err)
		} else {
			x.isProblem(err)
		}
		return
	}
	if !x.opts.Nodes {
		x.Skip("the target under examination has one node")
	}
	h := x.submit(t, j)
	x.succeed(t, h)
	home := &Home{}
	x.collect(t, h, home)
	var all strings.Builder
	all.WriteString(x.log(t, h))
	for _, name := range home.Names() {
		b, _ := home.Text(compute.LogsFolder, strings.TrimPrefix(name, compute.LogsFolder+":"))
		all.WriteString(b)
	}
	for r := range 4 {
		if want := fmt.Sprintf("rank %d of 4, %d of 2 on node %d, rank_%d", r, r%2, r/2, r); !strings.Contains(all.String(), want) {
			x.Errorf("no process says %q:\n%s\n%q", want, all.String(), home.Names())
		}
	}
}
