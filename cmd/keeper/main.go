// Command keeper is the program that Moorage places on a target: agent and supervisor, see internal/keeper.
package main

import (
	"os"

	"github.com/moorage-ml/moorage/internal/keeper"
)

func main() {
	self, err := os.Executable()
	if err != nil {
		self = os.Args[0]
	}
	os.Exit(keeper.Main([]string{self}, os.Args[1:]))
}
