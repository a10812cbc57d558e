package local

import (
	"bytes"
	"testing"

	"github.com/moorage-ml/moorage/internal/compute"
)

func TestJobsDoNotInheritTheServersSettings(t *testing.T) {
	t.Setenv("MOORAGE_MASTER_KEY", "a-master-key")
	t.Setenv("OF_THE_MACHINE", "stays")
	target := open(t, objects{}, 1)
	if _, err := target.Submit(t.Context(), compute.Job{Key: key(1), Epoch: 1, Command: "env"}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if _, err := target.Logs(t.Context(), compute.Handle{Key: key(1)}, compute.LogQuery{Follow: true}, &log); err != nil { // ends with the job
		t.Fatal(err)
	}
	if bytes.Contains(log.Bytes(), []byte("MASTER_KEY")) || !bytes.Contains(log.Bytes(), []byte("OF_THE_MACHINE=stays")) {
		t.Errorf("the job's environment:\n%s", log.String())
	}
}
