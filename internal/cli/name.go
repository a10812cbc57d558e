package cli

import (
	"fmt"
	"io"

	"github.com/moorage-ml/moorage/internal/clock"
)

// Words of job names, which have the form of Azure's v2 client: adjective_noun_suffix.
var (
	adjectives = []string{
		"able", "amber", "azure", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "coral", "cosy", "crisp", "deep", "eager", "early", "fair",
		"fleet", "fresh", "gentle", "glad", "golden", "grand", "green", "happy", "hardy", "honest", "indigo", "ivory", "jolly", "keen", "kind", "lively",
		"loyal", "lucid", "merry", "mild", "misty", "neat", "noble", "olive", "patient", "plain", "proud", "quick", "quiet", "rapid", "ready", "rosy",
		"salty", "serene", "sharp", "silver", "sleek", "smooth", "snug", "solid", "spry", "steady", "still", "strong", "sturdy", "sunny", "swift", "tall",
		"teal", "tidy", "trim", "true", "upbeat", "vivid", "warm", "wide", "wise", "witty", "zesty",
	}
	nouns = []string{
		"albatross", "anchor", "barge", "bay", "beacon", "berth", "bollard", "boom", "bow", "breeze", "brook", "buoy", "cable", "canal", "canoe", "cape",
		"cleat", "coast", "compass", "cove", "crane", "current", "deck", "delta", "dinghy", "dock", "dolphin", "eddy", "estuary", "ferry", "fjord", "galley",
		"gannet", "gull", "harbor", "hawser", "helm", "heron", "hull", "island", "jetty", "kayak", "keel", "kelp", "lagoon", "lantern", "lock", "lugger",
		"marina", "mast", "mooring", "oar", "osprey", "otter", "pelican", "pier", "pilot", "port", "prow", "quay", "raft", "reef", "rigging", "river",
		"rudder", "sail", "schooner", "seal", "shoal", "skiff", "sloop", "spar", "spray", "strait", "tern", "tide", "tiller", "tug", "wave", "wharf", "yawl",
	}
)

// suffixLetters have no vowels, so that no word arises by chance.
const suffixLetters, suffixLength = "bcdfghjklmnpqrstvwxyz0123456789", 10

// jobName makes a name that no other job has: its suffix alone is one of 10^14.
func jobName(c clock.Source) (string, error) {
	b := make([]byte, 2+2*suffixLength)
	if _, err := io.ReadFull(c.Rand, b); err != nil {
		return "", fmt.Errorf("cli: job name: %w", err)
	}
	suffix := make([]byte, suffixLength)
	for i := range suffix {
		n := int(b[2+2*i])<<8 | int(b[3+2*i])
		suffix[i] = suffixLetters[n%len(suffixLetters)]
	}
	return adjectives[int(b[0])%len(adjectives)] + "_" + nouns[int(b[1])%len(nouns)] + "_" + string(suffix), nil
}
