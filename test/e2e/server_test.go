package e2e

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moorage-ml/moorage/test/engine"
)

func TestGracefulStopLeavesJobsRunningAndTheNextServerGoesOnAtOnce(t *testing.T) {
	data, shared := t.TempDir(), openFolder(t)
	const lease = "MOORAGE_JOBS_LEASE=60s" // a stopped server lets go: nobody waits for that
	f := &far{program: started(t, data, lease), shared: shared}
	f.mustSubmit("runs", f.gated("runs", "gate"), on("local"))
	f.mustSubmit("queued", f.gated("queued", "gate"), on("local"))
	f.runs("runs")
	if err := f.stop(); err != nil {
		t.Fatal(err)
	}
	f.open("gate")
	begun := time.Now()
	f.program = started(t, data, lease)
	f.whole("runs")
	f.whole("queued")
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the next server took %s to go on", took)
	}
}

// TestKilledServerIsFollowedAtOnceOnItsOwnDataFolder: whoever holds the lock of a data folder with SQLite knows that no
// other server lives, and need not wait for its leases.
func TestKilledServerIsFollowedAtOnceOnItsOwnDataFolder(t *testing.T) {
	data, shared := t.TempDir(), openFolder(t)
	const lease = "MOORAGE_JOBS_LEASE=60s"
	f := &far{program: started(t, data, lease), shared: shared}
	f.mustSubmit("runs", f.gated("runs", "gate"), on("local"))
	f.runs("runs")
	f.kill()
	f.open("gate")
	begun := time.Now()
	f.program = started(t, data, lease)
	f.whole("runs")
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the next server took %s to go on", took)
	}
}

func TestSecondServerOnADataFolderIsRefused(t *testing.T) {
	data := t.TempDir()
	p := started(t, data)
	said := refused(t, nil, "serve", "--data", data, "--listen", "127.0.0.1:0")
	if !strings.Contains(said, "another server holds the data folder") || !strings.Contains(said, strconv.Itoa(p.cmd.Process.Pid)) || !strings.Contains(said, "--data") {
		t.Errorf("it does not say who and what to do: %s", said)
	}
	p.mustSubmit("still", "echo still", on("local"))
	p.mustEnd("still", "Completed")
}

func TestAddressThatOthersCanReachNeedsSayingSo(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:8443"} {
		if said := refused(t, nil, "serve", "--data", t.TempDir(), "--listen", listen); !strings.Contains(said, "--allow-remote") {
			t.Errorf("%s: %s", listen, said)
		}
	}
}

func TestOtherMasterKeyIsRefusedAndNothingIsChanged(t *testing.T) {
	data := t.TempDir()
	p := started(t, data, "MOORAGE_NO_LOCAL=true")
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	said := refused(t, []string{"MOORAGE_MASTER_KEY=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}, "serve", "--data", data, "--listen", "127.0.0.1:0")
	if !strings.Contains(said, "master key") {
		t.Errorf("it does not say why: %s", said)
	}
	started(t, data, "MOORAGE_NO_LOCAL=true")
}

// TestSecretsAreNowhereInClear attaches with a password, and with a key that has a passphrase, and looks for them
// wherever the server writes: its folder, its log, its answers, the lists of processes, the machine.
func TestSecretsAreNowhereInClear(t *testing.T) {
	const password = "Pa55-w0rd-of-the-tests"
	const passphrase = "Pa55-phra5e-of-the-tests"
	machine := engine.StartSSHD(t, engine.SSHDOptions{Password: password})
	private, public := engine.NewKey(t, passphrase)
	machine.Authorize(t, public)
	data, shared := t.TempDir(), openFolder(t)
	p := started(t, data, "MOORAGE_LOG_LEVEL=debug", "MOORAGE_NO_LOCAL=true")
	body := func(account map[string]any, settings map[string]any) map[string]any {
		account["username"] = machine.User
		return map[string]any{"properties": map[string]any{"computeType": "VirtualMachine", "properties": map[string]any{
			"address": "ssh://" + machine.User + "@" + machine.Addr, "administratorAccount": account, "settings": settings,
		}}}
	}
	var answers []string
	ask := func(method, path string, body any) {
		var b []byte
		_, err := p.call(t.Context(), method, path, body, &b)
		if r, ok := errors.AsType[*refusal](err); ok {
			b, err = r.body, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, string(b))
	}
	one := workspacePath + "/computes/"
	byKey := body(map[string]any{"privateKeyData": private, "passphrase": passphrase}, map[string]any{})
	ask("PUT", one+"by-password"+apiVersion, body(map[string]any{"password": password}, map[string]any{}))
	ask("PUT", one+"by-key"+apiVersion, byKey) // refused: the same machine
	ask("POST", native+"/computes/check", byKey)
	ask("PUT", one+"wrong"+apiVersion, body(map[string]any{"password": password + "-wrong"}, map[string]any{"folder": 7}))
	ask("PATCH", one+"by-password"+apiVersion, byKey) // from now on by key
	ask("PATCH", one+"by-password"+apiVersion, body(map[string]any{"password": password}, map[string]any{"slots": "many", "password": password}))
	ask("GET", one+"by-password"+apiVersion, nil)
	ask("GET", workspacePath+"/computes"+apiVersion, nil)
	ask("POST", native+"/computes/by-password/check", map[string]any{})
	token := filepath.Join(shared, "token")
	p.mustSubmit("job", "umask 077; printf %s \"$MLFLOW_TRACKING_TOKEN\" > "+token+"; sleep 300", on("by-password"))
	var credential []byte
	until(t, "the job has its credential", func() bool { credential, _ = os.ReadFile(token); return len(credential) > 20 })
	ask("GET", native+"/jobs/job", nil)
	ask("GET", workspacePath+"/jobs/job"+apiVersion, nil)

	line := strings.Split(private, "\n")[2] // of the key; its header is not secret
	secrets := map[string]string{
		"the password": password, "the passphrase": passphrase, "the private key": line, "the job's credential": string(credential), "the administrator's secret": p.token,
		"the password in base64": base64.StdEncoding.EncodeToString([]byte(password)),
	}
	for what, secret := range secrets {
		for _, a := range answers {
			if strings.Contains(a, secret) {
				t.Errorf("%s is in an answer: %s", what, a)
			}
		}
		if strings.Contains(p.output.String(), secret) {
			t.Errorf("%s is in the log", what)
		}
		for _, pid := range programs(secret) {
			t.Errorf("%s is in the command line of process %d", what, pid)
		}
		for _, dir := range []string{data, machine.Home} {
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() || path == filepath.Join(data, "keys", "admin.secret") {
					return nil // gone meanwhile
				}
				if has, err := contains(path, []byte(secret)); has && err == nil {
					t.Errorf("%s is in %s", what, path)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"admin.secret", "master.key"} {
		info, err := os.Stat(filepath.Join(data, "keys", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	var keys []byte // those with the right to it get them back
	if _, err := p.call(t.Context(), "POST", one+"by-password/listKeys"+apiVersion, nil, &keys); err != nil || !strings.Contains(string(keys), passphrase) {
		t.Errorf("listKeys: %s %v", keys, err)
	}
	if err := p.cancel(t.Context(), "job"); err != nil {
		t.Fatal(err)
	}
	p.mustEnd("job", "Canceled")
}
