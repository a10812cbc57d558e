// Package all is the list of the kinds of compute. Whoever builds a server hands it to package fleet; nothing registers
// itself.
package all

import (
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/batch"
	"github.com/moorage-ml/moorage/internal/compute/docker"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
	"github.com/moorage-ml/moorage/internal/compute/kubernetes"
	"github.com/moorage-ml/moorage/internal/compute/local"
	"github.com/moorage-ml/moorage/internal/compute/ssh"
)

// Drivers are the kinds, in the order in which they are shown.
func Drivers() []compute.Driver {
	return []compute.Driver{
		local.Driver{},
		ssh.Driver{},
		docker.Driver{},
		kubernetes.Driver{},
		batch.Driver{Machines: map[string]func(json.RawMessage, compute.Env) (kept.Options, error){"ssh": ssh.Machine, "local": local.Machine}},
	}
}
