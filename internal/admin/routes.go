package admin

import (
	_ "embed"
	"fmt"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// openAPI describes the routes. TestOpenAPI_CoversRoutes and TestOpenAPI_RepliesMatchSchemas
// compare it with the server.
//
//go:embed openapi.json
var openAPI []byte

// maxScrapes is the maximum number of concurrent requests for /metrics.
const maxScrapes = 4

// handlers are what handles the requests.
type handlers struct {
	probes   *probes
	registry *prometheus.Registry
	clients  *clientAPI
	messages *messageAPI
	summary  *summaryAPI
	cluster  *clusterAPI
}

// newRoutes returns all routes of the admin address.
func newRoutes(h *handlers) []route {
	metrics := promhttp.HandlerFor(h.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	c := h.clients
	return []route{
		{method: http.MethodGet, path: healthPath, handle: h.probes.handleHealth},
		{method: http.MethodGet, path: readyPath, handle: h.probes.handleReady},
		{method: http.MethodGet, path: "/metrics", handle: metrics.ServeHTTP},
		{method: http.MethodGet, path: "/openapi.json", handle: handleOpenAPI},
		{method: http.MethodGet, path: "/api/summary", handle: h.summary.handleSummary},
		{method: http.MethodGet, path: "/api/cluster", handle: h.cluster.handleCluster},
		{method: http.MethodGet, path: "/api/clients", query: []string{"after", "offset", "limit", "sort", "subject", "filter"}, handle: c.handleList},
		{method: http.MethodGet, path: "/api/clients/{id}", handle: c.handleGet},
		{method: http.MethodDelete, path: "/api/clients/{id}", query: []string{"reconnect"}, handle: c.handleDisconnect},
		{method: http.MethodPost, path: "/api/messages", handle: h.messages.handleSend},
		{method: http.MethodGet, path: consoleRedirect, handle: handleConsoleRedirect},
		{method: http.MethodGet, path: consolePath, handle: handleConsole},
		{method: http.MethodGet, path: consolePath + "{file}", handle: handleConsole},
		{method: http.MethodGet, path: "/debug/pprof/", handle: pprof.Index},
		{method: http.MethodGet, path: "/debug/pprof/{profile}", query: []string{"seconds", "debug", "gc"}, handle: handleProfile},
	}
}

func handleOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI) // an error means that the connection is lost
}

// handleProfile serves a profile of the Go runtime.
func handleProfile(w http.ResponseWriter, r *http.Request) {
	switch name := r.PathValue("profile"); {
	case name == "profile":
		pprof.Profile(w, r)
	case name == "trace":
		pprof.Trace(w, r)
	case runtimepprof.Lookup(name) != nil:
		pprof.Handler(name).ServeHTTP(w, r)
	default:
		writeError(w, http.StatusNotFound, fmt.Sprintf("no such profile: %q; see /debug/pprof/", name))
	}
}
