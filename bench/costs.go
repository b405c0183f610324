package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"
)

// scrapeInterval is the interval at which a monitored hub is scraped. Prometheus scrapes a
// thirtieth as often by default.
const scrapeInterval = 500 * time.Millisecond

// newCostScenario returns a scenario that compares variants of the hub under the same
// workload, as ratios to the costs of base. The caller adds the subjects.
func newCostScenario(name, title, note, base string) *scenario {
	s := &scenario{
		name: name, title: title, note: note,
		columns: []column{
			{heading: "seconds", value: func(m *measurement) float64 { return m.Seconds }},
			{heading: "CPU s, hub and clients", value: func(m *measurement) float64 { return m.Server.CPU + m.LoadCPU }},
		},
	}
	s.addRatios(base)
	return s
}

// addRatios adds ratios of time and processor time to those of base, for every other subject.
func (s *scenario) addRatios(base string) {
	s.ratios = append(s.ratios,
		ratio{heading: "time ÷ " + base, base: base, value: func(base, other *measurement) float64 { return other.Seconds / base.Seconds }},
		ratio{heading: "CPU ÷ " + base, base: base, value: func(base, other *measurement) float64 {
			return (other.Server.CPU + other.LoadCPU) / (base.Server.CPU + base.LoadCPU)
		}})
}

// version2Scenario measures the cost of v2 relative to v1, and of reports relative to v2.
func (b *bench) version2Scenario(name string, wl workload) *scenario {
	const classic, newer = "version 1", "version 2"
	s := newCostScenario(name, wl.title()+", in both versions",
		"`start_simulation -embed -i=0 -verify="+wl.verify+"`: hub and clients are one process.", classic)
	s.addRatios(newer)
	s.ratios[2].rows, s.ratios[3].rows = []string{withReports}, []string{withReports}
	for _, v := range []struct {
		name  string
		flags []string
	}{
		{classic, []string{"-protocol=1"}},
		{newer, []string{"-protocol=2"}},
		{withReports, []string{"-protocol=2", "-report=received"}},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context) (*measurement, error) {
			return simulate(ctx, b.programs, wl, append(v.flags, "-embed")...)
		}})
	}
	return s
}

const withReports = "version 2, reports at level received"

// safetyScenario measures the cost of a hub that is safe to expose relative to a hub with TLS
// only, and the cost of metrics relative to a plain hub.
func (b *bench) safetyScenario(name string, wl workload) *scenario {
	const plain, secure, safe = "plain", "TLS", "TLS, tokens, limits and metrics"
	s := newCostScenario(name, wl.title()+", in version 2, with security features and metrics",
		"`start_server` and `start_simulation -i=0 -protocol=2 -verify="+wl.verify+"`. Tokens: `-auth-keys` and `-token-file`. Limits: `-rate-messages`, "+
			"`-rate-bytes`, `-max-per-address` and `-connect-rate`, none of which is reached. Metrics: the admin address, with a scrape every half second.", plain)
	s.addRatios(secure)
	s.ratios[2].rows, s.ratios[3].rows = []string{safe}, []string{safe}
	for _, v := range []struct {
		name string
		hubFeatures
	}{
		{name: plain},
		{"metrics", hubFeatures{isMonitored: true}},
		{secure, hubFeatures{hasTLS: true}},
		{safe, hubFeatures{hasTLS: true, hasTokens: true, isMonitored: true}},
	} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context) (*measurement, error) {
			return b.measureFeatures(ctx, wl, 2, v.hubFeatures)
		}})
	}
	return s
}

// tlsScenario measures the hub over TLS and bare connections of crypto/tls.
func (b *bench) tlsScenario(name string, wl workload) *scenario {
	const hub, limit = "hub", "limit"
	s := newCostScenario(name, wl.title()+", over TLS 1.3",
		"`start_simulation -i=0 -verify="+wl.verify+"` drives the hub. The limit is two processes with the same number of crypto/tls connections: "+
			"one writes the same bytes, 64 KiB at a time, and the other reads and discards them.", limit)
	s.subjects = []subject{
		{hub, []string{"hub"}, func(ctx context.Context) (*measurement, error) {
			return b.measureFeatures(ctx, wl, 1, hubFeatures{hasTLS: true})
		}},
		{limit, []string{"limit"}, func(ctx context.Context) (*measurement, error) {
			creds, err := b.programs.newCredentials()
			if err != nil {
				return nil, err
			}
			return measureLimit(ctx, b.programs, wl, creds)
		}},
	}
	return s
}

// hubFeatures are the optional features of a hub that safetyScenario measures.
type hubFeatures struct {
	hasTLS, hasTokens, isMonitored bool
}

// measureFeatures runs a workload once, with a version of the protocol, on a hub with some
// features.
func (b *bench) measureFeatures(ctx context.Context, wl workload, protocol int, features hubFeatures) (*measurement, error) {
	creds, err := b.programs.newCredentials()
	if err != nil {
		return nil, err
	}
	var hubFlags, clientFlags []string
	host := "127.0.0.1"
	if features.hasTLS {
		hubFlags = append(hubFlags, "-tls-cert="+creds.certFile, "-tls-key="+creds.keyFile)
		clientFlags = append(clientFlags, "-ca="+creds.certFile)
		host = "hubs://" + host
	}
	if features.hasTokens {
		tokenFile, err := b.programs.writeFile("token", creds.token)
		if err != nil {
			return nil, err
		}
		hubFlags = append(hubFlags, "-auth-keys="+creds.authKeysFile, "-rate-messages=1000000", "-rate-bytes=10GiB", "-max-per-address=1000", "-connect-rate=1000")
		clientFlags = append(clientFlags, "-token-file="+tokenFile)
	}
	if features.isMonitored {
		admin, err := freeAddr()
		if err != nil {
			return nil, err
		}
		hubFlags = append(hubFlags, "-admin="+admin)
		defer scrape(ctx, "http://"+admin+"/metrics")()
	}
	s, err := startHubWith(ctx, b.programs, hubFlags...)
	if err != nil {
		return nil, err
	}
	return measureAndStop(s, func(s *server) (*measurement, error) {
		return simulate(ctx, b.programs, wl, append(clientFlags, fmt.Sprint("-protocol=", protocol), "-addr="+host, "-port="+portOf(s.addr))...)
	})
}

// scrape requests a page at scrapeInterval until the returned function is called.
func scrape(ctx context.Context, page string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		ticker := time.NewTicker(scrapeInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fetchPage(ctx, page)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// fetchPage reads a page to its end. It ignores errors, because the hub can be starting or
// ending.
func fetchPage(ctx context.Context, page string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return
	}
	if resp, err := http.DefaultClient.Do(request); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// tracesScenario measures the cost of tracing messages.
func (b *bench) tracesScenario(name string, wl workload, protocol int) *scenario {
	const off = "no traces"
	s := newCostScenario(name, fmt.Sprintf("%s, in version %d, with traces of messages", wl.title(), protocol),
		"`start_server` and `start_simulation -i=0 -verify="+wl.verify+"`. The collector of `-trace-endpoint` reads and discards all data.", off)
	for _, v := range []struct {
		name   string
		sample int
	}{{off, 0}, {"one message in 1,000", 1000}, {"every message", 1}} {
		s.subjects = append(s.subjects, subject{v.name, []string{"hub"}, func(ctx context.Context) (*measurement, error) {
			return b.measureTraced(ctx, wl, protocol, v.sample)
		}})
	}
	return s
}

// measureTraced runs a workload once and traces one message in sample; 0 traces none.
func (b *bench) measureTraced(ctx context.Context, wl workload, protocol, sample int) (*measurement, error) {
	var flags []string
	if sample > 0 {
		collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}))
		defer collector.Close()
		flags = append(flags, "-trace-endpoint="+collector.URL, fmt.Sprint("-trace-sample=", sample))
	}
	s, err := startHubWith(ctx, b.programs, flags...)
	if err != nil {
		return nil, err
	}
	return measureAndStop(s, func(s *server) (*measurement, error) {
		return simulate(ctx, b.programs, wl, append(addrFlags(s.addr), fmt.Sprint("-protocol=", protocol))...)
	})
}
