package registry

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/moorage-ml/moorage/internal/store/storetest"
)

// TestConformsToOCIDistribution lets the specification's own suite, pinned in test/distribution, judge every endpoint:
// pull, push, content discovery and content management, for SHA-256 and SHA-512. No test may fail, and none be skipped
// that the stable version of the specification has.
func TestConformsToOCIDistribution(t *testing.T) {
	suite := filepath.Join(t.TempDir(), "conformance")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", suite, "github.com/opencontainers/distribution-spec/conformance")
	build.Dir = "../../../test/distribution"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the suite cannot be built: %v\n%s", err, out)
	}
	t.Run("SQLite", func(t *testing.T) { conforms(t, suite, "") })
	t.Run("PostgreSQL", func(t *testing.T) { conforms(t, suite, storetest.StartPostgres(t).Fresh(t)) })
}

func conforms(t *testing.T, suite, database string) {
	s := newServer(t, database)
	dir := t.ArtifactDir()
	ca := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw}), 0o600))
	cmd := exec.CommandContext(t.Context(), suite)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "OCI_REGISTRY="+s.host, "OCI_TLS=enabled", "SSL_CERT_FILE="+ca, "OCI_REPO1=main/suite/one", "OCI_REPO2=main/two", "OCI_USERNAME=moorage", "OCI_PASSWORD="+admin,
		"OCI_RESULTS_DIR="+dir, "OCI_VERSION=1.1", "OCI_LOG=error",
		"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true", "OCI_API_BLOBS_UPLOAD_CANCEL=true")
	out, err := cmd.CombinedOutput()
	report := string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	counts := map[string]int{}
	for _, m := range count.FindAllStringSubmatch(report, -1) {
		counts[m[1]], _ = strconv.Atoi(m[2]) // digits
	}
	if counts["FAIL"]+counts["Error"]+counts["Skip"]+counts["Disabled"] > 0 || counts["Pass"] < 850 {
		t.Errorf("%v\n%s", counts, report)
	}
}

// count is a line of the suite's summary.
var count = regexp.MustCompile(`(?m)^ +(Disabled|Skip|Pass|FAIL|Error)\.+: +(\d+)$`)
