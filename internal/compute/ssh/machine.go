package ssh

import (
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
)

// Machine is the way to an agent on a machine that these settings name, for kinds that have such a machine as the door to
// something else: a login node. Nothing is connected yet.
func Machine(settings json.RawMessage, env compute.Env) (kept.Options, error) {
	s, err := read(settings)
	if err != nil {
		return kept.Options{}, err
	}
	if env.Keeper == nil {
		return kept.Options{}, invalid("", "this server has no keeper program to place on machines", "", "install a build of the server that holds it")
	}
	l := newLink(s, env)
	return kept.Options{Dial: l.dial, Facts: l.facts, CloseTransport: l.line.Close}, nil
}
