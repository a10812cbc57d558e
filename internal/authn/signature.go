package authn

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// Signature is what a signed URL allows: verbs on one blob or on all of a container, until a time. In a query it has
// the names of Azure's shared access signatures, which the clients carry along unread.
type Signature struct {
	Container string
	Blob      string // empty: the whole container
	Verbs     string // of "rcwdl", in that order: read, create, write, delete, list
	Expires   time.Time
}

const signatureVersion = "2021-12-02"

// Sign gives the query of a signed URL, without '?'.
func (a *Authenticator) Sign(s Signature) string {
	q := url.Values{"sv": {signatureVersion}, "sr": {"c"}, "sp": {s.Verbs}, "se": {s.Expires.UTC().Format(time.RFC3339)}}
	if s.Blob != "" {
		q.Set("sr", "b")
	}
	q.Set("sig", a.signature(s, q))
	return q.Encode()
}

func (a *Authenticator) signature(s Signature, q url.Values) string {
	m := hmac.New(sha256.New, a.signatures)
	m.Write([]byte(strings.Join([]string{q.Get("sv"), q.Get("sr"), q.Get("sp"), q.Get("se"), s.Container, s.Blob}, "\n")))
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

// CheckSignature tells whether a query signs one verb on a blob. A signature for a container holds for all its blobs;
// one for a blob holds for that blob alone, and never for listing.
func (a *Authenticator) CheckSignature(q url.Values, container, blob, verb string) error {
	s := Signature{Container: container}
	if q.Get("sr") == "b" {
		s.Blob = blob
	}
	if q.Get("sr") == "b" && blob == "" || !hmac.Equal([]byte(q.Get("sig")), []byte(a.signature(s, q))) {
		return signatureProblem("the signature of the URL does not match")
	}
	expires, err := time.Parse(time.RFC3339, q.Get("se"))
	if err != nil || !a.clock.Now().Before(expires) {
		return signatureProblem("the signed URL has expired")
	}
	if !strings.Contains(q.Get("sp"), verb) && !(verb == "c" && strings.Contains(q.Get("sp"), "w")) {
		return &workspace.Problem{
			Class: workspace.Denied, Code: "AuthorizationPermissionMismatch", Message: "the signed URL does not allow this operation",
			Mend: "ask for a new one",
		}
	}
	return nil
}

func signatureProblem(message string) error {
	return &workspace.Problem{Class: workspace.Unauthenticated, Code: "AuthenticationFailed", Message: message, Mend: "ask for a new one"}
}

// Signed is the principal of a request that came with a good signature.
func Signed() workspace.Principal { return workspace.Principal{Kind: "signed", Name: "signed URL"} }
