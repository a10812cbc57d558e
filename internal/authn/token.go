package authn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// claims are those of an Azure token that its clients read (azureml-v2.md §1.1), and ours.
type claims struct {
	jwt.Claims
	// Aud is exactly what was asked for: the v2 client compares it.
	Aud     string `json:"aud"`
	Tenant  string `json:"tid"`
	Object  string `json:"oid"`
	App     string `json:"appid"`
	Name    string `json:"name"`
	UPN     string `json:"upn"`
	Version string `json:"ver"`
	// Ours tells that the audience is this server. A token for anybody else is issued, because clients ask, and is not
	// accepted here: whoever it was sent to cannot use it against us.
	Ours    bool   `json:"moorage"`
	JobID   string `json:"moorage_job,omitempty"`
	Attempt int    `json:"moorage_attempt,omitempty"`
	// RunID and WorkspaceID name the run of a run's token; see RunToken.
	RunID       string `json:"moorage_run,omitempty"`
	WorkspaceID string `json:"moorage_workspace,omitempty"`
	// Registry is the right of a token of the image registry; see RegistryToken.
	Registry RegistryRight `json:"moorage_registry,omitempty"`
}

// Audiences are the names by which Azure's clients ask for a token for this server, whatever its address is.
var Audiences = []string{
	"https://management.azure.com", "https://management.core.windows.net", "https://storage.azure.com",
	"https://ml.azure.com", "https://ml.azure.local",
}

// TokenLife is how long a token is good for unless Config says otherwise; clients come again a few minutes earlier.
const TokenLife = time.Hour

// Tenant is the tenant that tokens name.
func (a *Authenticator) Tenant() string { return UUID(a.server, "tenant") }

// Issue makes a token for a principal. base is the URL by which the client reached the server; an audience that is
// neither that nor one of Audiences gets a token that this server does not accept.
func (a *Authenticator) Issue(p workspace.Principal, audience, base string) (token string, expires time.Time, err error) {
	return a.issue(p, audience, base, 0)
}

// Exchange gives a token for a secret: the administrator's, or a job's own on the way back of that job. A token is not
// taken for another token, so no leaked one lives on by itself.
func (a *Authenticator) Exchange(ctx context.Context, secret, audience, base string) (token string, expires time.Time, err error) {
	if !a.isAdmin(secret) && !strings.HasPrefix(secret, credentialPrefix) {
		return "", time.Time{}, unauthenticated("InvalidSecret", "the secret is not one of this server's", "")
	}
	p, err := a.Principal(ctx, secret)
	if err != nil {
		return "", time.Time{}, err
	}
	way, _ := ctx.Value(wayBackKey{}).(wayBack)
	return a.issue(p, audience, base, way.attempt)
}

func (a *Authenticator) issue(p workspace.Principal, audience, base string, attempt int) (token string, expires time.Time, err error) {
	c := a.claims(p, audience, a.tokenLife)
	c.Ours = a.ours(audience, base)
	if p.Job != "" {
		c.JobID, c.Attempt = p.Job, attempt
		c.Object = UUID(a.server, "job", p.Job)
		c.Subject = c.Object
	}
	token, err = a.seal(c)
	return token, c.Expiry.Time(), err
}

// claims are those that every token has.
func (a *Authenticator) claims(p workspace.Principal, audience string, life time.Duration) claims {
	now := a.clock.Now()
	return claims{
		Claims: jwt.Claims{
			Issuer: "https://moorage/" + a.server, Subject: p.ID, ID: a.clock.NewID(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now.Add(-leeway)), Expiry: jwt.NewNumericDate(now.Add(life)),
		},
		Aud: audience, Tenant: a.Tenant(), Object: p.ID, App: UUID(a.server, "app"), Name: p.Name, UPN: p.Name, Version: "1.0",
	}
}

func (a *Authenticator) seal(c claims) (token string, err error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: a.tokens}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("authn: sign: %w", err)
	}
	return jwt.Signed(signer).Claims(c).Serialize()
}

// leeway forgives the difference between two servers' clocks.
const leeway = 30 * time.Second

func (a *Authenticator) ours(audience, base string) bool {
	plain := strings.TrimRight(strings.TrimSuffix(audience, "/.default"), "/")
	return plain == strings.TrimRight(base, "/") || slices.Contains(Audiences, plain)
}

// verify reads a token and checks signature, issuer, times and that it was issued for this server.
func (a *Authenticator) verify(token string) (claims, error) {
	bad := unauthenticated("InvalidAuthenticationToken", "the token is not valid", "it was not signed by this server, or not issued for it")
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.HS256})
	if err != nil {
		return claims{}, bad
	}
	var c claims
	if err := parsed.Claims(a.tokens, &c); err != nil {
		return claims{}, bad
	}
	err = c.ValidateWithLeeway(jwt.Expected{Issuer: "https://moorage/" + a.server, Time: a.clock.Now()}, leeway)
	if errors.Is(err, jwt.ErrExpired) {
		return claims{}, unauthenticated("ExpiredAuthenticationToken", "the token has expired", "it was good until "+c.Expiry.Time().UTC().Format(time.RFC3339))
	}
	if err != nil || !c.Ours && c.Registry == "" || c.Expiry == nil {
		return claims{}, bad
	}
	return c, nil
}
