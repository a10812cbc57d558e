package ssh

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moorage-ml/moorage/internal/compute"
	"github.com/moorage-ml/moorage/internal/workspace"
)

// bootLimit is how long a login's start-up files and the first look at the machine may take.
const bootLimit = 60 * time.Second

// maxNoise is how much a login's start-up files may print.
const maxNoise = 1 << 20

// script starts the agent on the machine, in one command and without a question when the keeper is there. Its arguments:
// a random mark, the folder, and for amd64 and arm64 the name and the size of the keeper ("-" and 0: not built).
//
// It prints the mark and a verdict in one line; what came before that line was printed by the login's start-up files:
//
//	RUN               the agent follows, with the same standard input and output
//	NEED PLATFORM     it waits for the program's bytes on its standard input, then goes on to RUN or FAIL
//	PLATFORM NAME     there is no keeper for this machine
//	FAIL STEP WORDS   what went wrong, in the machine's words, up to the end
//
// It is one line in single quotes for whatever shell the login has, so it may hold no single quote, exclamation mark,
// backslash or newline: fish and csh read those even there. umask and locale are changed in subshells only, because jobs
// inherit what the agent has.
var script = strings.Join([]string{
	`m=$1 f=$2;`,
	`case $f in "~/"*) f=$HOME${f#?};; esac;`,
	`p=$(uname -sm);`,
	`case $p in "Linux x86_64"|"Linux amd64") h=$3 n=$4;; "Linux aarch64"|"Linux arm64") h=$5 n=$6;; *) h=-;; esac;`,
	`if [ $h = - ]; then echo "$m PLATFORM $p"; exit; fi;`,
	`k=$f/bin/keeper-$h t=$f/bin/$m.new;`,
	`if [ -x "$k" ] && [ $(wc -c <"$k") -eq $n ]; then echo "$m RUN"; exec "$k" agent --root "$f"; fi;`,
	`fail() { rm -f "$t"; echo "$m FAIL $1 $e"; exit; };`,
	`trap "e=; fail cut" 1 2 15;`,
	`c() { LC_ALL=C; export LC_ALL; umask 077; "$@"; };`,
	`e=$(c mkdir -p "$f/bin" 2>&1) || fail folder;`,
	`g() { if head -c 0 /dev/null; then head -c $n; else dd bs=1 count=$n; fi >"$t"; };`,
	`echo "$m NEED $p";`,
	`e=$(c g 2>&1) || fail write;`,
	`[ $(wc -c <"$t") -eq $n ] || fail cut;`,
	`e=$(c chmod 700 "$t" 2>&1) || fail write;`,
	`e=$(c "$t" version 2>&1) || fail start;`,
	`e=$(c mv -f "$t" "$k" 2>&1) || fail write;`,
	`echo "$m RUN";`,
	`exec "$k" agent --root "$f"`,
}, " ")

// forbidden is what the script and its arguments may not hold.
const forbidden = "'!\\\n\r\x00"

// bootstrap places the keeper where it is missing and starts an agent.
type bootstrap struct {
	mark     string
	folder   string
	built    map[string]compute.Program // by GOARCH
	settings Settings
}

// architectures are those that the script knows, in the order of its arguments.
var architectures = []string{"amd64", "arm64"}

func newBootstrap(s Settings, env compute.Env) (*bootstrap, error) {
	var random [12]byte
	from := env.Clock.Rand
	if from == nil {
		from = rand.Reader
	}
	if _, err := io.ReadFull(from, random[:]); err != nil {
		return nil, fmt.Errorf("ssh: bootstrap: %w", err)
	}
	b := &bootstrap{mark: "moorage-" + hex.EncodeToString(random[:]), folder: s.Folder, built: map[string]compute.Program{}, settings: s}
	for _, arch := range architectures {
		p, err := env.Keeper("linux", arch)
		switch {
		case err == nil:
			b.built[arch] = p
		case !errors.Is(err, compute.ErrInvalid):
			return nil, fmt.Errorf("ssh: the keeper for %s: %w", arch, err)
		}
	}
	if len(b.built) == 0 {
		return nil, invalid("", "this server has no keeper program to place on machines", "", "install a build of the server that holds it")
	}
	return b, nil
}

// command is the whole text for the login's shell.
func (b *bootstrap) command() string {
	words := []string{"exec /bin/sh -c '" + script + "' moorage", b.mark, "'" + b.folder + "'"}
	for _, arch := range architectures {
		p, ok := b.built[arch]
		if !ok {
			words = append(words, "-", "0")
			continue
		}
		words = append(words, fmt.Sprintf("%.16s", p.Hash), fmt.Sprint(p.Size))
	}
	return strings.Join(words, " ")
}

// run brings the session to the point where the agent's hello is the next that comes.
func (b *bootstrap) run(ctx context.Context, s *session) error {
	slow := errors.New("ssh: the login's shell took too long")
	limit, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(bootLimit, func() { cancel(slow) })
	defer timer.Stop()
	stop := context.AfterFunc(limit, func() { _ = s.Close() })
	defer stop()
	err := b.talk(s, timer)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && errors.Is(context.Cause(limit), slow) {
		return unreachable(err, "LoginTooSlow", "the login on the machine did not get to run a command within "+bootLimit.String(), s.said(),
			"look at ~/.bashrc and ~/.profile there: they must not ask or wait for anything when no terminal is attached")
	}
	return err
}

// talk is the conversation with the script.
func (b *bootstrap) talk(s *session, slow *time.Timer) error {
	s.exec(b.command())
	for placed := false; ; placed = true {
		verdict, noise, err := readVerdict(s.in, b.mark)
		if err != nil {
			return b.silent(s, noise, err)
		}
		word, rest, _ := strings.Cut(verdict, " ")
		switch {
		case word == "RUN":
			if _, err := s.in.Peek(1); err != nil {
				return b.failed("start", s.last(), err)
			}
			return nil
		case word == "NEED" && !placed:
			slow.Stop() // from here on it is the line's speed
			if err := b.send(s, rest); err != nil {
				return err
			}
		case word == "PLATFORM":
			return b.noKeeper(rest)
		case word == "FAIL":
			step, words, _ := strings.Cut(rest, " ")
			more, _ := io.ReadAll(io.LimitReader(s.in, tailSize))
			return b.failed(step, strings.TrimSpace(words+"\n"+string(more)), nil)
		default:
			return b.silent(s, verdict, errors.New("ssh: an unknown answer"))
		}
	}
}

// send writes the program's bytes, exactly as many as the script reads. A machine that stops reading says why afterwards.
func (b *bootstrap) send(s *session, platform string) error {
	arch := "amd64"
	if strings.HasSuffix(platform, "aarch64") || strings.HasSuffix(platform, "arm64") {
		arch = "arm64"
	}
	p, ok := b.built[arch]
	if !ok {
		return b.noKeeper(platform)
	}
	r, err := p.Open()
	if err != nil {
		return fmt.Errorf("ssh: the keeper: %w", err)
	}
	defer func() { _ = r.Close() }()
	s.log.Info("the keeper is placed on the machine", "platform", platform, "bytes", p.Size)
	_, err = io.CopyBuffer(struct{ io.Writer }{s}, io.LimitReader(r, p.Size), make([]byte, 256<<10))
	if err != nil && !errors.Is(err, io.EOF) {
		return unreachable(err, "ConnectionLost", "the connection was lost while the keeper was placed", err.Error(), "nothing needs doing: the server tries again")
	}
	return nil
}

// readVerdict skips what start-up files printed and gives what follows the mark in its line. noise is the last of what was
// skipped, when no verdict came.
func readVerdict(r *bufio.Reader, mark string) (verdict, noise string, err error) {
	var line, all []byte // the line so far, or the end of a very long one; the last of everything
	for total := 0; total <= maxNoise; {
		part, err := r.ReadSlice('\n')
		total += len(part)
		line, all = append(line, part...), keepLast(append(all, part...))
		switch {
		case err == nil:
			if _, after, ok := strings.Cut(string(line), mark+" "); ok {
				return strings.TrimRight(after, "\r\n"), "", nil
			}
			line = line[:0]
		case errors.Is(err, bufio.ErrBufferFull):
			line = keepLast(line)
		default:
			return "", clip(all), err
		}
	}
	return "", clip(all), errors.New("ssh: the login prints without end")
}

// keepLast drops the beginning of a text that has become long. It does so seldom, so that it costs little.
func keepLast(b []byte) []byte {
	if len(b) > 8*tailSize {
		return append(b[:0], b[len(b)-tailSize:]...)
	}
	return b
}

// clip is the last of a text, as people can read it.
func clip(b []byte) string {
	return strings.ToValidUTF8(string(b[max(0, len(b)-tailSize):]), "�")
}

// silent says that the login's shell did not run the script.
func (b *bootstrap) silent(s *session, noise string, err error) error {
	cause := strings.TrimSpace(noise)
	if said := s.last(); said != "" {
		cause = strings.TrimSpace(said + "\n" + cause)
	}
	if cause == "" {
		cause = "it ended without a word"
	}
	return unreachable(err, "NoShell", "the login on the machine runs no commands", cause,
		"check what ssh HOST true prints; the user needs a login shell, with no forced command, on a Linux machine")
}

func (b *bootstrap) noKeeper(platform string) error {
	var built []string
	for _, arch := range architectures {
		if _, ok := b.built[arch]; ok {
			built = append(built, "linux/"+arch)
		}
	}
	return &compute.Error{Kind: compute.ErrInvalid, Problem: workspace.Problem{
		Class: workspace.Unsupported, Code: "UnsupportedPlatform", Target: "address",
		Message: "there is no keeper program for the machine, which is " + platform, Cause: "built are " + strings.Join(built, " and "),
		Mend: "attach a machine of these platforms",
	}}
}

// failed makes a problem of a step that the machine could not do.
func (b *bootstrap) failed(step, cause string, err error) error {
	folder := b.folder
	p := workspace.Problem{
		Class: workspace.Unavailable, Code: "FolderUnusable", Target: "folder", Cause: cause,
		Message: fmt.Sprintf("the folder %s on the machine cannot be used", folder),
		Mend:    "make it writable for the user, or name a place that is with --folder (setting folder)",
	}
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(cause, w) {
				return true
			}
		}
		return false
	}
	switch {
	case step == "start" && has("ermission denied"):
		p.Code = "FolderNoexec"
		p.Message = fmt.Sprintf("programs cannot be run from the folder %s on the machine", folder)
		p.Mend = "its file system is mounted noexec, or a policy forbids it: name a place where programs may run with --folder (setting folder), e.g. below /var/tmp or /opt"
	case step == "start":
		p.Code, p.Target = "KeeperNotStarted", ""
		p.Message = "the keeper does not start on the machine"
		p.Mend = "look at the cause; memory limits and security policies of the machine are the usual ones"
	case has("No space left", "quota exceeded", "Quota exceeded"):
		p.Code = "DiskFull"
		p.Message = fmt.Sprintf("there is no room in the folder %s on the machine", folder)
		p.Mend = "free some space there (df -h shows where), or name one on a larger disk with --folder (setting folder)"
	case has("Read-only"):
		p.Code = "FolderReadOnly"
		p.Message = fmt.Sprintf("the folder %s on the machine is on a read-only file system", folder)
		p.Mend = "name a place that can be written with --folder (setting folder)"
	case step == "cut":
		return unreachable(err, "ConnectionLost", "the connection was lost while the keeper was placed", cause, "nothing needs doing: the server tries again")
	}
	kind := compute.ErrDenied
	if p.Code == "DiskFull" || step == "start" && p.Code != "FolderNoexec" {
		kind = compute.ErrUnreachable
	}
	return &compute.Error{Kind: kind, Problem: p, Err: err}
}
