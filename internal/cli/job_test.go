package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/internal/cli/client"
	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestExitCodeIsTheJobsOutcome(t *testing.T) {
	code := func(n int) *int { return &n }
	for _, tc := range []struct {
		state workspace.State
		exit  *int
		want  int
	}{
		{workspace.Completed, code(0), 0},
		{workspace.Completed, nil, 0},
		{workspace.Failed, code(3), 3},
		{workspace.Failed, code(125), 125},
		{workspace.Failed, code(126), 1},
		{workspace.Failed, code(-1), 1},
		{workspace.Failed, code(0), 1},
		{workspace.Failed, nil, 1},
		{workspace.Canceled, code(143), 130},
	} {
		if got := outcome(&client.Job{State: tc.state, ExitCode: tc.exit}); got != tc.want {
			t.Errorf("%s %v: %d, not %d", tc.state, tc.exit, got, tc.want)
		}
	}
}

func TestWaitingJobsSayWhyAndWhere(t *testing.T) {
	why := &workspace.Problem{Message: "waits for a slot on gpu"}
	for _, tc := range []struct {
		job  client.Job
		want string
	}{
		{client.Job{State: workspace.Queued, Reason: why, Position: 3}, "Queued: waits for a slot on gpu (2 before it)"},
		{client.Job{State: workspace.Queued, Reason: why, Position: 1}, "Queued: waits for a slot on gpu (next in line)"},
		{client.Job{State: workspace.Queued}, "Queued"},
		{client.Job{State: workspace.Running}, "Running"},
		{client.Job{State: workspace.NotResponding, Reason: &workspace.Problem{Message: "gpu cannot be reached", Cause: "no route"}}, "NotResponding: gpu cannot be reached: no route"},
	} {
		if got := stateLine(&tc.job); got != tc.want {
			t.Errorf("%q, not %q", got, tc.want)
		}
	}
}

// A list may be cut at the end of its lines, so the place in the queue comes first.
func TestListsSayWhereAJobWaitsBeforeTheySayWhy(t *testing.T) {
	slot, exit := &workspace.Problem{Message: "waits for a slot on gpu"}, 3
	for _, tc := range []struct {
		job  client.Job
		want string
	}{
		{client.Job{State: workspace.Queued, Reason: slot, Position: 3}, "2 before it: waits for a slot on gpu"},
		{client.Job{State: workspace.Queued, Reason: slot}, "waits for a slot on gpu"},
		{client.Job{State: workspace.Queued, Position: 1}, "(next in line)"},
		{client.Job{State: workspace.Failed, Reason: slot, Position: 1, ExitCode: &exit}, "exit code 3"},
		{client.Job{State: workspace.Failed, Error: &workspace.Problem{Message: "no such package"}, ExitCode: &exit}, "no such package"},
		{client.Job{State: workspace.Running}, ""},
	} {
		if got := why(&tc.job); got != tc.want {
			t.Errorf("%q, not %q", got, tc.want)
		}
	}
}

func TestHashingThatTakesLongIsTold(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		step time.Duration // from each look at the clock to the next
		want string
	}{
		{time.Millisecond, ""},
		{time.Minute, "hashing 2 files: 7 B of 14 B\n"},
	} {
		var mu sync.Mutex
		now := time.Unix(0, 0) // the files are younger, so that they are not remembered
		clk := clock.System()
		clk.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(tc.step)
			return now
		}
		var said bytes.Buffer
		if _, err := walk(t.Context(), clk, dir, &said); err != nil || !strings.HasPrefix(said.String(), tc.want) || tc.want == "" && said.Len() > 0 {
			t.Errorf("a step of %s: %q, %v", tc.step, said.String(), err)
		}
	}
}

func TestFilesStayInTheirFolder(t *testing.T) {
	for _, tc := range []struct {
		output, path, want string // want: "" is refused
	}{
		{"outputs", "a/b.txt", "outputs/a/b.txt"},
		{"", "user/x", "user/x"},
		{"model", "größe ü.bin", "named-outputs/model/größe ü.bin"},
		{"model", "", "named-outputs/model"},
		{"outputs", "../x", ""},
		{"outputs", "a/../../x", ""},
		{"outputs", "/etc/passwd", ""},
		{"outputs", "a//b", ""},
		{"outputs", "./a", ""},
		{"outputs", "a\x00b", ""},
		{"..", "x", ""},
		{"a/b", "x", ""},
		{`a\b`, "x", ""},
		{"", "", ""},
		{"", "..", ""},
	} {
		got, err := place(client.File{Output: tc.output, Path: tc.path})
		if (err != nil) != (tc.want == "") || got != tc.want {
			t.Errorf("%q %q: %q, %v", tc.output, tc.path, got, err)
		}
	}
}

func TestJobNamesHaveTheFormOfAzuresClient(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+_[a-z]+_[bcdfghjklmnpqrstvwxyz0-9]{10}$`)
	seen := map[string]bool{}
	for range 1000 {
		name, err := jobName(clock.System())
		if err != nil || !form.MatchString(name) || seen[name] || workspace.CheckName("job", name) != nil {
			t.Fatalf("%q, %v", name, err)
		}
		seen[name] = true
	}
	name, err := jobName(clock.Source{Rand: bytes.NewReader(make([]byte, 22))})
	if err != nil || name != "able_albatross_bbbbbbbbbb" {
		t.Errorf("%q, %v", name, err)
	}
}

func TestReferencesBecomeIDs(t *testing.T) {
	for ref, want := range map[string]string{
		"azureml:e:1":                "{ws}/environments/e/versions/1",
		"azureml:e@latest":           "azureml:e@latest",
		"azureml:AzureML-x@latest":   "azureml:AzureML-x@latest",
		"azureml:AzureML-x:3":        "azureml:AzureML-x:3",
		"azureml://registries/r/e/1": "azureml://registries/r/e/1",
		"/subscriptions/s/e":         "/subscriptions/s/e",
		"azureml:/subscriptions/s/e": "/subscriptions/s/e",
	} {
		if got := versioned("{ws}", "environments", ref); got != want {
			t.Errorf("%s: %s, not %s", ref, got, want)
		}
	}
}
