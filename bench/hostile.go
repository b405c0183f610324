package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

const (
	hostileConns         = 10_000 // of each kind, at the same time
	hostileSeconds       = 6      // duration of each measurement, without and with load
	hostileMarginSeconds = 3      // how much longer the load lasts
)

// hostileKind is one kind of hostile client.
type hostileKind struct {
	name               string // subject in the table
	kind               string // -kind of the load program
	secure             bool   // the hub uses TLS and tokens
	completesHandshake bool   // the client completes the TLS handshake
	token              string // the token to send; "good" is a valid token
	rate               float64
}

// Rates of new connections, in connections a second. The load shares the processors of one
// machine with the hub and with the measured clients, and a handshake costs the load more than
// the hub, therefore those rates are lower. Short-lived connections are few at any time.
const (
	hostileConnectRate        = 2000
	hostileHandshakeRate      = 300 // with a TLS handshake
	hostileFloodRate          = 500 // short-lived connections
	hostileHandshakeFloodRate = 100 // short-lived connections with a TLS handshake
	maxHostileFloodConns      = 50  // number of short-lived connections at the same time
)

var hostileKinds = []hostileKind{
	{name: "silent", kind: "silent", rate: hostileConnectRate},
	{name: "a partial header", kind: "header", rate: hostileConnectRate},
	{name: "a body of 1 MiB, one byte a second", kind: "body", rate: hostileConnectRate},
	{name: "20,000 id requests, replies not read", kind: "read", rate: hostileConnectRate},
	{name: "20,000 list requests, replies not read", kind: "read lists", rate: hostileConnectRate},
	{name: "HELLO, then silent", kind: "half-open", rate: hostileConnectRate},
	{name: "one PING a second", kind: "pings", rate: hostileConnectRate},
	{name: "invalid bytes, 500 connections a second", kind: "garbage", rate: hostileFloodRate},
	{name: "reset within a frame, 500 connections a second", kind: "resets", rate: hostileFloodRate},
	{name: "TLS: no handshake", kind: "silent", secure: true, rate: hostileConnectRate},
	{name: "TLS: a partial handshake", kind: "client hello", secure: true, rate: hostileConnectRate},
	{name: "TLS: a handshake, then silent, 300 connections a second", kind: "silent", secure: true, completesHandshake: true, rate: hostileHandshakeRate},
	{name: "TLS: an invalid token, 100 connections a second", kind: "half-open", secure: true, completesHandshake: true, token: "eyJhbGciOiJub25lIn0.e30.", rate: hostileHandshakeFloodRate},
	{name: "TLS: a valid token, one PING every 10 s", kind: "idle", secure: true, completesHandshake: true, token: "good", rate: hostileHandshakeRate},
}

// concurrentConns returns the number of concurrent connections of this kind, at most n.
func (k *hostileKind) concurrentConns(n int) int {
	if k.rate == hostileFloodRate || k.rate == hostileHandshakeFloodRate {
		return min(n, maxHostileFloodConns) // short-lived
	}
	return n
}

// hostileScenario measures the effect of thousands of hostile clients on two other clients.
func hostileScenario(n, seconds int) *scenario {
	s := &scenario{
		name: "hostile",
		title: fmt.Sprintf("a message of 128 bytes to another client and back, 500 a second, beside up to %s hostile connections of one kind",
			formatNumber(float64(n))),
		note: "Each kind has a hub of its own, on which the two clients are first measured alone. The load replaces connections that the hub ends. " +
			"The load shares the processors with the hub. It therefore makes at most 2,000 connections a second, or 300 a second with a TLS handshake. Of connections that the hub ends after 10 s, at most 3,000 are then open at a time.",
		columns: []column{
			{heading: "p99 µs without hostile clients", value: func(m *measurement) float64 { return m.P99Before * 1e6 }},
			{heading: "p99 µs", value: func(m *measurement) float64 { return m.P99 * 1e6 }},
			{heading: "p99 ÷ p99 without hostile clients", value: func(m *measurement) float64 { return m.P99 / m.P99Before }},
			{heading: "connections held", value: func(m *measurement) float64 { return float64(m.HeldConns) }},
			{heading: "connections made", value: func(m *measurement) float64 { return float64(m.MadeConns) }},
			{heading: "hub, resident MiB added", value: func(m *measurement) float64 { return m.MemoryGrowthMiB }},
			{heading: "hub, KiB added per held connection", value: func(m *measurement) float64 {
				if m.HeldConns < 1000 {
					return 0
				}
				return m.MemoryGrowthMiB * 1024 / float64(m.HeldConns)
			}},
			{heading: "lost", value: func(m *measurement) float64 { return float64(m.Lost) }, showZero: true},
		},
	}
	for _, k := range hostileKinds {
		s.subjects = append(s.subjects, subject{k.name, []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) {
			return measureHostile(ctx, p, k, n, seconds)
		}})
	}
	return s
}

// measureHostile measures two clients on a new hub, first alone and then with hostile clients.
func measureHostile(ctx context.Context, p *programs, k hostileKind, n, seconds int) (*measurement, error) {
	var creds *credentials
	args := []string{"-max-clients=10050"}
	if k.secure {
		var err error
		if creds, err = newCredentials(p); err != nil {
			return nil, err
		}
		args = append(args, creds.serverFlags()...)
	}
	return withHub(ctx, p, args, func(s *server) (*measurement, error) {
		return measureHostileOn(ctx, p, s, creds, k, n, seconds)
	})
}

func measureHostileOn(ctx context.Context, p *programs, s *server, creds *credentials, k hostileKind, n, seconds int) (*measurement, error) {
	pair, err := newBystanders(ctx, s.addr, creds)
	if err != nil {
		return nil, err
	}
	defer pair.close()
	before, err := pair.measure(ctx, time.Duration(seconds)*time.Second)
	if err != nil {
		return nil, err
	}
	memoryBefore, err := s.memoryMiB("VmRSS")
	if err != nil {
		return nil, err
	}
	args := []string{"-kind=" + k.kind, "-conns=" + strconv.Itoa(k.concurrentConns(n)), "-rate=" + strconv.FormatFloat(k.rate, 'f', 0, 64),
		"-seconds=" + strconv.Itoa(seconds+hostileMarginSeconds)}
	if k.completesHandshake {
		token := k.token
		if token == "good" {
			token = creds.token
		}
		args = append(args, "-secure", "-token="+token)
	}
	attack, err := startLoad(ctx, p, "hostile", "hub", s.addr, args...)
	if err != nil {
		return nil, err
	}
	m, loadResult, err := attack.during(func() (*measurement, error) {
		m, err := pair.measure(ctx, time.Duration(seconds)*time.Second)
		if err != nil {
			return nil, fmt.Errorf("bystanders were affected: %w", err)
		}
		memoryDuring, err := s.memoryMiB("VmRSS")
		m.MemoryGrowthMiB = memoryDuring - memoryBefore
		return m, err
	})
	if err != nil {
		return nil, err
	}
	m.P99Before, m.HeldConns, m.MadeConns, m.LoadCPU = before.P99, loadResult.HeldConns, loadResult.MadeConns, loadResult.LoadCPU
	return m, nil
}
