package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"time"

	hubpkg "github.com/sechlol/go-message-hub/hub"
)

// repeatRuns is how many runs of the default pattern with small bodies one hub
// has to bear.
const repeatRuns = 20

// repeatResult is how a hub stood before and after many runs.
type repeatResult struct {
	Runs             int       `json:"runs"`
	GoroutinesBefore int       `json:"goroutines_before"`
	GoroutinesAfter  int       `json:"goroutines_after"`
	HeapMiB          []float64 `json:"heap_mib"` // live, after each run
}

// measureRepeat runs the light examples of the system's description and then the
// default pattern with 100-byte bodies n times on one hub. The hub lives in this
// process, where its goroutines and its heap can be counted.
func measureRepeat(ctx context.Context, p *programs, n int) (*repeatResult, error) {
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
	result, err := repeat(ctx, p, h, ln.Addr().(*net.TCPAddr).Port, n)
	ending, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if stopErr := h.Shutdown(ending); err == nil {
		err = stopErr
	}
	<-served
	if err != nil {
		return nil, err
	}
	last := len(result.HeapMiB) - 1
	fmt.Printf("repeat: %d runs, nothing lost; goroutines %d before, %d after; live heap %.1f MiB after the first, %.1f MiB after the last\n",
		n, result.GoroutinesBefore, result.GoroutinesAfter, result.HeapMiB[0], result.HeapMiB[last])
	if result.GoroutinesAfter > result.GoroutinesBefore {
		return nil, fmt.Errorf("%d goroutines stayed", result.GoroutinesAfter-result.GoroutinesBefore)
	}
	return result, nil
}

func repeat(ctx context.Context, p *programs, h *hubpkg.Hub, port, n int) (*repeatResult, error) {
	light := []pattern{
		{clients: 2, messages: 10, size: 1024, verify: "full"},
		{clients: 10, messages: 20, size: 1024, verify: "full"},
	}
	for _, s := range light {
		if _, err := simulate(ctx, p, fmt.Sprint(port), s); err != nil {
			return nil, err
		}
	}
	if err := emptied(ctx, h); err != nil {
		return nil, err
	}
	result := &repeatResult{Runs: n, GoroutinesBefore: runtime.NumGoroutine()}
	for range n {
		_, err := simulate(ctx, p, fmt.Sprint(port), pattern{clients: 100, messages: 100, size: 100, verify: "full"})
		if err != nil {
			return nil, err
		}
		if err := emptied(ctx, h); err != nil {
			return nil, err
		}
		result.HeapMiB = append(result.HeapMiB, liveHeap())
		result.GoroutinesAfter = runtime.NumGoroutine()
	}
	return result, nil
}

// emptied waits until the hub has seen everybody leave and holds nothing.
func emptied(ctx context.Context, h *hubpkg.Hub) error {
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		if s := h.Stats(); s.Clients == 0 && s.QueuedBytes == 0 {
			time.Sleep(200 * time.Millisecond) // for the last goroutines to end
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	s := h.Stats()
	return fmt.Errorf("hub still has %d clients and holds %d bytes", s.Clients, s.QueuedBytes)
}

func liveHeap() float64 {
	runtime.GC()
	runtime.GC() // the pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}
