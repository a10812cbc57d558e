package image

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moorage-ml/moorage/internal/workspace"
)

// BuildKit builds Dockerfiles by a buildkitd, spoken to through the program buildctl. The image comes back as an archive, so
// that the daemon needs no right to push and need not trust the server's registry.
type BuildKit struct {
	// Address is the daemon's: "unix:///run/buildkit/buildkitd.sock", "tcp://host:1234".
	Address string
	// Program is buildctl; "" is that of the PATH.
	Program string
	// CA, Cert and Key are files for TLS; "": none.
	CA, Cert, Key string
}

var _ DockerfileBuilder = BuildKit{}

// BuildFile builds and unpacks the image below scratch.
func (k BuildKit) BuildFile(ctx context.Context, b FileBuild, scratch string, log io.Writer) (Image, error) {
	if _, err := b.peek(ctx); err != nil {
		return nil, err
	}
	program, err := exec.LookPath(cmp.Or(k.Program, "buildctl"))
	if err != nil {
		return nil, k.failed(ctx, workspace.Unavailable, "the program buildctl is absent from the server", err)
	}
	context, config := filepath.Join(scratch, "context"), filepath.Join(scratch, "docker")
	for _, dir := range []string{context, config} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, fmt.Errorf("image: buildkit: %w", err)
		}
	}
	if err := b.unpack(ctx, context); err != nil {
		return nil, fmt.Errorf("image: buildkit: %w", err)
	}
	file := filepath.Join(scratch, "built.tar")
	say(log, "building the Dockerfile at BuildKit")
	cmd := command(ctx, program, k.arguments(b, context, file)...)
	words := &tail{limit: maxWords}
	cmd.Env = append(ownVariables(), "DOCKER_CONFIG="+config)
	if len(b.Logins) > 0 {
		end, err := handOver(cmd, config, b.Logins)
		if err != nil {
			return nil, fmt.Errorf("image: buildkit: %w", err)
		}
		defer end()
	}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(log, words), io.MultiWriter(log, words)
	if err := cmd.Run(); err != nil {
		text := words.String()
		if strings.Contains(text, "failed to solve") {
			return nil, k.failed(ctx, workspace.Invalid, lastWords(text), err)
		}
		return nil, k.failed(ctx, workspace.Unavailable, lastWords(text), err)
	}
	return openArchive(ctx, file, b.Platform, scratch)
}

func (k BuildKit) arguments(b FileBuild, folder, file string) []string {
	var args []string
	if k.Address != "" {
		args = append(args, "--addr", k.Address)
	}
	for _, tls := range [][2]string{{"--tlscacert", k.CA}, {"--tlscert", k.Cert}, {"--tlskey", k.Key}} {
		if tls[1] != "" {
			args = append(args, tls[0], tls[1])
		}
	}
	args = append(args, "build", "--progress", "plain", "--frontend", "dockerfile.v0",
		"--local", "context="+folder, "--local", "dockerfile="+filepath.Join(folder, path.Dir(b.path())), "--opt", "filename="+path.Base(b.path()),
		"--opt", "platform="+b.Platform, "--output", "type=oci,dest="+file)
	if b.Target != "" {
		args = append(args, "--opt", "target="+b.Target)
	}
	values := b.Args
	if !strings.Contains(b.Network.Proxy.Reveal(), "@") { // credentials would be seen in the process list
		values = b.args()
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		args = append(args, "--opt", "build-arg:"+name+"="+values[name])
	}
	return args
}

// lastWords are the last lines of a build that failed.
func lastWords(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

func (k BuildKit) failed(ctx context.Context, class workspace.Class, words string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p := &workspace.Problem{
		Class: class, Code: "BuildKitFailed", Target: "environment", Message: "BuildKit could not build the image", Cause: words,
		Mend: "see that it runs at " + k.Address + " and that the server has buildctl",
	}
	if class == workspace.Invalid {
		p.Code, p.Message = "ImageBuildFailed", "the image could not be built from its Dockerfile"
		p.Mend = "read the build's log and correct the Dockerfile"
	}
	return fmt.Errorf("image: %w", errors.Join(p, err))
}

// loginsFile is the text of Docker's configuration file with the logins, as buildctl reads it.
func loginsFile(logins []Login) ([]byte, error) {
	auths := map[string]any{}
	for _, l := range logins {
		auths[hubAddress(l.Server)] = map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(l.Username + ":" + l.Password.Reveal()))}
	}
	return json.Marshal(map[string]any{"auths": auths})
}
