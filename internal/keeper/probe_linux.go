package keeper

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// release names the distribution, e.g. "Ubuntu 24.04.1 LTS".
func release() string {
	for _, path := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
				return strings.Trim(v, `"`)
			}
		}
	}
	return ""
}

// kernelRelease is the running kernel's, e.g. "6.1.0-18-amd64".
func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// memory is the machine's, in bytes.
func memory() string {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return ""
	}
	return strconv.FormatUint(info.Totalram*uint64(info.Unit), 10)
}

// diskFree is how many bytes a login may still write.
func diskFree(path string) (int64, bool) {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil {
		return 0, false
	}
	return int64(fs.Bavail) * int64(fs.Bsize), true //nolint:unconvert // 32 bits on some processors
}

// lowDisk is what a folder should have free.
const lowDisk = 1 << 30

const nfsMagic = 0x6969

func (a *agent) probeFolder(set func(string, string)) []workspace.Problem {
	var out []workspace.Problem
	folder := a.root.folder
	var fs unix.Statfs_t
	if err := unix.Statfs(folder, &fs); err == nil {
		free := fs.Bavail * uint64(fs.Bsize)
		set("disk_free", strconv.FormatUint(free, 10))
		if free < lowDisk {
			out = append(out, workspace.Problem{
				Code: "DiskLow", Message: "the target's disk is nearly full", Warning: true,
				Cause: strconv.FormatUint(free>>20, 10) + " MB are free for " + folder, Mend: "free some room, or name a folder on another disk in the compute's settings",
			})
		}
		if fs.Type == nfsMagic {
			set("folder_network", "nfs")
			out = append(out, workspace.Problem{
				Code: "FolderOnNFS", Message: "the keeper's folder is on a network file system", Warning: true, Cause: folder + " is on NFS",
				Mend: "name a folder on a local disk in the compute's settings: jobs start faster, and locks do not depend on the file server",
			})
		}
		if fs.Flags&unix.ST_NOEXEC != 0 {
			out = append(out, workspace.Problem{
				Code: "FolderNoexec", Message: "programs cannot be run from the keeper's folder", Warning: true, Cause: folder + " is mounted noexec",
				Mend: "name a folder that is not mounted noexec in the compute's settings; environments and programs in snapshots need it",
			})
		}
	}
	return out
}

func probeSystem(set func(string, string)) []workspace.Problem {
	var out []workspace.Problem
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		out = append(out, workspace.Problem{
			Code: "NoProc", Message: "the target has no /proc, so processes that leave a job's group are not found when it is ended", Cause: err.Error(),
			Warning: true, Mend: "mount /proc",
		})
	}
	if !killsUserProcesses() {
		return out
	}
	set("kill_user_processes", "yes")
	name := ""
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if name == "root" || lingers(name) {
		set("linger", "yes")
		return out
	}
	return append(out, workspace.Problem{
		Code: "KillUserProcesses", Message: "the target ends a user's processes at logout, which would end jobs when the connection ends",
		Cause: "KillUserProcesses=yes in logind's configuration, and the login does not linger", Mend: "run there: loginctl enable-linger " + name,
	})
}

func lingers(name string) bool {
	_, err := os.Stat(filepath.Join("/var/lib/systemd/linger", name))
	return err == nil
}

// killsUserProcesses reads logind's configuration; the default is no.
func killsUserProcesses() bool {
	if _, err := exec.LookPath("loginctl"); err != nil {
		return false
	}
	files := []string{"/usr/lib/systemd/logind.conf", "/etc/systemd/logind.conf"}
	for _, dir := range []string{"/usr/lib/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"} {
		if more, err := filepath.Glob(filepath.Join(dir, "*.conf")); err == nil {
			files = append(files, more...)
		}
	}
	kills := false
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "KillUserProcesses="); ok {
				v = strings.ToLower(strings.TrimSpace(v))
				kills = v == "yes" || v == "true" || v == "1" || v == "on"
			}
		}
	}
	return kills
}
