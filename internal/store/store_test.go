package store_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/moorage-ml/moorage/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQLite(t *testing.T) { storetest.Run(t, sqliteFile) }

func TestPostgres(t *testing.T) { storetest.Run(t, storetest.StartPostgres(t).Fresh) }

func sqliteFile(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "a b#%.db") }
