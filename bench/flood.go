package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/internal/tokens"
)

const (
	floodSeconds = 8   // of measuring, without and with
	floodMargin  = 4   // seconds by which the flood is longer
	floodRounds  = 500 // round trips a second of those who are measured
	floodClients = 20  // that send messages, each of a subject of its own

	// floodConnects is what the flood tries, 20 times what is allowed. It is bounded
	// because hub, flood and bystanders share the machine: a processor that has no time left says
	// nothing of the hub.
	floodConnects = 2000

	// floodNice is by how much the flood gives way to the others, for the same reason: it would
	// come from another machine. Where bench itself runs with priority (chrt -f), the flood does not.
	floodNice = 10

	// floodUnbounded is more than there can be.
	floodUnbounded = 1_000_000
)

// floodLimits are those of the hub under measurement.
var floodLimits = []string{"-max-per-address=20", "-connect-rate=100", "-rate-messages=2000", "-rate-bytes=1MiB"}

// floodScenario measures what a flood from one address costs clients from another one, where the
// hub bounds what an address and a client may do.
func (b *bench) floodScenario(seconds int) *scenario {
	const quiet = "nobody floods"
	s := &scenario{
		name: "flood",
		title: fmt.Sprintf("a message of 128 bytes to another client and back, %d times a second, while another address floods the hub",
			floodRounds),
		note: "`start_server` with `-auth-keys`, `-max-per-address=20`, `-connect-rate=100`, `-rate-messages=2000` and `-rate-bytes=1MiB`. Those who are measured " +
			"come from 127.0.0.1 with tokens, and compare every answer; a round trip that begins late counts from when it was due. The flood comes from 127.0.0.2: connections that say nothing, " +
			"connections that say in turn an HTTP request and a HELLO with a token of a foreign key, and 20 clients with good tokens that send 128 bytes to each other as fast as they can. " +
			fmt.Sprintf("It tries %s connections a second, 20 times what is allowed, or as many as it can, and gives way to the others, as it shares two cores with the hub. ", number(floodConnects)) +
			"Tries are connections, or messages that the hub let the clients send.",
		columns: append(slices.Clone(latencyColumns),
			column{heading: "tries/s", of: func(m *measured) float64 { return float64(m.Tries) / m.Seconds }},
			column{heading: "% of connections ended", of: func(m *measured) float64 { return 100 * float64(m.Refused) / float64(max(1, m.Tries)) }},
			column{heading: "server, cores busy", of: func(m *measured) float64 { return m.CPUMoving / m.Took }},
			column{heading: "server, peak resident MiB", of: func(m *measured) float64 { return m.Server.PeakMiB }},
		),
		ratios: []ratio{
			{heading: "p50 ÷ without", base: quiet, of: func(base, other *measured) float64 { return other.P50 / base.P50 }},
			{heading: "p99 ÷ without", base: quiet, of: func(base, other *measured) float64 { return other.P99 / base.P99 }},
		},
	}
	for _, one := range []struct {
		name, kind string
		rate       int
	}{
		{quiet, "", 0},
		{"connections", "connects", floodConnects},
		{"connections, as many as it can", "connects", floodUnbounded},
		{"strangers", "strangers", floodConnects},
		{"messages", "messages", floodConnects},
	} {
		s.subjects = append(s.subjects, subject{one.name, []string{"hub"}, func(ctx context.Context) (*measured, error) {
			return b.measureFlood(ctx, one.kind, one.rate, seconds)
		}})
	}
	return s
}

// measureFlood measures latencies on a hub with limits while there is a flood of that kind; "" is
// none.
func (b *bench) measureFlood(ctx context.Context, kind string, rate, seconds int) (*measured, error) {
	keys, good, err := b.programs.keys("flood", 1+floodClients) // limits are of a subject
	if err != nil {
		return nil, err
	}
	bystander, flooding := good[0], good[1:]
	if kind == "strangers" {
		if _, flooding, err = b.programs.keys("strangers", 1); err != nil {
			return nil, err
		}
	}
	s, err := startHubWith(ctx, b.programs, append(slices.Clone(floodLimits), "-auth-keys="+keys)...)
	if err != nil {
		return nil, err
	}
	return use(s, func(s *server) (*measured, error) {
		if kind == "" {
			return b.bystand(ctx, s, bystander, seconds)
		}
		flood, err := startCommand(exec.CommandContext(ctx, "chrt", "-o", "0", "nice", "-n", strconv.Itoa(floodNice), b.programs.path("load"),
			"flood", "-addr="+s.addr, "-token="+strings.Join(flooding, ","), "-kind="+kind, "-clients="+strconv.Itoa(floodClients),
			"-rate="+strconv.Itoa(rate), "-seconds="+strconv.Itoa(seconds+floodMargin)))
		if err != nil {
			return nil, err
		}
		if err := flood.moving(); err != nil {
			return nil, err
		}
		m, err := b.bystand(ctx, s, bystander, seconds)
		if err != nil {
			flood.kill()
			return nil, err
		}
		f, err := flood.finish()
		if err != nil {
			return nil, err
		}
		if f.Seconds < m.Took {
			return nil, fmt.Errorf("the flood was over after %.1f s, the measurement after %.1f", f.Seconds, m.Took)
		}
		m.Seconds, m.Tries, m.Refused, m.LoadCPU = f.Seconds, f.Tries, f.Refused, f.LoadCPU
		return m, nil
	})
}

// bystand measures latencies at a moderate rate, and what the server takes meanwhile.
func (b *bench) bystand(ctx context.Context, s *server, token string, seconds int) (*measured, error) {
	before, err := s.cpu()
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	m, err := load(ctx, b.programs, "latency", "hub", s.addr, "-token="+token, "-size=128", "-rate="+strconv.Itoa(floodRounds),
		"-rounds="+strconv.Itoa(1<<30), "-seconds="+strconv.Itoa(seconds))
	if err != nil {
		return nil, err
	}
	m.Took = time.Since(begin).Seconds()
	m.Seconds = m.Took
	after, err := s.cpu()
	m.CPUMoving = after - before
	return m, err
}

// keys makes a pair of keys, and returns the file with that which verifies and tokens of n subjects that the
// other has signed.
func (p *programs) keys(name string, n int) (file string, good []string, err error) {
	private, public, err := tokens.GenerateKey()
	if err != nil {
		return "", nil, err
	}
	signer, err := tokens.ParseSigner(private)
	if err != nil {
		return "", nil, err
	}
	now := time.Now()
	for i := range n {
		token, err := signer.Sign(&tokens.Claims{Subject: name + "-" + strconv.Itoa(i), Until: now.Add(time.Hour)}, tokens.Issuer{}, now)
		if err != nil {
			return "", nil, err
		}
		good = append(good, token)
	}
	file, err = p.write(name+".pub", string(public))
	return file, good, err
}
