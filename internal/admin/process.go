package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// processInterval is the minimum time between two samples of the process. To count the open files
// takes milliseconds on a hub with ten thousand connections, on a kernel before Linux 6.2.
const processInterval = 10 * time.Second

// processSampler samples the open files of the process, while requests ask for them.
type processSampler struct {
	registry *prometheus.Registry // static after newProcessSampler

	// mu guards the fields below.
	mu        sync.Mutex
	sampledAt time.Time
	open, max *uint64
}

func newProcessSampler() *processSampler {
	p := &processSampler{registry: prometheus.NewRegistry()}
	p.registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return p
}

// openFiles returns how many files the process has open and can have open, at most processInterval
// ago; nil: the operating system does not say.
func (p *processSampler) openFiles() (open, limit *uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); p.sampledAt.IsZero() || now.Sub(p.sampledAt) >= processInterval {
		p.sampledAt = now
		families, _ := p.registry.Gather() // an error means that values are missing
		p.open, p.max = valueOf(families, "process_open_fds"), valueOf(families, "process_max_fds")
	}
	return p.open, p.max
}
