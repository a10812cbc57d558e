package api

import (
	"net/http"
	"net/url"
	"strings"
)

// folder writes the fixed segments of an ARM path as the route table spells them, because ARM compares them without
// regard to case. Names stay as they are. Segments alternate: subscriptions/NAME/resourceGroups/NAME/providers/….
type folder map[string]string // lower case → as in the table

// fold gives the path (escaped) as the table spells it. Below a prefix such as /history/v1.0 only the workspace's path is ARM's.
func (f folder) fold(path string) string {
	segments := strings.Split(path, "/")
	first := 1
	for first < len(segments) && first < 4 && !strings.EqualFold(segments[first], "subscriptions") {
		first++
	}
	for i := first; i < len(segments); i++ {
		n := i - first // 0 subscriptions, 5 the provider, 7 the workspace's name
		if n > 7 && first > 1 {
			break
		}
		if as, known := f[strings.ToLower(segments[i])]; known && (n%2 == 0 || n == 5) {
			segments[i] = as
		}
	}
	return strings.Join(segments, "/")
}

// learn takes the fixed segments of an ARM pattern.
func (f folder) learn(pattern string) {
	_, arm, found := strings.Cut(pattern, "/subscriptions/")
	if !found {
		return
	}
	for segment := range strings.SplitSeq("subscriptions/"+arm, "/") {
		if segment != "" && segment[0] != '{' {
			f[strings.ToLower(segment)] = segment
		}
	}
}

// tidy gives the request with a folded path, without doubled or trailing slashes (azureml-v1.md §2). A path that climbs
// ("..") or holds a zero byte is refused: ok is false.
func (f folder) tidy(r *http.Request) (out *http.Request, ok bool) {
	for segment := range strings.SplitSeq(r.URL.Path, "/") {
		if segment == ".." || segment == "." || strings.ContainsRune(segment, 0) {
			return r, false
		}
	}
	path := r.URL.EscapedPath()
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	path = f.fold(path)
	plain, err := url.PathUnescape(path)
	if err != nil || !strings.HasPrefix(path, "/") {
		return r, false
	}
	u := *r.URL
	u.Path, u.RawPath = plain, path
	out = r.WithContext(r.Context())
	out.URL = &u
	return out, true
}
