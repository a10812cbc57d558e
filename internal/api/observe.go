package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// observer counts requests by route, so that a label's values are as many as the table has lines.
type observer struct {
	seconds *prometheus.HistogramVec
}

func newObserver(r prometheus.Registerer) *observer {
	o := &observer{seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "moorage_http_request_seconds", Help: "Time to answer a request, by route and status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 60},
	}, []string{"route", "status"})}
	if r != nil {
		r.MustRegister(o.seconds)
	}
	return o
}

func (o *observer) request(route *Route, status int, took time.Duration) {
	name := "none"
	if route != nil {
		name = route.Method + " " + route.Pattern
	}
	o.seconds.WithLabelValues(name, strconv.Itoa(status)).Observe(took.Seconds())
}
