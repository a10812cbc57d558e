package tracking

import (
	"encoding/binary"
	"fmt"
	"io"
)

var (
	adjectives = []string{
		"able", "amber", "bold", "brave", "bright", "brisk", "calm", "candid", "clean", "clever", "crisp", "deft", "eager",
		"early", "fair", "fleet", "fond", "fresh", "gentle", "glad", "grand", "hardy", "honest", "jolly", "keen", "kind",
		"lively", "loud", "lucky", "mellow", "merry", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite",
		"prime", "proud", "quick", "quiet", "rapid", "ready", "serene", "sharp", "silent", "sleek", "smart", "sober",
		"steady", "stout", "sunny", "swift", "tidy", "true", "upbeat", "vivid", "warm", "wise", "witty", "young", "zesty",
	}
	nouns = []string{
		"anchor", "barge", "bay", "beacon", "boat", "bollard", "bow", "bridge", "brig", "buoy", "cable", "cape", "capstan",
		"cleat", "clipper", "coast", "cove", "crane", "current", "cutter", "deck", "delta", "dock", "ferry", "fjord",
		"gull", "harbour", "hawser", "heron", "helm", "hull", "island", "jetty", "keel", "ketch", "lagoon", "lantern",
		"mast", "oar", "pier", "pilot", "port", "quay", "reef", "rudder", "sail", "schooner", "seal", "shore", "skiff",
		"sloop", "sound", "stern", "strait", "tern", "tide", "tiller", "tug", "wave", "wharf", "yacht", "yawl",
	}
)

// randomName makes the name of a run that was given none: adjective-noun-number.
func randomName(rand io.Reader) (string, error) {
	var b [6]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("tracking: run name: %w", err)
	}
	pick := func(list []string, at int) string { return list[int(binary.BigEndian.Uint16(b[at:]))%len(list)] }
	return fmt.Sprintf("%s-%s-%d", pick(adjectives, 0), pick(nouns, 2), binary.BigEndian.Uint16(b[4:])%1000), nil
}
