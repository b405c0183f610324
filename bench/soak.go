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
	soakRestarts = 8                // in the first three quarters of the time
	soakSettle   = 35 * time.Second // after the last client has left: longer than anybody is expected back
)

// soakScenario has one pattern go on for long while links break and the hub is upgraded, and looks
// at what is left of it.
func (b *bench) soakScenario(d time.Duration) *scenario {
	s := &scenario{
		name: "soak",
		title: fmt.Sprintf("%d clients with tokens over TLS, each sends up to 20 KB to %d others 50 times a second, for %v, while links are cut, stall and vanish, and the hub is upgraded %d times",
			soakClients, soakTo, d, soakRestarts),
		note: "A link breaks every 3 s on average, in one of four ways. An upgrade is SIGTERM, and a new process on the same port. " +
			"Every message that was reported as received had come, once and in order; those that were not are told, and each was under way at an upgrade.",
		columns: []column{
			{heading: "messages", of: func(m *measured) float64 { return float64(m.Expected) }},
			{heading: "deliveries", of: func(m *measured) float64 { return float64(m.Deliveries) }},
			{heading: "not reported as received, at an upgrade", of: func(m *measured) float64 { return float64(m.Refused) }, zero: true},
			{heading: "links broken", of: func(m *measured) float64 { return float64(m.Made) }},
			{heading: "goroutines before", of: func(m *measured) float64 { return float64(m.GoroutinesBefore) }},
			{heading: "goroutines after", of: func(m *measured) float64 { return float64(m.GoroutinesAfter) }},
			{heading: "descriptors before", of: func(m *measured) float64 { return m.FilesBefore }},
			{heading: "descriptors after", of: func(m *measured) float64 { return m.FilesAfter }},
			{heading: "live heap MiB before", of: func(m *measured) float64 { return m.HeapFirst }},
			{heading: "live heap MiB after", of: func(m *measured) float64 { return m.HeapLast }},
			{heading: "bytes queued after", of: func(m *measured) float64 { return m.Queued }, zero: true},
		},
		rounds: 1,
	}
	s.subjects = []subject{{"hub", []string{"hub"}, func(ctx context.Context) (*measured, error) { return b.measureSoak(ctx, d) }}}
	return s
}

// upgraded is a hub that is another process from time to time.
type upgraded struct {
	*server
	programs *programs
	args     []string
	admin    string
}

func (u *upgraded) start(ctx context.Context) (err error) {
	u.server, err = launch(ctx, "hub", u.addr(), u.programs.path("start_server"), u.args...)
	return err
}

func (u *upgraded) addr() string {
	return strings.TrimPrefix(u.args[0], "-addr=") + ":" + strings.TrimPrefix(u.args[1], "-port=")
}

// newUpgraded starts the first one.
func newUpgraded(ctx context.Context, p *programs, s *secrets) (*upgraded, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := freeAddr()
	if err != nil {
		return nil, err
	}
	u := &upgraded{programs: p, admin: admin, args: append([]string{
		"-addr=127.0.0.1", "-port=" + portOf(addr), "-stat=false", "-admin=" + admin, "-keepalive=2s",
	}, s.flags()...)}
	return u, u.start(ctx)
}

// metrics are what an idle hub says of itself, after two collections of garbage: what lies in a pool outlasts one.
type hubMetrics struct{ goroutines, files, heap, queued float64 }

func (u *upgraded) metrics(ctx context.Context) (m hubMetrics, err error) {
	for range 2 {
		if _, err = u.ask(ctx, "/debug/pprof/heap?gc=1", nil); err != nil { // makes it collect
			return m, err
		}
	}
	found, err := u.ask(ctx, "/metrics", map[string]*float64{
		"go_goroutines": &m.goroutines, "process_open_fds": &m.files, "go_memstats_heap_alloc_bytes": &m.heap, "messagehub_queued_bytes": &m.queued,
	})
	if err == nil && found < 4 {
		err = fmt.Errorf("%d of 4 metrics were found", found)
	}
	m.heap /= 1 << 20
	return m, err
}

// ask reads a page of the admin address, and the values of the lines that begin with these names.
func (u *upgraded) ask(ctx context.Context, page string, values map[string]*float64) (found int, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.admin+page, nil)
	if err != nil {
		return 0, err
	}
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v := values[name]; v != nil {
			if *v, err = strconv.ParseFloat(value, 64); err != nil {
				return found, err
			}
			found++
		}
	}
	if err := lines.Err(); err != nil && values != nil {
		return found, err
	}
	return found, nil
}

// measureSoak runs it.
func (b *bench) measureSoak(ctx context.Context, d time.Duration) (*measured, error) {
	secrets, err := b.programs.makeSecrets()
	if err != nil {
		return nil, err
	}
	hub, err := newUpgraded(ctx, b.programs, secrets)
	if err != nil {
		return nil, err
	}
	defer func() { hub.kill() }()
	before, err := hub.metrics(ctx)
	if err != nil {
		return nil, err
	}
	faults, err := newFaults(hub.addr())
	if err != nil {
		return nil, err
	}
	c, err := newCrowd(ctx, faults.addr(), secrets)
	if err != nil {
		return nil, err
	}
	work, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	c.start(work)
	go faults.breakLinks(work) // ends with work
	upgradeErr := hub.upgradeOften(work, ctx, d, c)
	<-work.Done()
	m := c.finish(ctx)
	faults.close()
	if upgradeErr != nil {
		return nil, upgradeErr
	}
	time.Sleep(soakSettle)
	after, err := hub.metrics(ctx)
	if err != nil {
		return nil, err
	}
	m.Made = uint64(faults.broken.Load())
	m.GoroutinesBefore, m.FilesBefore, m.HeapFirst = int(before.goroutines), before.files, before.heap
	m.GoroutinesAfter, m.FilesAfter, m.HeapLast, m.Queued = int(after.goroutines), after.files, after.heap, after.queued
	return m, soakVerdict(m, before, after)
}

// soakVerdict says what is wrong with a hub that everybody has left. A goroutine or descriptor more may belong
// to the question itself.
func soakVerdict(m *measured, before, after hubMetrics) error {
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

// upgradeOften upgrades the hub in the first three quarters of the time.
func (u *upgraded) upgradeOften(work, ctx context.Context, d time.Duration, c *crowd) error {
	each := d * 3 / 4 / soakRestarts
	for range soakRestarts {
		wait := each/2 + time.Duration(rand.Int64N(int64(each)))/2
		select {
		case <-work.Done():
			return nil
		case <-time.After(wait):
		}
		c.upgrading.Add(1)
		if _, err := u.stop(); err != nil {
			return err
		}
		if err := u.start(ctx); err != nil {
			return err
		}
		c.upgraded.Store(time.Now().UnixNano())
		c.upgrading.Add(-1)
	}
	return nil
}
