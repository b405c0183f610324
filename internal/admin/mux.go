package admin

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// route is a method and a path that the server handles.
type route struct {
	method, path string
	query        []string // names of its query parameters; others are rejected
	handle       http.HandlerFunc
}

// newMux returns a handler that dispatches requests to routes, and rejects other paths.
func newMux(routes []route) http.Handler {
	byPath := make(map[string]map[string]route)
	for _, r := range routes {
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
		writeError(w, http.StatusNotFound, fmt.Sprintf("no such path: %q; see /openapi.json, or /console/ in a browser", r.URL.Path))
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
		allowed := strings.Join(sortedNames(byMethod), ", ")
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
	for _, name := range sortedNames(query) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("unknown parameter %q; allowed: %s", name, joinNames(names))
		}
		if len(query[name]) > 1 {
			return fmt.Errorf("%s is given %d times, want once", name, len(query[name]))
		}
	}
	return nil
}

// sortedNames returns the keys of a map in ascending order.
func sortedNames[V any, M ~map[string]V](m M) []string { return slices.Sorted(maps.Keys(m)) }

func joinNames(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
