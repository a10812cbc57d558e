package local

import (
	"encoding/json"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/compute/internal/kept"
)

// Machine is the way to an agent on the server's own machine, for kinds that have it as the door to something else: a
// server that runs on a login node. Nothing is started yet.
func Machine(settings json.RawMessage, env compute.Env) (kept.Options, error) {
	var s Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return kept.Options{}, invalid("the settings are not valid", err)
	}
	folder, err := s.folder()
	if err != nil {
		return kept.Options{}, err
	}
	start := starter{folder: folder, env: env}
	return kept.Options{Dial: start.dial}, nil
}
