package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/store"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// MaxManifest is the largest manifest in bytes, the least that the specification lets a registry choose.
const MaxManifest = 4 << 20

// maxDescriptors is how many blobs and manifests a manifest may name.
const maxDescriptors = 2000

// The kinds of manifest.
const (
	ociImage    = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	dockerImage = "application/vnd.docker.distribution.manifest.v2+json"
	dockerList  = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// descriptor names a blob or manifest.
type descriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	URLs      []string `json:"urls"`
}

// elsewhere tells whether the bytes need not be here: layers that their owner lets nobody pass on.
func (d descriptor) elsewhere() bool {
	return len(d.URLs) > 0 || strings.Contains(d.MediaType, ".nondistributable.") || strings.Contains(d.MediaType, ".foreign.")
}

// document is what a registry has to know of a manifest.
type document struct {
	Schema       int               `json:"schemaVersion"`
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Config       *descriptor       `json:"config"`
	Layers       []descriptor      `json:"layers"`
	Manifests    []descriptor      `json:"manifests"`
	Subject      *descriptor       `json:"subject"`
	Annotations  map[string]string `json:"annotations"`
}

func invalid(format string, args ...any) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "ManifestInvalid", Target: "manifest", Message: "the manifest cannot be used: " + fmt.Sprintf(format, args...),
		Mend: "push an image or index as OCI or Docker's schema 2 describe them",
	}
}

// parse reads a manifest of a media type, and what it names.
func parse(mediaType string, content []byte) (m store.RegistryManifest, blobs, manifests, all []string, err error) {
	var d document
	if err := json.Unmarshal(content, &d); err != nil {
		return m, nil, nil, nil, invalid("it is not JSON of the right form: %v", err)
	}
	if mediaType == "" {
		mediaType = d.MediaType
	}
	image := mediaType == ociImage || mediaType == dockerImage
	index := mediaType == ociIndex || mediaType == dockerList
	switch {
	case !image && !index:
		return m, nil, nil, nil, invalid("media type %.100q is not one that is served here", mediaType)
	case d.MediaType != "" && d.MediaType != mediaType:
		return m, nil, nil, nil, invalid("it says to be %.100q, and came as %.100q", d.MediaType, mediaType)
	case d.Schema != 2:
		return m, nil, nil, nil, invalid("its schemaVersion is %d, not 2", d.Schema)
	case image && d.Config == nil:
		return m, nil, nil, nil, invalid("an image has a config")
	case image && len(d.Manifests) > 0, index && (d.Config != nil || len(d.Layers) > 0):
		return m, nil, nil, nil, invalid("it is image and index at once")
	case len(d.Layers)+len(d.Manifests) > maxDescriptors:
		return m, nil, nil, nil, invalid("it names more than %d blobs and manifests", maxDescriptors)
	}
	if image {
		d.Layers = append(d.Layers, *d.Config)
	}
	for _, l := range d.Layers {
		if !l.elsewhere() {
			blobs = append(blobs, l.Digest)
		}
	}
	for _, c := range d.Manifests {
		manifests = append(manifests, c.Digest)
	}
	for _, x := range slices.Concat(d.Layers, d.Manifests) {
		all = append(all, x.Digest)
	}
	m = store.RegistryManifest{MediaType: mediaType, ArtifactType: d.artifactType(), Size: int64(len(content)), Content: content}
	if len(d.Annotations) > 0 {
		if m.Annotations, err = json.Marshal(d.Annotations); err != nil {
			return m, nil, nil, nil, err
		}
	}
	check := all
	if d.Subject != nil {
		m.Subject = d.Subject.Digest
		check = append(slices.Clip(all), m.Subject)
	}
	for _, digest := range check {
		if _, err := ParseDigest(digest); err != nil {
			return m, nil, nil, nil, invalid("%v", err)
		}
	}
	return m, blobs, manifests, all, nil
}

// artifactType is what the referrers API gives for the manifest: its own, or else the media type of its config.
func (d document) artifactType() string {
	if d.ArtifactType == "" && d.Config != nil {
		return d.Config.MediaType
	}
	return d.ArtifactType
}

// PutManifest keeps a manifest under a digest or a tag. What it is made of must be in the repository, but for its
// subject and for layers that lie elsewhere.
func (g *Registry) PutManifest(ctx context.Context, in store.Repository, reference, mediaType string, content []byte) (store.RegistryManifest, error) {
	m, blobs, manifests, all, err := parse(mediaType, content)
	if err != nil {
		return m, err
	}
	digest, tag := DigestOf(content), reference
	if strings.Contains(reference, ":") {
		tag = ""
		if digest, err = ParseDigest(reference); err != nil {
			return m, err
		}
		sum := digest.sum()
		sum.Write(content)
		if !digest.of(sum) {
			return m, digest.wrong()
		}
	} else if !IsTag(tag) {
		return m, badTag(tag)
	}
	m.Digest = string(digest)
	err = g.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		for _, need := range []struct {
			digests []string
			blobs   bool
		}{{blobs, true}, {manifests, false}} {
			missing, err := tx.MissingForManifest(ctx, in, need.digests, need.blobs)
			if err == nil && len(missing) > 0 {
				err = incomplete(missing)
			}
			if err != nil {
				return err
			}
		}
		if err := tx.PutRegistryManifest(ctx, in, m, all, g.keep); err != nil || tag == "" {
			return err
		}
		return tx.PutRegistryTag(ctx, in, tag, m.Digest)
	})
	return m, err
}

func badTag(tag string) error {
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "ManifestInvalid", Target: "tag", Message: fmt.Sprintf("%.150q cannot be a tag", tag), Mend: "use 1 to 128 letters, digits, '_', '.' and '-'",
	}
}

func incomplete(missing []string) error {
	cause := "the first of them is " + missing[0]
	return &workspace.Problem{
		Class: workspace.Invalid, Code: "ManifestBlobUnknown", Target: missing[0],
		Message: fmt.Sprintf("the repository lacks %d of what the manifest is made of", len(missing)), Cause: cause, Mend: "push those first",
	}
}

// Manifest gives a manifest by a digest or tag, and keeps it for a day. Not there: a Problem ManifestUnknown.
func (g *Registry) Manifest(ctx context.Context, in store.Repository, reference string) (m store.RegistryManifest, err error) {
	if strings.Contains(reference, ":") {
		m, err = g.cfg.Store.RegistryManifest(ctx, in, reference)
	} else {
		m, err = g.cfg.Store.RegistryTagged(ctx, in, reference)
	}
	if err == nil && m.Pinned < g.keep.Milliseconds()/2 {
		err = g.cfg.Store.Write(ctx, func(tx *store.Tx) error { return tx.PinRegistryManifest(ctx, in, m.Digest, g.keep) })
	}
	return m, unknownManifest(err, reference)
}

// DeleteManifest takes away a tag alone, or by its digest a manifest with all its tags. What it was made of goes with
// the sweep.
func (g *Registry) DeleteManifest(ctx context.Context, in store.Repository, reference string) error {
	err := g.cfg.Store.Write(ctx, func(tx *store.Tx) error {
		if strings.Contains(reference, ":") {
			return tx.DeleteRegistryManifest(ctx, in, reference)
		}
		return tx.DeleteRegistryTag(ctx, in, reference)
	})
	return unknownManifest(err, reference)
}

func unknownManifest(err error, reference string) error {
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &workspace.Problem{
		Class: workspace.NotFound, Code: "ManifestUnknown", Target: "reference", Message: fmt.Sprintf("the repository has no manifest %.150q", reference), Mend: "push it, or look at the list of tags",
	}
}

// Tags lists tags in byte order, up to 1,000 of them after the cursor. A repository that holds nothing is a Problem
// NameUnknown.
func (g *Registry) Tags(ctx context.Context, in store.Repository, p store.Page) ([]string, error) {
	tags, err := g.cfg.Store.RegistryTags(ctx, in, p)
	if err != nil || len(tags) > 0 {
		return tags, err
	}
	there, err := g.cfg.Store.HasRepository(ctx, in)
	if err == nil && !there {
		err = &workspace.Problem{Class: workspace.NotFound, Code: "NameUnknown", Target: "name", Message: fmt.Sprintf("the repository %q holds nothing", in.Name), Mend: "push an image to it"}
	}
	return nil, err
}

// Referrers lists the manifests that say something about another, which need not be there; see store.RegistryReferrers.
func (g *Registry) Referrers(ctx context.Context, in store.Repository, subject Digest, artifactType string, p store.Page) ([]store.RegistryManifest, error) {
	return g.cfg.Store.RegistryReferrers(ctx, in, string(subject), artifactType, p)
}

// Repositories lists the whole names of repositories that hold an image, in byte order after a name; of one workspace,
// unless its id is empty.
func (g *Registry) Repositories(ctx context.Context, workspaceID string, p store.Page) ([]string, error) {
	all, err := g.cfg.Store.Workspaces(ctx)
	if err != nil {
		return nil, err
	}
	prefixes := map[string]string{} // first part → id
	for _, ws := range all {
		if workspaceID == "" || ws.ID == workspaceID {
			prefixes[Prefix(ws, all)] = ws.ID
		}
	}
	var names []string
	for _, first := range sorted(prefixes) {
		after := ""
		if last, rest, _ := strings.Cut(p.After, "/"); last > first {
			continue
		} else if last == first {
			after = rest
		}
		list, err := g.cfg.Store.Repositories(ctx, prefixes[first], store.Page{After: after, Limit: p.Limit - len(names)})
		if err != nil {
			return nil, err
		}
		for _, name := range list {
			names = append(names, first+"/"+name)
		}
		if len(names) >= p.Limit {
			break
		}
	}
	return names, nil
}

func sorted(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
