package tracking

import (
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/moorage-ml/moorage/internal/store"
)

// MLflow's limits (mlflow.md §10), in characters.
const (
	maxKey               = 250
	maxParam             = 6000
	maxTag               = 8000
	maxExperimentName    = 500
	maxExperimentTag     = 20000
	maxArtifactLocation  = 2048
	maxDatasetName       = 500
	maxDatasetDigest     = 36
	maxDatasetSchema     = 1048575
	maxDatasetSource     = 65535
	maxDatasetProfile    = 16777215
	maxInputTagKey       = 255
	maxInputTagValue     = 500
	maxDatasets          = 1000
	maxBatchMetrics      = 1000
	maxBatchParams       = 100
	maxBatchTags         = 100
	maxBatchTogether     = 1000
	maxModels            = 1000
	maxModelHistoryBytes = 4 << 20
)

// Compiled when first used: the command line of the same program has no use for them and starts often.
var (
	keyPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[/\pL\pN_.\- :]*$`) })
	runPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][\w.\-]{0,255}$`) })
)

// checkKey refuses names of metrics, params and tags that MLflow refuses: they must be usable as a relative path.
func checkKey(target, key string) error {
	switch {
	case key == "":
		return missing(target)
	case !keyPattern().MatchString(key):
		return invalid(target, "Invalid value %q for parameter '%s' supplied: Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/).", clip(key), target)
	case path.Clean(key) != key || key == "." || strings.HasPrefix(key, "..") || strings.HasPrefix(key, "/"):
		return invalid(target, "Invalid value %q for parameter '%s' supplied: Names may be treated as files in certain cases, and must not resolve to other names when treated as such. This name would resolve to %q", clip(key), target, clip(path.Clean(key)))
	}
	return checkLength(target, key, maxKey)
}

func checkLength(target, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return invalid(target, "'%s' exceeds the maximum length of %d characters: it has %d", target, limit, n)
	}
	return nil
}

// checkLabels checks keys and cuts long values off, as MLflow's server does. Later values of a key win.
func checkLabels(target string, labels []store.Label, limit int) ([]store.Label, error) {
	at := make(map[string]int, len(labels))
	out := make([]store.Label, 0, len(labels))
	for i, l := range labels {
		if err := checkKey(target+"["+strconv.Itoa(i)+"].key", l.Key); err != nil {
			return nil, err
		}
		l.Value = cut(l.Value, limit)
		if j, twice := at[l.Key]; twice {
			out[j] = l
			continue
		}
		at[l.Key] = len(out)
		out = append(out, l)
	}
	return out, nil
}

// labelsOf gives tags by key, their values cut off.
func labelsOf(tags map[string]string, limit int) []store.Label {
	labels := make([]store.Label, 0, len(tags))
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		labels = append(labels, store.Label{Key: key, Value: cut(tags[key], limit)})
	}
	return labels
}

// cut shortens a text to a number of characters.
func cut(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	for i := range s {
		if limit == 0 {
			return s[:i]
		}
		limit--
	}
	return s
}

func missing(target string) error {
	return invalid(target, "Missing value for required parameter '%s'. See the API docs for more information about request parameters.", target)
}

func checkExperimentName(target, name string) error {
	if strings.TrimSpace(name) == "" {
		return invalid(target, "Invalid experiment name: '%s'", clip(name))
	}
	return checkLength(target, name, maxExperimentName)
}

// checkArtifactLocation refuses places that the server must not point clients to.
func checkArtifactLocation(location string) error {
	const target = "artifact_location"
	if location == "" {
		return nil
	}
	if err := checkLength(target, location, maxArtifactLocation); err != nil {
		return err
	}
	u, err := url.Parse(location)
	if err != nil || len(u.Scheme) < 2 || u.Scheme == "file" || u.Scheme == "runs" {
		return invalid(target, "Invalid value %q for parameter 'artifact_location' supplied: it must be a URI of remote storage, such as s3://bucket/folder", clip(location))
	}
	if u.Fragment != "" || u.RawQuery != "" || strings.ContainsAny(location, "#;") || strings.Contains("/"+location+"/", "/../") {
		return invalid(target, "'artifact_location' URL can't include fragments or params.")
	}
	return nil
}

// ExperimentID reads the decimal id of an experiment.
func ExperimentID(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || text != strconv.FormatInt(n, 10) {
		return 0, invalid("experiment_id", "Invalid value %q for parameter 'experiment_id' supplied: experiment ids are whole numbers in decimal", clip(text))
	}
	return n, nil
}

func clip(s string) string {
	if len(s) > 250 {
		return strings.ToValidUTF8(s[:250], "") + "…"
	}
	return s
}
