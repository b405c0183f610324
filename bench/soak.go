package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	soakUpgrades      = 8                // in the first three quarters of the time
	soakBreakInterval = 3 * time.Second  // between two breaks of a connection, on average
	soakIdleDelay     = 35 * time.Second // after the last client has left; above the resume window
)

// soakScenario runs one pattern for a long time while connections break and the hub is
// upgraded, and measures what remains in the hub afterwards.
func soakScenario(d time.Duration) *scenario {
	s := &scenario{
		name: "soak",
		title: fmt.Sprintf("%d clients with tokens over TLS, each of which sends up to 20 KB to %d others 50 times a second, for %v, while connections break and the hub is upgraded %d times",
			soakClients, soakFanout, d, soakUpgrades),
		note: "Each connection breaks every 3 s on average: it is closed, is reset, stalls for up to 1 s, or stalls for up to 20 s and is closed. An upgrade is SIGTERM and a new process on the same port. " +
			"Every delivery that was reported as received arrived, once and in order. Every delivery without this report is counted, and belongs to a message that was in transit at an upgrade or was sent within 20 s after it.",
		columns: []column{
			{heading: "messages", value: func(m *measurement) float64 { return float64(m.Expected) }},
			{heading: "deliveries", value: func(m *measurement) float64 { return float64(m.Deliveries) }},
			{heading: "deliveries not reported as received, at an upgrade", value: func(m *measurement) float64 { return float64(m.Rejected) }, showZero: true},
			{heading: "connections broken", value: func(m *measurement) float64 { return float64(m.MadeConns) }},
			{heading: "goroutines before", value: func(m *measurement) float64 { return float64(m.GoroutinesBefore) }},
			{heading: "goroutines after", value: func(m *measurement) float64 { return float64(m.GoroutinesAfter) }},
			{heading: "descriptors before", value: func(m *measurement) float64 { return m.FilesBefore }},
			{heading: "descriptors after", value: func(m *measurement) float64 { return m.FilesAfter }},
			{heading: "live heap MiB before", value: func(m *measurement) float64 { return m.HeapFirst }},
			{heading: "live heap MiB after", value: func(m *measurement) float64 { return m.HeapLast }},
			{heading: "bytes queued after", value: func(m *measurement) float64 { return m.QueuedBytes }, showZero: true},
		},
		rounds: 1,
	}
	s.subjects = []subject{{"hub", []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) { return measureSoak(ctx, p, d) }}}
	return s
}

// measureSoak runs the soak for the duration d.
func measureSoak(ctx context.Context, p *programs, d time.Duration) (*measurement, error) {
	creds, err := newCredentials(p)
	if err != nil {
		return nil, err
	}
	hub, err := newUpgradableHub(ctx, p, creds)
	if err != nil {
		return nil, err
	}
	defer func() { hub.kill() }()
	before, err := hub.metrics(ctx)
	if err != nil {
		return nil, err
	}
	proxy, err := newFaultProxy(hub.listenAddr())
	if err != nil {
		return nil, err
	}
	g, err := newSoakGroup(ctx, proxy.addr, creds)
	if err != nil {
		return nil, err
	}
	soakCtx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	g.start(soakCtx)
	go proxy.breakConns(soakCtx, soakBreakInterval/soakClients) // ends with soakCtx
	upgradeErr := upgradePeriodically(soakCtx, ctx, hub, d, g)
	<-soakCtx.Done()
	m := g.finish(ctx)
	proxy.close()
	if upgradeErr != nil {
		return nil, upgradeErr
	}
	time.Sleep(soakIdleDelay)
	after, err := hub.metrics(ctx)
	if err != nil {
		return nil, err
	}
	m.MadeConns = uint64(proxy.breakCount.Load())
	m.GoroutinesBefore, m.FilesBefore, m.HeapFirst = int(before.goroutines), before.files, before.heap
	m.GoroutinesAfter, m.FilesAfter, m.HeapLast, m.QueuedBytes = int(after.goroutines), after.files, after.heap, after.queued
	return m, checkSoak(m, before, after)
}

// checkSoak returns an error if a client reported a problem, or if the hub has more
// goroutines, descriptors, heap or queued bytes after all clients have left. The tolerance
// covers the admin request itself.
func checkSoak(m *measurement, before, after hubMetrics) error {
	switch {
	case m.Problem != "":
		return fmt.Errorf("%s", m.Problem)
	case after.goroutines > before.goroutines+2:
		return fmt.Errorf("%.0f goroutines, %.0f before", after.goroutines, before.goroutines)
	case after.files > before.files+2:
		return fmt.Errorf("%.0f descriptors, %.0f before", after.files, before.files)
	case after.heap > before.heap+2:
		return fmt.Errorf("%.1f MiB of heap, %.1f before", after.heap, before.heap)
	case after.queued != 0:
		return fmt.Errorf("%.0f bytes are queued", after.queued)
	}
	return nil
}

// upgradePeriodically upgrades the hub soakUpgrades times in the first three quarters of d.
func upgradePeriodically(soakCtx, ctx context.Context, h *upgradableHub, d time.Duration, g *soakGroup) error {
	meanInterval := d * 3 / 4 / soakUpgrades
	for range soakUpgrades {
		delay := meanInterval/2 + time.Duration(rand.Int64N(int64(meanInterval)))/2
		select {
		case <-soakCtx.Done():
			return nil
		case <-time.After(delay):
		}
		g.beginUpgrade()
		if _, err := h.stop(); err != nil {
			return err
		}
		if err := h.start(ctx); err != nil {
			return err
		}
		g.endUpgrade()
	}
	return nil
}
