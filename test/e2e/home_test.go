package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moorage-ml/moorage/internal/workspace"
	"github.com/moorage-ml/moorage/test/engine"
)

// mount puts a file system in memory onto a folder, open to all, until the test ends.
func mount(t testing.TB, dir string, flags uintptr, size string) {
	t.Helper()
	needRoot(t, "mounting a file system")
	err := unix.Mount("tmpfs", dir, "tmpfs", flags&^unix.MS_RDONLY, "mode=0777,size="+size)
	if err == nil && flags&unix.MS_RDONLY != 0 {
		err = unix.Mount("", dir, "", unix.MS_REMOUNT|flags, "")
	}
	if errors.Is(err, unix.EPERM) {
		engine.Absent(t, "this machine lets not even root mount")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // programs of the user may still be in it
}

// attachFails gives the problem with which attaching fails, and fails the test if it takes long.
func (p *program) attachFails(name string, s *engine.SSHD) workspace.Problem {
	p.t.Helper()
	begun := time.Now()
	err := p.attach(p.t.Context(), name, s, s.Addr, nil)
	if err == nil {
		p.t.Fatal("it was attached")
	}
	if took := time.Since(begun); took > 15*time.Second {
		p.t.Errorf("it took %s to say", took)
	}
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		p.t.Fatal(err)
	}
	return r.problem()
}

// TestHomeThatCannotHoldJobsFailsTheAttachWithItsMend: the pre-flight names cause and mend in seconds, the mend works,
// and nothing of the failed attempt stands in its way.
func TestHomeThatCannotHoldJobsFailsTheAttachWithItsMend(t *testing.T) {
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	for _, home := range []struct {
		name, size string
		flags      uintptr
		code, says string
	}{
		{"noexec", "64m", unix.MS_NOEXEC, "FolderNoexec", "noexec"},
		{"full", "1m", 0, "DiskFull", "No space left"},
		{"read-only", "64m", unix.MS_RDONLY, "FolderReadOnly", "ead-only"},
	} {
		t.Run(home.name, func(t *testing.T) {
			machine := engine.StartSSHD(t, engine.SSHDOptions{})
			elsewhere := openFolder(t)
			mount(t, machine.Home, home.flags, home.size)
			why := p.attachFails(home.name, machine)
			if why.Code != home.code || !strings.Contains(why.Message+why.Cause+why.Mend, home.says) || !strings.Contains(why.Mend, "folder") {
				t.Errorf("wanted %s with a mend: %+v", home.code, why)
			}
			p.mustAttach(home.name, machine, machine.Addr, map[string]any{"folder": filepath.Join(elsewhere, "jobs")})
			p.mustSubmit(home.name, "echo $HOME; echo works", on(home.name))
			p.mustEnd(home.name, "Completed")
			p.mustLog(home.name, machine.Home+"\nworks\n")
			_, err := p.call(t.Context(), "DELETE", workspacePath+"/computes/"+home.name+apiVersion, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			until(t, "nothing is left of it", func() bool {
				left, err := os.ReadDir(elsewhere)
				return err == nil && len(left) == 0
			})
		})
	}
}

// TestDiskThatFillsDuringAJobLosesNoVerdict: a job fills the disk on which its own record must be written. When there is
// room again the job ends as it ended, and other jobs run.
func TestDiskThatFillsDuringAJobLosesNoVerdict(t *testing.T) {
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	mount(t, machine.Home, 0, "48m")
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	p.mustAttach("far", machine, machine.Addr, nil)
	p.mustSubmit("fills", "echo before; cat /dev/zero > $HOME/ballast; exit 9", on("far"))
	until(t, "the disk is full", func() bool {
		var fs unix.Statfs_t
		return unix.Statfs(machine.Home, &fs) == nil && fs.Bavail == 0
	})
	if err := p.submit(t.Context(), "meanwhile", "echo meanwhile", on("far")); err != nil {
		t.Fatal(err) // the server's own disk has room: it is accepted and waits
	}
	if err := os.Remove(filepath.Join(machine.Home, "ballast")); err != nil {
		t.Fatal(err)
	}
	if v := p.mustEnd("fills", "Failed"); v.ExitCode == nil || *v.ExitCode != 9 {
		t.Errorf("it ended with %v: %+v", v.ExitCode, v.Error)
	}
	p.mustLog("fills", "before\ncat: write error: No space left on device\n")
	if v, err := p.wait(t.Context(), "meanwhile"); err != nil || v.State == "Failed" && v.errorCode() != "DiskFull" {
		t.Errorf("the job that came meanwhile: %+v, %v", v.Error, err)
	}
	p.mustSubmit("after", "echo after", on("far"))
	p.mustEnd("after", "Completed")
}

// TestMachineThatKillsProcessesAtLogoutIsFoundOut: logind's setting would end jobs with the connection. The machine is
// played in a mount namespace of its own, which sshd is started in.
func TestMachineThatKillsProcessesAtLogoutIsFoundOut(t *testing.T) {
	needRoot(t, "a mount namespace")
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	for _, dir := range []string{"/etc/systemd", "/var/lib/systemd"} {
		if _, err := os.Stat(dir); err != nil {
			t.Skip("there is no " + dir + " to put a setting into")
		}
	}
	done := make(chan struct{})
	go func() { // a goroutine that keeps its thread, whose namespaces end with it
		defer close(done)
		runtime.LockOSThread()
		err := errors.Join(unix.Unshare(unix.CLONE_FS|unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		for _, dir := range []string{"/etc/systemd", "/var/lib/systemd"} {
			err = errors.Join(err, unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"))
		}
		if err != nil {
			t.Errorf("no namespace: %v", err)
			return
		}
		tools := openFolder(t)
		for name, text := range map[string]string{
			filepath.Join(tools, "loginctl"): "#!/bin/sh\n", "/etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n",
		} {
			if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
				t.Error(err)
				return
			}
		}
		machine := engine.StartSSHD(t, engine.SSHDOptions{Extra: "SetEnv PATH=" + tools + ":/usr/local/bin:/usr/bin:/bin"})
		var why workspace.Problem
		if r, ok := errors.AsType[*refusal](p.attach(t.Context(), "kills", machine, machine.Addr, nil)); ok {
			why = r.problem()
		}
		if why.Code != "KillUserProcesses" || !strings.Contains(why.Mend, "loginctl enable-linger "+machine.User) {
			t.Errorf("it was not found out: %+v", why)
		}
		if err := errors.Join(os.MkdirAll("/var/lib/systemd/linger", 0o755), os.WriteFile("/var/lib/systemd/linger/"+machine.User, nil, 0o644)); err != nil {
			t.Error(err)
		}
		if err := p.attach(t.Context(), "kills", machine, machine.Addr, nil); err != nil {
			t.Errorf("the mend does not help: %v", err)
		}
	}()
	<-done
}

// TestHomeOnNFSIsAFinding needs a kernel that serves NFS.
func TestHomeOnNFSIsAFinding(t *testing.T) {
	needRoot(t, "serving NFS")
	known, _ := os.ReadFile("/proc/filesystems")
	if _, err := exec.LookPath("exportfs"); err != nil || !strings.Contains(string(known), "nfsd") || !strings.Contains(string(known), "nfs4") {
		t.Skip("no kernel NFS server here (nfsd, nfs4, exportfs)")
	}
	machine := engine.StartSSHD(t, engine.SSHDOptions{})
	store := openFolder(t)
	mount(t, store, 0, "256m") // a file system that can be exported by number
	export := func(args ...string) {
		if out, err := exec.Command("exportfs", args...).CombinedOutput(); err != nil {
			t.Skipf("exportfs %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	export("-o", "rw,no_root_squash,insecure,fsid=77", "127.0.0.1:"+store)
	t.Cleanup(func() { _ = exec.Command("exportfs", "-u", "127.0.0.1:"+store).Run() })
	if out, err := exec.Command("mount", "-t", "nfs4", "127.0.0.1:"+store, machine.Home).CombinedOutput(); err != nil {
		t.Skipf("NFS does not mount here: %s", out)
	}
	t.Cleanup(func() { _ = syscall.Unmount(machine.Home, unix.MNT_DETACH) })
	p := started(t, t.TempDir(), "MOORAGE_NO_LOCAL=true")
	var facts struct{ Problems []workspace.Problem }
	if _, err := p.call(t.Context(), "POST", native+"/computes/check", sshCompute(t, machine, machine.Addr, nil), &facts); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(fmt.Sprint(facts.Problems), "FolderOnNFS") {
		t.Errorf("it was not found: %+v", facts.Problems)
	}
}
