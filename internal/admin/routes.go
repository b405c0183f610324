package admin

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/pprof"
	"net/url"
	runtimepprof "runtime/pprof"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Paths of the probes, which need no token.
const (
	healthPath = "/healthz"
	readyPath  = "/readyz"
)

// openAPI describes the routes. TestOpenAPI_CoversRoutes and TestOpenAPI_RepliesMatchSchemas
// compare it with the server.
//
//go:embed openapi.json
var openAPI []byte

// route is a method and a path that the server handles.
type route struct {
	method, path string
	query        []string // names of its query parameters; others are rejected
	handle       http.HandlerFunc
}

func (s *Server) routes() []route {
	metrics := promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	return []route{
		{method: http.MethodGet, path: healthPath, handle: s.handleHealth},
		{method: http.MethodGet, path: readyPath, handle: s.handleReady},
		{method: http.MethodGet, path: "/metrics", handle: metrics.ServeHTTP},
		{method: http.MethodGet, path: "/openapi.json", handle: handleOpenAPI},
		{method: http.MethodGet, path: "/api/clients", query: []string{"after", "limit"}, handle: s.handleListClients},
		{method: http.MethodGet, path: "/api/clients/{id}", handle: s.handleGetClient},
		{method: http.MethodDelete, path: "/api/clients/{id}", query: []string{"reconnect"}, handle: s.handleDisconnect},
		{method: http.MethodGet, path: "/debug/pprof/", handle: pprof.Index},
		{method: http.MethodGet, path: "/debug/pprof/{profile}", query: []string{"seconds", "debug", "gc"}, handle: handleProfile},
	}
}

// newMux returns a handler that dispatches requests to routes, and rejects other paths.
func (s *Server) newMux() http.Handler {
	byPath := make(map[string]map[string]route)
	for _, r := range s.routes() {
		if byPath[r.path] == nil {
			byPath[r.path] = make(map[string]route)
		}
		byPath[r.path][r.method] = r
	}
	mux := http.NewServeMux()
	for path, byMethod := range byPath {
		pattern := path
		if strings.HasSuffix(path, "/") {
			pattern += "{$}"
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { dispatch(w, r, byMethod) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Sprintf("no such path: %q; see /openapi.json", r.URL.Path))
	})
	return mux
}

// dispatch calls the route for the method of a request. A HEAD request uses the route of GET.
func dispatch(w http.ResponseWriter, r *http.Request, byMethod map[string]route) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	found, ok := byMethod[method]
	if !ok {
		allowed := strings.Join(slices.Sorted(maps.Keys(byMethod)), ", ")
		w.Header().Set("Allow", allowed)
		writeError(w, http.StatusMethodNotAllowed, fmt.Sprintf("method %s not allowed for %s; allowed: %s", r.Method, r.URL.Path, allowed))
		return
	}
	if err := validateQuery(r.URL.RawQuery, found.query); err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	found.handle(w, r)
}

// validateQuery returns an error unless each parameter in the query is one of names and occurs
// once.
func validateQuery(raw string, names []string) error {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("malformed query: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("unknown parameter %q; allowed: %s", name, joinNames(names))
		}
		if len(query[name]) > 1 {
			return fmt.Errorf("%s is given %d times, want once", name, len(query[name]))
		}
	}
	return nil
}

func joinNames(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// handleHealth answers the health probe: whether the hub works.
func (s *Server) handleHealth(w http.ResponseWriter, _ *http.Request) {
	s.writeHealth(w, "alive")
}

// writeHealth writes state if the hub works, and the reason why not otherwise.
func (s *Server) writeHealth(w http.ResponseWriter, state string) {
	if err := s.config.CheckHealth(); err != nil {
		writeJSON(w, http.StatusServiceUnavailable, errorResponse{err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, statusResponse{state})
}

// handleReady answers the readiness probe: whether the hub accepts new clients.
func (s *Server) handleReady(w http.ResponseWriter, _ *http.Request) {
	if s.draining.Load() {
		writeJSON(w, http.StatusServiceUnavailable, errorResponse{"the hub is shutting down"})
		return
	}
	s.writeHealth(w, "ready")
}

type statusResponse struct {
	Status string `json:"status"`
}

// errorResponse is the body of every error response.
type errorResponse struct {
	Error string `json:"error"` // text for people
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

// writeError writes an error response.
func writeError(w http.ResponseWriter, code int, message string) {
	writeJSON(w, code, errorResponse{message})
}

// writeJSON writes a response with value as JSON.
func writeJSON(w http.ResponseWriter, code int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // cannot happen: all types here have a JSON form
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // an error means that the connection is lost
}
