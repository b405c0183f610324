package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"time"

	hubpkg "github.com/sechlol/go-message-hub/hub"
)

// repeatRuns is the number of runs of the default workload with small bodies on one hub.
const repeatRuns = 20

// repeatScenario measures whether clients that have left leave goroutines or memory behind.
func repeatScenario(n int) *scenario {
	s := &scenario{
		name:  "repeat",
		title: fmt.Sprintf("two small examples, then %d runs of 100 clients × 100 messages × 100 bytes on one hub, without loss", n),
		columns: []column{
			{heading: "goroutines before", value: func(m *measurement) float64 { return float64(m.GoroutinesBefore) }},
			{heading: "goroutines after", value: func(m *measurement) float64 { return float64(m.GoroutinesAfter) }},
			{heading: "live heap MiB after the first run, including bench's own", value: func(m *measurement) float64 { return m.HeapFirst }},
			{heading: "live heap MiB after the last run, including bench's own", value: func(m *measurement) float64 { return m.HeapLast }},
		},
		rounds: 1,
	}
	s.subjects = []subject{{"hub", []string{"hub"}, func(ctx context.Context, p *programs) (*measurement, error) { return measureRepeat(ctx, p, n) }}}
	return s
}

// measureRepeat runs the light examples of the system's specification and then the default
// workload with 100-byte bodies n times on one hub. The hub runs in this process, where its
// goroutines and its heap can be counted.
func measureRepeat(ctx context.Context, p *programs, n int) (*measurement, error) {
	h, err := hubpkg.New(hubpkg.Config{})
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }()
	m, err := runRepeats(ctx, p, h, ln.Addr().String(), n)
	shutdownCtx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	if stopErr := h.Shutdown(shutdownCtx); err == nil {
		err = stopErr
	}
	<-served
	if err != nil {
		return nil, err
	}
	if m.GoroutinesAfter > m.GoroutinesBefore {
		return nil, fmt.Errorf("%d goroutines leaked", m.GoroutinesAfter-m.GoroutinesBefore)
	}
	return m, nil
}

func runRepeats(ctx context.Context, p *programs, h *hubpkg.Hub, addr string, n int) (*measurement, error) {
	lightWorkloads := []workload{
		{clients: 2, messages: 10, size: 1024, verify: "full"},
		{clients: 10, messages: 20, size: 1024, verify: "full"},
	}
	for _, wl := range lightWorkloads {
		if _, err := simulate(ctx, p, wl, addrFlags(addr)...); err != nil {
			return nil, err
		}
	}
	if err := waitUntilEmpty(ctx, h); err != nil {
		return nil, err
	}
	m := &measurement{GoroutinesBefore: runtime.NumGoroutine()}
	for i := range n {
		if _, err := simulate(ctx, p, workload{clients: 100, messages: 100, size: 100, verify: "full"}, addrFlags(addr)...); err != nil {
			return nil, err
		}
		if err := waitUntilEmpty(ctx, h); err != nil {
			return nil, err
		}
		m.HeapLast = liveHeapMiB()
		if i == 0 {
			m.HeapFirst = m.HeapLast
		}
		m.GoroutinesAfter = runtime.NumGoroutine()
	}
	return m, nil
}

// waitUntilEmpty waits until all clients have left the hub and the hub holds no bytes.
func waitUntilEmpty(ctx context.Context, h *hubpkg.Hub) error {
	for end := time.Now().Add(waitTimeout); time.Now().Before(end) && ctx.Err() == nil; {
		if s := h.Stats(); s.Clients == 0 && s.QueuedBytes == 0 {
			time.Sleep(200 * time.Millisecond) // for the last goroutines to end
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	s := h.Stats()
	return fmt.Errorf("hub still has %d clients and holds %d bytes", s.Clients, s.QueuedBytes)
}

func liveHeapMiB() float64 {
	runtime.GC()
	runtime.GC() // the second collection empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
