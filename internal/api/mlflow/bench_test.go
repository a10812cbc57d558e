package mlflow_test

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkLogBatch posts 1,000 points of ten metrics a call, with everything that a request passes through.
func BenchmarkLogBatch(b *testing.B) {
	s := start(b)
	id := s.newRun(b, `{}`)
	step := 0
	for b.Loop() {
		var body strings.Builder
		for i := range 1000 {
			step++
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"key":"metric %d","value":%d.5,"timestamp":%d,"step":%d}`, i%10, step, 1_795_533_712_815+step, step)
		}
		if a := s.post(b, "/mlflow/runs/log-batch", `{"run_id":"`+id+`","metrics":[`+body.String()+`]}`); a.status != 200 {
			b.Fatalf("%d %s", a.status, a.body)
		}
	}
	b.ReportMetric(1000*float64(b.N)/b.Elapsed().Seconds(), "points/s")
}
