package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"time"
)

// scrapeEvery is the interval at which a monitored hub is asked for its metrics: thirty times as
// often as Prometheus does by default.
const scrapeEvery = 500 * time.Millisecond

// costScenario compares variants of the hub that move the same pattern: each costs so much of
// what the base costs.
func costScenario(name, title, note, base string) *scenario {
	s := &scenario{
		name: name, title: title, note: note,
		columns: []column{
			{heading: "seconds", of: func(m *measured) float64 { return m.Seconds }},
			{heading: "CPU s, hub and clients", of: func(m *measured) float64 { return m.Server.CPU + m.LoadCPU }},
		},
	}
	s.divide(base)
	return s
}

// divide adds the ratios of every other subject to base.
func (s *scenario) divide(base string) {
	s.ratios = append(s.ratios,
		ratio{heading: "time ÷ " + base, base: base, of: func(base, it *measured) float64 { return it.Seconds / base.Seconds }},
		ratio{heading: "CPU ÷ " + base, base: base, of: func(base, it *measured) float64 {
			return (it.Server.CPU + it.LoadCPU) / (base.Server.CPU + base.LoadCPU)
		}})
}

// version2Scenario measures what version 2 costs beside version 1, and reports on top of it.
func (b *bench) version2Scenario(name string, p pattern) *scenario {
	const classic, newer = "version 1", "version 2"
	s := costScenario(name, p.title()+", in each version",
		"`start_simulation -embed -i=0 -verify="+p.verify+"`: hub and clients are one process.", classic)
	s.divide(newer)
	s.ratios[2].rows, s.ratios[3].rows = []string{withReports}, []string{withReports}
	for _, one := range []struct {
		name  string
		flags []string
	}{
		{classic, []string{"-protocol=1"}},
		{newer, []string{"-protocol=2"}},
		{withReports, []string{"-protocol=2", "-report=received"}},
	} {
		s.subjects = append(s.subjects, subject{one.name, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			return simulate(ctx, b.programs, p, append(one.flags, "-embed")...)
		}})
	}
	return s
}

const withReports = "version 2, reports at received"

// safetyScenario measures what a hub costs that is safe to expose, beside one that only speaks
// TLS, and what operation adds to a plain one.
func (b *bench) safetyScenario(name string, p pattern) *scenario {
	const plain, secure, safe = "plain", "TLS", "TLS, tokens, limits and metrics"
	s := costScenario(name, p.title()+", in version 2, with what makes a hub safe",
		"`start_server` and `start_simulation -i=0 -protocol=2 -verify="+p.verify+"`. Tokens: `-auth-keys` and `-token-file`. Limits: `-rate-messages`, "+
			"`-rate-bytes`, `-max-per-address` and `-connect-rate`, none of which is reached. Metrics: the admin address, with a scrape every half second.", plain)
	s.divide(secure)
	s.ratios[2].rows, s.ratios[3].rows = []string{safe}, []string{safe}
	for _, one := range []struct {
		name string
		safety
	}{
		{name: plain},
		{"metrics", safety{monitored: true}},
		{secure, safety{tls: true}},
		{safe, safety{tls: true, tokens: true, monitored: true}},
	} {
		s.subjects = append(s.subjects, subject{one.name, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			return b.measureSafe(ctx, p, 2, one.safety)
		}})
	}
	return s
}

// tlsScenario measures the hub over TLS beside bare connections of crypto/tls.
func (b *bench) tlsScenario(name string, p pattern) *scenario {
	const hub, limit = "hub", "limit"
	s := costScenario(name, p.title()+", over TLS 1.3",
		"`start_simulation -i=0 -verify="+p.verify+"` drives the hub. The limit is two processes with as many connections of crypto/tls, "+
			"one that writes the same bytes, 64 KiB at a time, and one that reads and discards them.", limit)
	s.subjects = []subject{
		{hub, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			return b.measureSafe(ctx, p, 1, safety{tls: true})
		}},
		{limit, []string{"limit"}, func(ctx context.Context) (*measured, error) {
			secrets, err := b.programs.makeSecrets()
			if err != nil {
				return nil, err
			}
			return measureLimit(ctx, b.programs, p, secrets)
		}},
	}
	return s
}

// safety is what a hub has that is safe to expose.
type safety struct {
	tls, tokens, monitored bool
}

// measureSafe is one run of a pattern in a version of the protocol on a hub of that kind.
func (b *bench) measureSafe(ctx context.Context, p pattern, protocol int, has safety) (*measured, error) {
	secrets, err := b.programs.makeSecrets()
	if err != nil {
		return nil, err
	}
	var hub, clients []string
	host := "127.0.0.1"
	if has.tls {
		hub = append(hub, "-tls-cert="+secrets.cert, "-tls-key="+secrets.key)
		clients = append(clients, "-ca="+secrets.cert)
		host = "hubs://" + host
	}
	if has.tokens {
		token, err := b.programs.write("token", secrets.token)
		if err != nil {
			return nil, err
		}
		hub = append(hub, "-auth-keys="+secrets.keys, "-rate-messages=1000000", "-rate-bytes=10GiB", "-max-per-address=1000", "-connect-rate=1000")
		clients = append(clients, "-token-file="+token)
	}
	if has.monitored {
		admin, err := freeAddr()
		if err != nil {
			return nil, err
		}
		hub = append(hub, "-admin="+admin)
		defer scrape(ctx, "http://"+admin+"/metrics")()
	}
	s, err := startHubWith(ctx, b.programs, hub...)
	if err != nil {
		return nil, err
	}
	return use(s, func(s *server) (*measured, error) {
		return simulate(ctx, b.programs, p, append(clients, fmt.Sprint("-protocol=", protocol), "-addr="+host, "-port="+portOf(s.addr))...)
	})
}

// scrape asks for a page again and again until the function that it returns is called.
func scrape(ctx context.Context, page string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		tick := time.NewTicker(scrapeEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				readAll(ctx, page)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// readAll reads a page to its end. A hub that does not answer yet, or any more, is no fault here.
func readAll(ctx context.Context, page string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return
	}
	if answer, err := http.DefaultClient.Do(request); err == nil {
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}

// tracesScenario measures what it costs to trace messages.
func (b *bench) tracesScenario(name string, p pattern, protocol int) *scenario {
	const off = "no traces"
	s := costScenario(name, fmt.Sprintf("%s, in version %d, with messages traced", p.title(), protocol),
		"`start_server` and `start_simulation -i=0 -verify="+p.verify+"`. The collector of `-trace-endpoint` reads and forgets.", off)
	for _, one := range []struct {
		name   string
		sample int
	}{{off, 0}, {"one message in 1,000", 1000}, {"every message", 1}} {
		s.subjects = append(s.subjects, subject{one.name, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			return b.measureTraced(ctx, p, protocol, one.sample)
		}})
	}
	return s
}

// measureTraced is one run of a pattern of which one message in sample is traced; 0: none is.
func (b *bench) measureTraced(ctx context.Context, p pattern, protocol, sample int) (*measured, error) {
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
	return use(s, func(s *server) (*measured, error) {
		return simulate(ctx, b.programs, p, append(at(s.addr), fmt.Sprint("-protocol=", protocol))...)
	})
}
