// Command moorage is everything in one program: the server, its command line, and, on machines of the same platform, the
// keeper of jobs.
package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/moorage-ml/moorage/internal/cli"
	"github.com/moorage-ml/moorage/internal/keeper"
)

// version is set when a release is built.
var version = "dev"

func main() {
	// Placed on a target by its content, the program is called keeper-HASH and is nothing else.
	if strings.HasPrefix(filepath.Base(os.Args[0]), "keeper-") {
		os.Exit(keeper.Main([]string{os.Args[0]}, os.Args[1:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "keeper" {
		self, err := os.Executable()
		if err != nil {
			self = os.Args[0]
		}
		os.Exit(keeper.Main([]string{self, "keeper"}, os.Args[2:]))
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.System(), serveCommand(), demoCommand(), gcCommand(), cli.Version(version)))
}
