package main

import (
	"context"
	"fmt"
	"strings"
)

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

// hubMetrics are metrics of an idle hub after collectGarbage.
type hubMetrics struct{ goroutines, files, heap, queued float64 }

func (h *upgradableHub) metrics(ctx context.Context) (m hubMetrics, err error) {
	if err := collectGarbage(ctx, h.adminAddr); err != nil {
		return m, err
	}
	found, err := readAdminPage(ctx, h.adminAddr, "/metrics", map[string]*float64{
		"go_goroutines": &m.goroutines, "process_open_fds": &m.files, "go_memstats_heap_alloc_bytes": &m.heap, "messagehub_queued_bytes": &m.queued,
	})
	if err == nil && found < 4 {
		err = fmt.Errorf("found %d of 4 metrics", found)
	}
	m.heap /= 1 << 20
	return m, err
}
