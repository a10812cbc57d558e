package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// azureml-core uploads to hosts whose name has the form X.blob.Y and to no others (azureml-v1.md §1.4). For a job that is
// the way back under the name moorage.blob.localhost, which few machines know. A job that asks for it, by BlobHost in its
// variables, is helped in the first of these ways that there is, and the log of preparing says which:
//
//   - wayName: the name leads to this machine as it is.
//   - wayNamespace: the job's processes have a mount namespace of their own, in which /etc/hosts has the name.
//   - wayProxy: the supervisor is the job's proxy for https, see proxy.go.
//
// None of them changes a file of the machine, and none ends a job: uploads fail when there is no way, and nothing else does.
type way string

const (
	wayName      way = "name"
	wayNamespace way = "namespace"
	wayProxy     way = "proxy"
)

// blobHostName is what the server writes into the addresses for uploads that a job asks for.
const blobHostName = "moorage.blob.localhost"

// wayVariable of a job says with which of the ways to begin: namespace or proxy. With any other value it is the first.
const wayVariable = "MOORAGE_BLOB_HOST_WAY"

const (
	lookLimit = 2 * time.Second // of one look; a name server may be silent
	wayAge    = 5 * time.Minute // how long a choice counts for later jobs
)

// fileHosts is the hosts file of a job, and fileWay what was chosen last, in the root.
const (
	fileHosts = "hosts"
	fileWay   = "way.json"
)

// names is how one job finds the way back by name.
type names struct {
	way     way
	address string // name:port
	hosts   string // the job's own hosts file, of wayNamespace
	proxy   *proxy // of wayProxy; nil if it could not be
}

// wayRecord is a choice. It counts as long as what the machine makes of names has not changed.
type wayRecord struct {
	Format int       `json:"format"`
	Stamp  string    `json:"stamp"`
	Made   time.Time `json:"made"`
	Way    way       `json:"way"`
	Why    string    `json:"why,omitempty"`
}

// nameBack makes the way back known to the job under the name for uploads, if the job asks for it. The way back is open.
func (s *supervisor) nameBack(ctx context.Context, job Job) error {
	if !asksFor(job.Env, BlobHost) {
		return nil
	}
	_, port, err := net.SplitHostPort(s.back.address())
	if err != nil {
		return err
	}
	if job.Image != nil {
		s.names = &names{way: wayName, address: net.JoinHostPort(blobHostName, port)}
		s.note("uploads of azureml-core: %s leads to this machine from inside the container", blobHostName)
		return nil
	}
	hosts := filepath.Join(s.dir, fileHosts)
	if err := writeHosts(hosts); err != nil {
		return err
	}
	chosen := s.chooseWay(ctx, hosts, way(job.Env[wayVariable]))
	s.names = &names{way: chosen.Way, address: net.JoinHostPort(blobHostName, port)}
	switch chosen.Way {
	case wayName:
		s.note("uploads of azureml-core: %s leads to this machine", blobHostName)
	case wayNamespace:
		s.names.hosts = hosts
		s.note("uploads of azureml-core: the job has a hosts file of its own, in a mount namespace, with %s", blobHostName)
	case wayProxy:
		if err = onwardOf(s.merged()).broken; err == nil {
			s.names.proxy, err = openProxy(ctx, s.back, s.names.address)
		}
		if err != nil {
			s.note("uploads of azureml-core will fail: %s, and the keeper cannot be the job's proxy: %v", chosen.Why, err)
			return nil
		}
		s.note("uploads of azureml-core: the keeper is the job's proxy for https, which leads %s to the server and passes everything else on; %s", blobHostName, chosen.Why)
	}
	return nil
}

// merged is what environ begins with.
func (s *supervisor) merged() map[string]string {
	vars := map[string]string{}
	for _, v := range slices.Concat(s.given.Login, s.vars) {
		if name, value, ok := strings.Cut(v, "="); ok {
			vars[name] = value
		}
	}
	if len(s.path) > 0 {
		vars["PATH"] = prefixed(s.path, vars["PATH"])
	}
	maps.Copy(vars, s.spec.Job.Env)
	maps.Copy(vars, s.given.Secrets)
	return vars
}

func asksFor(env map[string]string, placeholder string) bool {
	for _, v := range env {
		if strings.Contains(v, placeholder) {
			return true
		}
	}
	return false
}

// chooseWay looks for the first way that there is, beginning with asked. What it finds counts for the next jobs.
func (s *supervisor) chooseWay(ctx context.Context, hosts string, asked way) wayRecord {
	if asked != wayNamespace && asked != wayProxy {
		asked = ""
	}
	state := []any{s.boot()}
	for _, path := range []string{"/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"} {
		if info, err := os.Stat(path); err == nil {
			state = append(state, info.Size(), info.ModTime().UnixNano())
		}
	}
	stamp := fmt.Sprintln(state...)
	var last wayRecord
	if asked == "" && readRecord(s.root.path, fileWay, &last) == nil && last.Stamp == stamp && time.Since(last.Made).Abs() < wayAge {
		return last
	}
	chosen := wayRecord{Format: format, Stamp: stamp, Made: time.Now().UTC(), Way: wayProxy, Why: "the job asked for that"}
	switch {
	case asked == wayProxy:
	case asked != wayNamespace && resolves(ctx):
		chosen.Way, chosen.Why = wayName, ""
	default:
		against := ""
		if asked != wayNamespace {
			against = s.againstNamespace()
		}
		if against == "" {
			if err := tryNamespace(ctx, thisKeeper(), hosts); err == nil {
				chosen.Way, chosen.Why = wayNamespace, ""
				break
			} else {
				against = "a mount namespace cannot be had: " + oneLine(err.Error())
			}
		}
		chosen.Why = "the name does not resolve here, and " + against
	}
	if asked == "" && ctx.Err() == nil {
		_ = writeRecord(s.root.path, fileWay, chosen, false) // the next job looks again
	}
	return chosen
}

// resolves tells whether programs on this machine find the name at the address where the way back listens. They ask the
// system's own library, and so does this, by getent; without getent, by what Go knows.
func resolves(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	if getent, err := exec.LookPath("getent"); err == nil {
		out, err := exec.CommandContext(ctx, getent, "ahostsv4", blobHostName).Output()
		return err == nil && slices.ContainsFunc(strings.Split(string(out), "\n"), func(line string) bool { return strings.HasPrefix(line, "127.0.0.1 ") })
	}
	found, err := net.DefaultResolver.LookupHost(ctx, blobHostName)
	return err == nil && slices.Contains(found, "127.0.0.1")
}

// writeHosts makes the machine's hosts file with the name.
func writeHosts(path string) error {
	b, err := os.ReadFile("/etc/hosts")
	if err != nil {
		b = []byte("127.0.0.1 localhost\n::1 localhost\n")
	}
	if len(b) > 0 && !bytes.HasSuffix(b, []byte("\n")) {
		b = append(b, '\n')
	}
	_ = os.Remove(path) // of an attempt that was killed
	return os.WriteFile(path, append(b, "127.0.0.1 "+blobHostName+"\n"...), 0o644)
}

// administrators are groups whose members may become root.
var administrators = []string{"sudo", "wheel", "admin"}

// containers are programs that need a privileged helper when a login other than root starts them.
var containers = []string{"podman", "apptainer", "singularity", "enroot"}

// againstNamespace says what would stop working for the job in a user namespace, or nothing. Root needs none for its mounts.
// In one, programs with the setuid bit have no effect, and keys in the kernel are others.
func (s *supervisor) againstNamespace() string {
	if os.Geteuid() == 0 {
		return ""
	}
	vars := s.merged()
	if g := memberOf(administrators); g != "" {
		return "in a mount namespace sudo would stop working, which group " + g + " may use"
	}
	for _, dir := range filepath.SplitList(vars["PATH"]) {
		for _, name := range containers {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Mode()&0o111 != 0 {
				return "in a mount namespace " + name + " would stop working"
			}
		}
	}
	if strings.HasPrefix(vars["KRB5CCNAME"], "KEYRING:") {
		return "in a mount namespace the login's Kerberos tickets would be out of sight"
	}
	return ""
}

// memberOf gives the first of the groups that this process is in.
func memberOf(groups []string) string {
	f, err := os.Open("/etc/group")
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	have, _ := os.Getgroups()
	have = append(have, os.Getegid())
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Split(lines.Text(), ":")
		if len(field) >= 3 && slices.Contains(groups, field[0]) && slices.ContainsFunc(have, func(g int) bool { return fmt.Sprint(g) == field[2] }) {
			return field[0]
		}
	}
	return ""
}

// tryNamespace starts a process in a namespace as the job's would be, and asks it for the name.
func tryNamespace(ctx context.Context, self []string, hosts string) error {
	attr := mountNamespace()
	if attr == nil {
		return errors.New("this system has none")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*lookLimit)
	defer cancel()
	argv := inNamespace(self, hosts)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = attr
	out, err := cmd.Output()
	if err != nil && len(out) > 0 {
		return errors.New(string(out))
	}
	return err
}

// inNamespace is the keeper's subcommand that puts the hosts file in its place and becomes the command, see namespaced.
func inNamespace(self []string, hosts string, command ...string) []string {
	return slices.Concat(self, []string{"namespaced", hosts}, command)
}

// thisKeeper is how this program, which is a keeper, starts itself again.
func thisKeeper() []string {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	if len(os.Args) > 1 && os.Args[1] == "keeper" { // one program for everything
		return []string{self, "keeper"}
	}
	return []string{self}
}

// start starts the processes of a job's command, with its own hosts file if it has one. Their programs are filled in.
func (n *names) start(command string, programs []program, dir string) (*tree, error) {
	shell := []string{"/bin/sh", "-c", command}
	with := func(argv func(program) []string, attr *syscall.SysProcAttr) (*tree, error) {
		for i := range programs {
			programs[i].argv = argv(programs[i])
		}
		return startTree(programs, dir, attr)
	}
	if n != nil && n.hosts != "" {
		hosted := inNamespace(thisKeeper(), n.hosts, shell...)
		if t, err := with(func(program) []string { return hosted }, mountNamespace()); err == nil {
			return t, nil
		}
	} else if t, err := with(func(p program) []string { return commandLine(command, p.env) }, commandAttr()); err == nil {
		return t, nil
	} // otherwise let the shell say why
	return with(func(program) []string { return shell }, commandAttr())
}

// host is name:port, or nothing if the job did not ask.
func (n *names) host() string {
	if n == nil {
		return ""
	}
	return n.address
}

// enter fits the job's variables to the way. Where the login has a proxy, the way back is none of its business.
func (n *names) enter(vars map[string]string, back bool) {
	switch {
	case n != nil && n.proxy != nil:
		n.proxy.enter(vars)
	case n != nil:
		unproxied(vars, "127.0.0.1", blobHostName)
	case back:
		unproxied(vars, "127.0.0.1")
	}
}

func (n *names) close() {
	if n != nil && n.proxy != nil {
		n.proxy.close()
	}
}

// unproxied excepts hosts from the proxies that the variables name, if there are any.
func unproxied(vars map[string]string, hosts ...string) {
	if !slices.ContainsFunc(slices.Collect(maps.Keys(vars)), func(name string) bool {
		return strings.HasSuffix(strings.ToLower(name), "_proxy") && strings.ToLower(name) != "no_proxy" && vars[name] != ""
	}) {
		return
	}
	list := exceptions(vars)
	if slices.Contains(list, "*") {
		return
	}
	for _, h := range hosts {
		if !slices.Contains(list, h) {
			list = append(list, h)
		}
	}
	except(vars, list)
}

// exceptions are the hosts that the variables except from proxies. The lower-case variable wins, as most programs have it.
func exceptions(vars map[string]string) []string {
	return strings.FieldsFunc(either(vars, "no_proxy"), func(r rune) bool { return r == ',' || r == ' ' })
}

func except(vars map[string]string, hosts []string) {
	vars["no_proxy"] = strings.Join(hosts, ",")
	vars["NO_PROXY"] = vars["no_proxy"]
}

// either is the value of a variable that is written in lower or upper case.
func either(vars map[string]string, name string) string {
	if v := vars[name]; v != "" {
		return v
	}
	return vars[strings.ToUpper(name)]
}
