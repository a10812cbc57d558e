package keeper

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// mountNamespace starts a command as commandAttr does, in a mount namespace of its own. A login other than root has one
// only in a user namespace. There it keeps its ids and groups and no others are known. The one capability that the first
// program gets to mount the hosts file, that program gives up, see namespaced.
func mountNamespace() *syscall.SysProcAttr {
	attr := commandAttr()
	attr.Cloneflags = syscall.CLONE_NEWNS
	if uid, gid := os.Geteuid(), os.Getegid(); uid != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
	}
	return attr
}

// namespaced is the keeper's subcommand that runs first in a namespace of mountNamespace. It puts the hosts file in its
// place and becomes the command, whatever happens; without a command it tells by its exit code, and in words, whether the
// name is found.
func namespaced(hosts string, command []string) int {
	runtime.LockOSThread() // capabilities are a thread's
	err := mountHosts(hosts)
	if len(command) == 0 {
		if err == nil && !resolves(context.Background()) {
			err = fmt.Errorf("%s is not found in it, although /etc/hosts has it", blobHostName)
		}
		if err != nil {
			_, _ = fmt.Fprintln(os.Stdout, err)
			return 1
		}
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "moorage: uploads of azureml-core will fail in this job:", err)
	}
	if err := dropCapabilities(); err != nil {
		fmt.Fprintln(os.Stderr, "moorage:", err)
	}
	err = syscall.Exec(command[0], command, os.Environ())
	fmt.Fprintln(os.Stderr, "moorage: the command could not be started:", err)
	return 126
}

// mountHosts lays a file over /etc/hosts. What is mounted in this namespace must not appear in the machine's own.
func mountHosts(hosts string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("the mounts cannot be made private: %w", err)
	}
	if err := unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("the hosts file cannot be mounted: %w", err)
	}
	return nil
}

// dropCapabilities leaves a login other than root without capabilities in its namespace, as it is outside.
func dropCapabilities() error {
	if os.Geteuid() == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}
