package authn

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/moorage-ml/moorage/internal/clock"
	"github.com/moorage-ml/moorage/internal/workspace"
)

const (
	base        = "https://localhost:8443"
	adminSecret = "mo_the-administrators-own-secret"
	jobID       = "01JOB0000000000000000000AA"
)

type fixture struct {
	*Authenticator
	now time.Time
	job Job
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{now: time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC), job: Job{Name: "train1", Workspace: "W", Attempt: 1}}
	a, err := New(Config{
		Key: [32]byte{1, 2, 3}, Server: "S", Admin: workspace.NewSecret(adminSecret),
		Clock: clock.Source{Now: func() time.Time { return f.now }, Rand: bytes.NewReader(bytes.Repeat([]byte{7}, 4096))},
		Jobs: func(_ context.Context, id string) (Job, error) {
			if id != jobID {
				return Job{}, errors.New("no such job")
			}
			return f.job, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Authenticator = a
	return f
}

func (f *fixture) ask(t *testing.T, ctx context.Context, header string) (workspace.Principal, error) { //nolint:revive // the test comes first by custom
	t.Helper()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, base+"/", nil)
	if header != "" {
		r.Header.Set("Authorization", header)
	}
	return f.Authenticate(r)
}

func (f *fixture) token(t *testing.T, audience string) string {
	t.Helper()
	token, _, err := f.Exchange(t.Context(), adminSecret, audience, base)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokenClaimsAreThoseThatClientsRead(t *testing.T) {
	f := newFixture(t)
	const audience = "https://ml.azure.local"
	token, expires, err := f.Exchange(t.Context(), adminSecret, audience, base)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	if c["aud"] != audience {
		t.Errorf("aud = %v, want exactly %q", c["aud"], audience)
	}
	if c["exp"] != float64(expires.Unix()) || c["tid"] != f.Tenant() {
		t.Errorf("exp = %v, tid = %v", c["exp"], c["tid"])
	}
	for _, name := range []string{"tid", "oid", "appid", "name", "exp", "iat", "iss"} {
		if c[name] == nil || c[name] == "" {
			t.Errorf("claim %s is missing", name)
		}
	}
}

func TestAuthenticateTellsGoodCredentialsFromBad(t *testing.T) {
	f := newFixture(t)
	good := f.token(t, base)
	forged := func(change func(*claims), key []byte, alg jose.SignatureAlgorithm) string {
		c := claims{Claims: jwt.Claims{Issuer: "https://moorage/S", Expiry: jwt.NewNumericDate(f.now.Add(time.Hour))}, Aud: base, Ours: true}
		change(&c)
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jwt.Signed(s).Claims(c).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	key := f.tokens
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + "."
	tests := []struct {
		name, header string
		good         bool
	}{
		{"administrator's secret", "Bearer " + adminSecret, true},
		{"secret as a password", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:"+adminSecret)), true},
		{"token for this server", "Bearer " + good, true},
		{"token for this server with a slash", "Bearer " + f.token(t, base+"/"), true},
		{"token for storage", "Bearer " + f.token(t, "https://storage.azure.com"), true},
		{"token for the AML audience", "Bearer " + f.token(t, "https://ml.azure.local"), true},
		{"token of our making", "Bearer " + forged(func(*claims) {}, key, jose.HS256), true},
		{"token for a stranger", "Bearer " + f.token(t, "https://vault.example.com"), false},
		{"nothing", "", false},
		{"wrong scheme", "Digest x", false},
		{"empty secret", "Bearer ", false},
		{"wrong secret", "Bearer " + adminSecret + "x", false},
		{"wrong password", "Basic " + base64.StdEncoding.EncodeToString([]byte("u:no")), false},
		{"no signature", "Bearer " + none, false},
		{"other key", "Bearer " + forged(func(*claims) {}, bytes.Repeat([]byte{9}, 32), jose.HS256), false},
		{"other algorithm", "Bearer " + forged(func(*claims) {}, append(key[:32:32], make([]byte, 32)...), jose.HS512), false},
		{"other issuer", "Bearer " + forged(func(c *claims) { c.Issuer = "https://moorage/T" }, key, jose.HS256), false},
		{"without expiry", "Bearer " + forged(func(c *claims) { c.Expiry = nil }, key, jose.HS256), false},
		{"not yet", "Bearer " + forged(func(c *claims) { c.NotBefore = jwt.NewNumericDate(f.now.Add(time.Hour)) }, key, jose.HS256), false},
		{"expired", "Bearer " + forged(func(c *claims) { c.Expiry = jwt.NewNumericDate(f.now.Add(-time.Minute)) }, key, jose.HS256), false},
		{"changed", "Bearer " + good[:len(good)-4] + "AAAA", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := f.ask(t, t.Context(), tt.header)
			if tt.good != (err == nil) {
				t.Fatalf("err = %v, want good %v", err, tt.good)
			}
			if tt.good {
				if !p.Administrator() {
					t.Fatalf("principal = %+v", p)
				}
				return
			}
			pr, ok := errors.AsType[*workspace.Problem](err)
			if !ok || pr.Class != workspace.Unauthenticated {
				t.Fatalf("err = %#v, want a problem of class unauthenticated", err)
			}
			if strings.Contains(err.Error(), adminSecret) {
				t.Fatal("the secret is in the error")
			}
		})
	}
}

func TestTokenEndsWithItsTime(t *testing.T) {
	f := newFixture(t)
	token := f.token(t, base)
	f.now = f.now.Add(TokenLife + time.Minute)
	_, err := f.ask(t, t.Context(), "Bearer "+token)
	if !errors.Is(err, &workspace.Problem{Code: "ExpiredAuthenticationToken"}) {
		t.Fatalf("err = %v, want ExpiredAuthenticationToken", err)
	}
}

func TestTokensAreGoodForAsLongAsTheOperatorSays(t *testing.T) {
	f := newFixture(t)
	f.tokenLife, f.jobTokenLife = time.Minute, time.Hour
	begun := f.now
	token, own := f.token(t, base), WithWayBack(t.Context(), jobID, 1)
	job, ends := f.JobToken(jobID, 1)
	if !ends.Equal(begun.Add(time.Hour)) {
		t.Errorf("the job's says that it ends at %s", ends)
	}
	for after, good := range map[time.Duration][2]bool{0: {true, true}, 2 * time.Minute: {false, true}, 2 * time.Hour: {false, false}} {
		f.now = begun.Add(after)
		_, err := f.ask(t, t.Context(), "Bearer "+token)
		_, jobErr := f.ask(t, own, "Bearer "+job.Reveal())
		if got := [2]bool{err == nil, jobErr == nil}; got != good {
			t.Errorf("after %s: %v, %v", after, err, jobErr)
		}
	}
}

func TestTokenIsNotTakenForAnotherToken(t *testing.T) {
	f := newFixture(t)
	if _, _, err := f.Exchange(t.Context(), f.token(t, base), base, base); err == nil {
		t.Fatal("a token was exchanged for a token")
	}
}

func TestJobCredentialWorksOnItsWayBackAloneAndEndsWithTheJob(t *testing.T) {
	f := newFixture(t)
	secret := f.JobSecret(jobID, 1).Reveal()
	own := WithWayBack(t.Context(), jobID, 1)
	token, _, err := f.Exchange(own, secret, base, base)
	if err != nil {
		t.Fatal(err)
	}
	for _, credential := range []string{secret, token} {
		p, err := f.ask(t, own, "Bearer "+credential)
		if err != nil || p.Job != jobID || p.Name != "train1" || p.Workspace != "W" || p.Administrator() {
			t.Fatalf("principal = %+v, %v", p, err)
		}
		for name, ctx := range map[string]context.Context{
			"elsewhere": t.Context(), "another job's way back": WithWayBack(t.Context(), "01OTHER", 1), "another attempt's": WithWayBack(t.Context(), jobID, 2),
		} {
			if _, err := f.ask(t, ctx, "Bearer "+credential); err == nil {
				t.Errorf("the credential works %s", name)
			}
		}
	}
	if _, err := f.ask(t, WithWayBack(t.Context(), "01OTHER", 1), "Bearer "+f.JobSecret("01OTHER", 1).Reveal()); err == nil {
		t.Error("the credential of an unknown job works")
	}
	tampered := strings.Replace(secret, ".1.", ".2.", 1)
	if _, err := f.ask(t, WithWayBack(t.Context(), jobID, 2), "Bearer "+tampered); err == nil {
		t.Error("a credential works for another attempt")
	}
	f.job.Over = true
	for _, credential := range []string{secret, token} {
		if _, err := f.ask(t, own, "Bearer "+credential); !errors.Is(err, &workspace.Problem{Code: "ExpiredAuthenticationToken"}) {
			t.Errorf("after the job: %v, want ExpiredAuthenticationToken", err)
		}
	}
	f.job.Over, f.job.Attempt = false, 2
	if _, err := f.ask(t, own, "Bearer "+secret); err == nil {
		t.Error("the credential outlives its attempt")
	}
}

func TestSignatureAllowsOnlyWhatWasSigned(t *testing.T) {
	f := newFixture(t)
	container := Signature{Container: "code-1", Verbs: "rcwl", Expires: f.now.Add(time.Hour)}
	one := Signature{Container: "code-1", Blob: "a/b.txt", Verbs: "r", Expires: f.now.Add(time.Hour)}
	late := Signature{Container: "code-1", Verbs: "r", Expires: f.now.Add(-time.Second)}
	tests := []struct {
		name                  string
		s                     Signature
		container, blob, verb string
		tamper                [2]string
		want                  bool
	}{
		{"read in container", container, "code-1", "x", "r", [2]string{}, true},
		{"list container", container, "code-1", "", "l", [2]string{}, true},
		{"delete was not signed", container, "code-1", "x", "d", [2]string{}, false},
		{"other container", container, "code-2", "x", "r", [2]string{}, false},
		{"the blob", one, "code-1", "a/b.txt", "r", [2]string{}, true},
		{"other blob", one, "code-1", "a/c.txt", "r", [2]string{}, false},
		{"a blob's signature does not list", one, "code-1", "", "l", [2]string{}, false},
		{"write was not signed", one, "code-1", "a/b.txt", "w", [2]string{}, false},
		{"expired", late, "code-1", "x", "r", [2]string{}, false},
		{"verbs widened", one, "code-1", "a/b.txt", "w", [2]string{"sp", "rw"}, false},
		{"blob widened to container", one, "code-1", "x", "r", [2]string{"sr", "c"}, false},
		{"time prolonged", late, "code-1", "x", "r", [2]string{"se", "2099-01-01T00:00:00Z"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := httptest.NewRequest(http.MethodGet, "/?"+f.Sign(tt.s), nil).URL.Query()
			if tt.tamper[0] != "" {
				q.Set(tt.tamper[0], tt.tamper[1])
			}
			if err := f.CheckSignature(q, tt.container, tt.blob, tt.verb); (err == nil) != tt.want {
				t.Fatalf("err = %v, want allowed %v", err, tt.want)
			}
		})
	}
}

func TestAdminSecretIsMadeOnceAndKeptFromOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "admin.secret")
	first, err := AdminSecret("", path, bytes.NewReader(bytes.Repeat([]byte{5}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode = %v, %v; want 0600", info.Mode(), err)
	}
	again, err := AdminSecret("", path, bytes.NewReader(bytes.Repeat([]byte{6}, 64)))
	if err != nil || again.Reveal() != first.Reveal() {
		t.Fatalf("the second call gave another secret, or %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := AdminSecret("", path, bytes.NewReader(nil)); !errors.Is(err, &workspace.Problem{Code: "SecretReadableByOthers"}) {
		t.Fatalf("err = %v, want SecretReadableByOthers", err)
	}
}

func TestAdminSecretThatIsGivenIsKeptWhereCommandsReadIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "admin.secret")
	for _, given := range []string{"the-first-administrators-secret", "the-first-administrators-secret", "another-administrators-secret\n"} {
		secret, err := AdminSecret(given, path, bytes.NewReader(nil))
		if want := strings.TrimSpace(given); err != nil || secret.Reveal() != want {
			t.Fatalf("given %q: %q, %v", given, secret.Reveal(), err)
		}
		kept, err := AdminSecret("", path, bytes.NewReader(nil))
		if err != nil || kept.Reveal() != secret.Reveal() {
			t.Fatalf("the file holds %q, %v", kept.Reveal(), err)
		}
	}
	if _, err := AdminSecret("short", path, bytes.NewReader(nil)); !errors.Is(err, &workspace.Problem{Code: "SecretTooShort"}) {
		t.Fatalf("err = %v, want SecretTooShort", err)
	}
}

func TestWithoutAnAdministratorsSecretNobodyIsOne(t *testing.T) {
	a, err := New(Config{Server: "S", Clock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Principal(t.Context(), ""); err == nil {
		t.Fatal("the empty secret was taken")
	}
}
