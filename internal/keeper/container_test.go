package keeper

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moorage-ml/moorage/internal/workspace"
)

func TestMountIsOneLineOfCSV(t *testing.T) {
	for m, want := range map[mount]string{
		{path: "/a b"}:                     "type=bind,source=/a b,target=/a b",
		{path: "/a", at: "/b", read: true}: "type=bind,source=/a,target=/b,readonly",
		{path: `/a,"b"`}:                   `type=bind,"source=/a,""b""","target=/a,""b"""`,
	} {
		if got := m.arg(); got != want {
			t.Errorf("%+v: %s", m, got)
		}
	}
}

func TestContainerGetsTheDevicesThatWereAllotted(t *testing.T) {
	for _, c := range []struct {
		engine engine
		gpus   []string
		want   []string
	}{
		{engine{Kind: docker}, nil, nil},
		{engine{Kind: docker}, []string{"1", "3"}, []string{"--gpus", `"device=1,3"`}},
		{engine{Kind: podman}, []string{"1", "3"}, []string{"--device", "nvidia.com/gpu=1", "--device", "nvidia.com/gpu=3"}},
	} {
		if got := gpuArgs(c.engine, c.gpus); !slices.Equal(got, c.want) {
			t.Errorf("%v %v: %q", c.engine, c.gpus, got)
		}
	}
}

func TestContainerIsTheLoginsAndBounded(t *testing.T) {
	s := &supervisor{
		dir: "/home/x/.moorage/srv/cmp/jobs/J1.1", key: "J1.1", root: rootOf("/home/x/.moorage/srv/cmp/jobs/J1.1"),
		spec:  specRecord{Job: Job{Image: &Image{Name: "python:3.12"}, Bounds: &Bounds{CPUs: 1.5, Memory: 64 << 20}}},
		names: &names{},
	}
	b := &box{engine: engine{Kind: podman, Rootless: true}, name: containerName(s.root, s.key, "1"), dir: "/d"}
	got := " " + strings.Join(s.containerArgs(b, contain{inside: insideSpec{Dir: "/d/code"}, mark: "m", bounds: true}), " ") + " "
	for _, want := range []string{
		" --userns keep-id ", " --network host ", " --pull never ", " --cpus 1.5 ", " --memory 67108864 --memory-swap 67108864 ", " --shm-size 2147483648 ",
		" --add-host moorage.blob.localhost:127.0.0.1 ", " --name moorage.J1.1.", " --env MOORAGE_PROCESS=m ", ",readonly python:3.12 ", " inside /d ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if other := containerName(rootOf("/home/y/.moorage/srv/cmp/jobs/J1.1"), s.key, "1"); other == b.name {
		t.Error("two attachments with equal ids share a name")
	}
}

func TestShortNamesAreDockersForPodman(t *testing.T) {
	for name, want := range map[string]string{
		"python:3.12": "docker.io/library/python:3.12", "team/x": "docker.io/team/x", "r.example/x:1": "r.example/x:1", "127.0.0.1:5000/x": "127.0.0.1:5000/x", "localhost/x": "localhost/x",
	} {
		if got := qualified(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestImageIsNoOptionOfTheEngine(t *testing.T) {
	for name, ok := range map[string]bool{
		"python:3.12": true, "a.b/c_d/e-f:1@sha256:" + strings.Repeat("0", 64): true, "--privileged": false, "": false, "a b": false, "a\nb": false, "a$(b)": false,
	} {
		if err := checkJob(Job{Image: &Image{Name: name}}); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestEngineElsewhereIsNotUsed(t *testing.T) {
	here := `"OSType":"linux","KernelVersion":` + quoteJSON(t, kernelRelease())
	for info, want := range map[string]string{
		"{" + here + "}": "",
		`{"OSType":"linux","KernelVersion":"2.6.0"}`:          "another machine",
		`{"ServerErrors":["permission denied"],` + here + "}": "permission denied",
		"{" + here + `,"SecurityOptions":["name=rootless"]}`:  "rootless",
		"nothing": "cannot be read",
	} {
		err := (&engine{}).readDocker([]byte(info))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", info, err)
		}
	}
	if err := readPodman([]byte(`{"Client":{"Version":"4.3.1"}}`)); err != nil {
		t.Error(err)
	}
	if err := readPodman([]byte(`{"Client":{"Version":"4.3.1"},"Server":{"Version":"4.3.1"}}`)); err == nil {
		t.Error("a remote podman is taken")
	}
}

func quoteJSON(t *testing.T, s string) string {
	b, err := json.Marshal(s)
	check(t, err)
	return string(b)
}

func TestRegistrysPasswordIsInNoFile(t *testing.T) {
	dir := t.TempDir()
	s := &supervisor{dir: dir, given: given{Login: []string{"PATH=/usr/bin:/bin"}, Password: "p\"w"}}
	env, done, err := s.registryLogin(&Image{Registry: "r.example", Username: "u"})
	check(t, err)
	program := lookPath(env, "docker-credential-moorage")
	cmd := exec.Command(program, "get")
	cmd.Env = env
	out, err := cmd.Output()
	check(t, err)
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil || answer.Username != "u" || answer.Secret != `p"w` {
		t.Errorf("the helper says %s", out)
	}
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if b, rerr := os.ReadFile(path); rerr == nil && strings.Contains(string(b), "p\"w") {
			t.Errorf("the password is in %s", path)
		}
		return err
	}))
	if b, _ := os.ReadFile(filepath.Join(lookup(env, "DOCKER_CONFIG"), "config.json")); string(b) != `{"credHelpers":{"r.example":"moorage"}}` {
		t.Errorf("config %s", b)
	}
	done()
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
}

func TestPasswordOfARegistryIsNoPartOfTheJob(t *testing.T) {
	b, err := json.Marshal(Job{Image: &Image{Name: "x", Username: "u", Password: workspace.NewSecret("hidden")}})
	check(t, err)
	if strings.Contains(strings.ToLower(string(b)), "password") || strings.Contains(string(b), "hidden") {
		t.Errorf("%s", b)
	}
}

func TestPackageSettingsOfTheMachineHoldInside(t *testing.T) {
	home := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(home, ".config/pip"), 0o700))
	conf := filepath.Join(home, ".config/pip/pip.conf")
	roots := filepath.Join(home, "roots.pem")
	for _, f := range []string{conf, roots} {
		check(t, os.WriteFile(f, []byte("x"), 0o600))
	}
	s := &supervisor{given: given{Login: []string{
		"HOME=" + home, "PIP_INDEX_URL=https://index.example/simple", "UV_CACHE_DIR=/somewhere", "https_proxy=http://proxy:1", "SSL_CERT_FILE=" + roots, "AWS_SECRET=hidden",
	}}}
	vars, mounts := s.packageSettings()
	for _, want := range []string{"PIP_INDEX_URL=https://index.example/simple", "https_proxy=http://proxy:1", "SSL_CERT_FILE=" + roots, "HOME=" + home} {
		if !slices.Contains(vars, want) {
			t.Errorf("no %s in %q", want, vars)
		}
	}
	for _, v := range vars {
		if strings.HasPrefix(v, "UV_CACHE_DIR") || strings.HasPrefix(v, "AWS_") {
			t.Errorf("%s", v)
		}
	}
	for _, want := range []string{conf, roots} {
		if !slices.Contains(mounts, mount{path: want, read: true}) {
			t.Errorf("%s is not mounted: %+v", want, mounts)
		}
	}
}
