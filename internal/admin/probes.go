package admin

import (
	"net/http"
	"sync/atomic"
)

// Paths of the probes, which need no token.
const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

// probes answers the health and the readiness probe.
type probes struct {
	checkHealth func() error // nil if the hub works, otherwise why not
	checkMember func() error // ClusterConfig.CheckMember; nil: the hub is alone
	draining    atomic.Bool  // the hub is about to shut down
}

// handleHealth answers the health probe: whether the hub works.
func (p *probes) handleHealth(w http.ResponseWriter, _ *http.Request) {
	p.writeHealth(w, "alive")
}

// writeHealth writes state if the hub works, and the reason why not otherwise.
func (p *probes) writeHealth(w http.ResponseWriter, state string) {
	if err := p.checkHealth(); err != nil {
		writeJSON(w, http.StatusServiceUnavailable, errorResponse{err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, statusResponse{state})
}

// handleReady answers the readiness probe: whether the hub accepts new clients.
func (p *probes) handleReady(w http.ResponseWriter, _ *http.Request) {
	if p.draining.Load() {
		writeJSON(w, http.StatusServiceUnavailable, errorResponse{"the hub is shutting down"})
		return
	}
	if p.checkMember != nil {
		if err := p.checkMember(); err != nil {
			writeJSON(w, http.StatusServiceUnavailable, errorResponse{err.Error()})
			return
		}
	}
	p.writeHealth(w, "ready")
}

type statusResponse struct {
	Status string `json:"status"`
}
