package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	soakUpgrades  = 8                // in the first three quarters of the time
	soakIdleDelay = 35 * time.Second // after the last client has left; longer than the resume window
)

// soakScenario runs one pattern for a long time while connections break and the hub is
// upgraded, and measures what remains in the hub afterwards.
func (b *bench) soakScenario(d time.Duration) *scenario {
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
	s.subjects = []subject{{"hub", []string{"hub"}, func(ctx context.Context) (*measurement, error) { return b.measureSoak(ctx, d) }}}
	return s
}

// upgradableHub is a hub whose process is replaced by upgrades.
type upgradableHub struct {
	*server
	programs  *programs
	args      []string
	adminAddr string
}

func (h *upgradableHub) start(ctx context.Context) (err error) {
	h.server, err = startProcess(ctx, "hub", h.listenAddr(), h.programs.path("start_server"), h.args...)
	return err
}

func (h *upgradableHub) listenAddr() string {
	return strings.TrimPrefix(h.args[0], "-addr=") + ":" + strings.TrimPrefix(h.args[1], "-port=")
}

// newUpgradableHub starts the first process.
func newUpgradableHub(ctx context.Context, p *programs, creds *credentials) (*upgradableHub, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	adminAddr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	h := &upgradableHub{programs: p, adminAddr: adminAddr, args: append([]string{
		"-addr=127.0.0.1", "-port=" + portOf(addr), "-stat=false", "-admin=" + adminAddr, "-keepalive=2s",
	}, creds.serverFlags()...)}
	return h, h.start(ctx)
}

// hubMetrics are metrics of an idle hub after two garbage collections, because pooled memory
// survives one.
type hubMetrics struct{ goroutines, files, heap, queued float64 }

func (h *upgradableHub) metrics(ctx context.Context) (m hubMetrics, err error) {
	for range 2 {
		if _, err = h.readPage(ctx, "/debug/pprof/heap?gc=1", nil); err != nil { // collects garbage
			return m, err
		}
	}
	found, err := h.readPage(ctx, "/metrics", map[string]*float64{
		"go_goroutines": &m.goroutines, "process_open_fds": &m.files, "go_memstats_heap_alloc_bytes": &m.heap, "messagehub_queued_bytes": &m.queued,
	})
	if err == nil && found < 4 {
		err = fmt.Errorf("found %d of 4 metrics", found)
	}
	m.heap /= 1 << 20
	return m, err
}

// readPage reads a page of the admin address and parses the values of the metrics in values.
// It returns how many of them it found.
func (h *upgradableHub) readPage(ctx context.Context, page string, values map[string]*float64) (found int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.adminAddr+page, nil)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	scanner := bufio.NewScanner(resp.Body)
	for scanner.Scan() {
		name, value, _ := strings.Cut(scanner.Text(), " ")
		if v := values[name]; v != nil {
			if *v, err = strconv.ParseFloat(value, 64); err != nil {
				return found, err
			}
			found++
		}
	}
	if err := scanner.Err(); err != nil && values != nil {
		return found, err
	}
	return found, nil
}

// measureSoak runs the soak for the duration d.
func (b *bench) measureSoak(ctx context.Context, d time.Duration) (*measurement, error) {
	creds, err := b.programs.newCredentials()
	if err != nil {
		return nil, err
	}
	hub, err := newUpgradableHub(ctx, b.programs, creds)
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
	g, err := newSoakGroup(ctx, proxy.addr(), creds)
	if err != nil {
		return nil, err
	}
	soakCtx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	g.start(soakCtx)
	go proxy.breakConns(soakCtx) // ends with soakCtx
	upgradeErr := hub.upgradePeriodically(soakCtx, ctx, d, g)
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
func (h *upgradableHub) upgradePeriodically(soakCtx, ctx context.Context, d time.Duration, g *soakGroup) error {
	meanInterval := d * 3 / 4 / soakUpgrades
	for range soakUpgrades {
		delay := meanInterval/2 + time.Duration(rand.Int64N(int64(meanInterval)))/2
		select {
		case <-soakCtx.Done():
			return nil
		case <-time.After(delay):
		}
		g.upgrading.Add(1)
		if _, err := h.stop(); err != nil {
			return err
		}
		if err := h.start(ctx); err != nil {
			return err
		}
		g.upgradedAt.Store(time.Now().UnixNano())
		g.upgrading.Add(-1)
	}
	return nil
}
