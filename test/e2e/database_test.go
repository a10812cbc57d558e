package e2e

import (
	"testing"

	"github.com/moorage-ml/moorage/internal/store/storetest"
)

// database is one of the two on which every promise about the store is kept.
type database struct {
	name string
	// fresh makes an empty one and gives the variables by which servers use it. It skips the test, saying so, where the
	// engine is not installed.
	fresh func(t *testing.T) []string
}

func databases() []database {
	return []database{
		{"SQLite", func(*testing.T) []string { return nil }},
		{"PostgreSQL", func(t *testing.T) []string {
			return []string{"MOORAGE_DATABASE=" + storetest.StartPostgres(t).Fresh(t)}
		}},
	}
}
