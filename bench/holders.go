package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	holdersConns         = 400 // connections that stop in the middle of a message, at a time
	holdersSeconds       = 60  // duration of the measurement
	holdersMarginSeconds = 3   // how much longer the load lasts
	maxHoldersRate       = 400 // new connections a second
)

// holderKind is one way to hold memory with an incomplete message.
type holderKind struct {
	name      string // subject in the table
	kind      string // -kind of the load program
	addresses int
	lifetime  time.Duration // after which a connection is replaced; 0: it stays until the hub ends it
}

var holderKinds = []holderKind{
	{"half of the message, one address", "half", 1, 0},
	{"half of the message, 8 addresses, replaced every second", "half", 8, time.Second},
	{"all but one byte, one address, replaced every second", "but a byte", 1, time.Second},
	{"all but one byte, 8 addresses", "but a byte", 8, 0},
}

// holdersScenario measures clients that send large messages while many other clients do not
// complete theirs.
func holdersScenario(n, seconds int) *scenario {
	s := &scenario{
		name: "holders",
		title: fmt.Sprintf("a message of 1 MiB to another client, 10 a second for %d s, while %s connections stop in the middle of a message",
			seconds, formatNumber(float64(n))),
		note: "Each kind has a hub of its own, with default settings. The load replaces connections that the hub ends. The time of a message counts from when it was due. " +
			"Another client sends messages of 1 MiB over a link that transfers 144 KiB at once and then nothing for 3 s. The last column counts connections that the hub closed, among this client, its receiver and the two measured clients.",
		rounds: 1,
		columns: []column{
			{heading: "p50 ms", value: func(m *measurement) float64 { return m.P50 * 1e3 }},
			{heading: "p99 ms", value: func(m *measurement) float64 { return m.P99 * 1e3 }},
			{heading: "max ms", value: func(m *measurement) float64 { return m.Max * 1e3 }},
			{heading: "connections held", value: func(m *measurement) float64 { return float64(m.HeldConns) }},
			{heading: "connections made", value: func(m *measurement) float64 { return float64(m.MadeConns) }},
			{heading: "server, peak resident MiB", value: func(m *measurement) float64 { return m.Server.PeakMiB }},
			{heading: "other connections closed", value: func(m *measurement) float64 { return float64(m.CutConns) }, showZero: true},
		},
	}
	for _, k := range holderKinds {
		s.subjects = append(s.subjects, subject{k.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return withHub(ctx, p, nil, func(s *server) (*measurement, error) { return measureHolders(ctx, p, s, k, n, seconds) })
		}})
	}
	return s
}

func measureHolders(ctx context.Context, p *programs, s *server, k holderKind, n, seconds int) (*measurement, error) {
	mc, err := newMeasuredClients(ctx, s.addr)
	if err != nil {
		return nil, err
	}
	defer mc.close()
	holders, err := startLoad(ctx, p, "hostile", "hub", s.addr, "-kind="+k.kind, "-conns="+strconv.Itoa(n), "-addresses="+strconv.Itoa(k.addresses),
		"-stay="+k.lifetime.String(), "-rate="+strconv.Itoa(maxHoldersRate), "-seconds="+strconv.Itoa(seconds+holdersMarginSeconds))
	if err != nil {
		return nil, err
	}
	m, loadResult, err := holders.during(func() (*measurement, error) {
		return mc.measure(ctx, time.Duration(seconds)*time.Second), nil
	})
	if err != nil {
		return nil, err
	}
	m.HeldConns, m.MadeConns, m.LoadCPU = loadResult.HeldConns, loadResult.MadeConns, loadResult.LoadCPU
	return m, nil
}
