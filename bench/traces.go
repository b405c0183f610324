package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
)

// tracesScenario measures the cost of tracing messages.
func tracesScenario(name string, wl workload, protocol int) *scenario {
	const off = "no traces"
	s := newCostScenario(name, fmt.Sprintf("%s, in version %d, with traces of messages", wl.describe(), protocol),
		"`start_server` and `start_simulation -i=0 -verify="+wl.verify+"`. The collector of `-trace-endpoint` reads and discards all data.", off)
	for _, v := range []struct {
		name   string
		sample int
	}{{off, 0}, {"one message in 1,000", 1000}, {"every message", 1}} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return measureTraced(ctx, p, wl, protocol, v.sample)
		}})
	}
	return s
}

// measureTraced runs a workload once and traces one message in sample; 0 traces none.
func measureTraced(ctx context.Context, p *programs, wl workload, protocol, sample int) (*measurement, error) {
	var flags []string
	if sample > 0 {
		collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		defer collector.Close()
		flags = append(flags, "-trace-endpoint="+collector.URL, fmt.Sprint("-trace-sample=", sample))
	}
	return withHub(ctx, p, flags, func(s *server) (*measurement, error) {
		return simulate(ctx, p, wl, append(addrFlags(s.addr), fmt.Sprint("-protocol=", protocol))...)
	})
}
