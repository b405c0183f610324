package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

// description is the content of openapi.json. The decoder rejects fields that description lacks.
type description struct {
	OpenAPI    string                          `json:"openapi"`
	Info       map[string]string               `json:"info"`
	Security   []map[string][]string           `json:"security"`
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		SecuritySchemes map[string]map[string]string `json:"securitySchemes"`
		Schemas         map[string]schema            `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	ID         string                `json:"operationId"`
	Summary    string                `json:"summary"`
	Parameters []parameter           `json:"parameters"`
	Security   []map[string][]string `json:"security"`
	Request    *struct {
		Required bool `json:"required"`
		Content  map[string]struct {
			Schema schema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Description string `json:"description"`
		Content     map[string]struct {
			Schema schema `json:"schema"`
		} `json:"content"`
	} `json:"responses"`
}

type parameter struct {
	Name        string `json:"name"`
	In          string `json:"in"`
	Description string `json:"description"`
	Required    bool   `json:"required"`
	Schema      schema `json:"schema"`
}

type schema struct {
	Ref         string            `json:"$ref"`
	Type        any               `json:"type"` // a name, or a list of them
	Description string            `json:"description"`
	Properties  map[string]schema `json:"properties"`
	Required    []string          `json:"required"`
	Additional  *additional       `json:"additionalProperties"`
	Items       *schema           `json:"items"`
	Enum        []any             `json:"enum"`
	Default     any               `json:"default"`
	Pattern     string            `json:"pattern"`
	Format      string            `json:"format"`
	Minimum     *float64          `json:"minimum"`
	Maximum     *float64          `json:"maximum"`
	MaxLength   *int              `json:"maxLength"`
}

// additional says which properties an object has besides those that are named: none, or any of a
// schema.
type additional struct{ schema *schema }

// UnmarshalJSON implements json.Unmarshaler.
func (a *additional) UnmarshalJSON(text []byte) error {
	if string(text) == "false" {
		return nil
	}
	return json.Unmarshal(text, &a.schema)
}

// readOpenAPI requests and parses /openapi.json.
func (s *testServer) readOpenAPI() (d description) {
	s.t.Helper()
	decoder := json.NewDecoder(strings.NewReader(string(s.get("/openapi.json"))))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// TestOpenAPI_CoversRoutes checks that the routes and openapi.json have the same paths,
// methods and parameters.
func TestOpenAPI_CoversRoutes(t *testing.T) {
	s := startHub(t, Config{})
	d := s.readOpenAPI()
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Errorf("openapi %q", d.OpenAPI)
	}
	ids := make(map[string]bool)
	remaining := maps.Clone(d.Paths)
	for _, r := range newRoutes(&handlers{s.probes, prometheus.NewRegistry(), &clientAPI{}, &messageAPI{}, &summaryAPI{}, &clusterAPI{}}) {
		op, ok := d.Paths[r.path][strings.ToLower(r.method)]
		if !ok {
			t.Errorf("%s %s is not described", r.method, r.path)
			continue
		}
		delete(remaining[r.path], strings.ToLower(r.method))
		if ids[op.ID] || op.ID == "" || op.Summary == "" {
			t.Errorf("%s %s: operation %q, %q", r.method, r.path, op.ID, op.Summary)
		}
		ids[op.ID] = true
		var want, got []string
		for _, match := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(r.path, -1) {
			want = append(want, "path "+match[1])
		}
		for _, name := range r.query {
			want = append(want, "query "+name)
		}
		for _, p := range op.Parameters {
			got = append(got, p.In+" "+p.Name)
			if p.Required != (p.In == "path") || p.Description == "" {
				t.Errorf("%s %s: %+v", r.method, r.path, p)
			}
		}
		if slices.Sort(want); !slices.Equal(want, slices.Sorted(slices.Values(got))) {
			t.Errorf("%s %s: parameters described %q, want %q", r.method, r.path, got, want)
		}
	}
	for path, methods := range remaining {
		for method := range methods {
			t.Errorf("%s %s is described, but not a route", method, path)
		}
	}
}

// TestOpenAPI_RepliesMatchSchemas sends requests to every route, valid and invalid, until each
// described response was seen, and checks all responses against their schemas.
func TestOpenAPI_RepliesMatchSchemas(t *testing.T) {
	withoutToken, withToken := startHub(t, Config{SampleInterval: time.Millisecond, CertificateExpiry: fullConfig().CertificateExpiry}), startHub(t, Config{Token: token})
	clustered := startAdmin(t, Config{Hub: &fakeHub{}, Cluster: fakeCluster()})
	unhealthy := startHub(t, Config{CheckHealth: func() error { return errors.New("the hub hangs") }})
	closed := startAdmin(t, Config{Hub: &fakeHub{sendErr: hub.ErrClosed}})
	c := withoutToken.dial(t, client.Options{Name: "client"})
	eventually(t, "the response has rates", func() bool {
		p := parseJSON[clientsResponse](t, withoutToken.get("/api/clients"))
		return p.Clients[0].BytesInRate != nil
	})
	d := withoutToken.readOpenAPI()
	for path, methods := range d.Paths {
		for method, op := range methods {
			method := strings.ToUpper(method)
			a := operationCheck{t: t, d: &d, op: op, name: method + " " + path, seen: make(map[string]bool)}
			target := strings.NewReplacer("{id}", fmt.Sprint(c.ID()), "{profile}", "heap", "{file}", "console.js").Replace(path)
			if method != http.MethodDelete {
				a.checkReply(withoutToken.do(method, target, nil))
			}
			for _, p := range op.Parameters {
				if p.In != "query" {
					continue
				}
				for _, value := range p.Schema.examples() {
					if method == http.MethodDelete { // of an id that does not exist
						a.checkReply(withoutToken.do(method, "/api/clients/999?"+p.Name+"="+value, nil))
					} else if p.Name != "seconds" { // TestProfiles covers seconds
						a.checkReply(withoutToken.do(method, target+"?"+p.Name+"="+url.QueryEscape(value), nil))
					}
				}
			}
			a.checkCode(withoutToken.do(method, target+"?unheard=of", nil), http.StatusBadRequest)
			if strings.Contains(path, "{") {
				a.checkCode(withoutToken.do(method, strings.NewReplacer("{id}", "999", "{profile}", "nothing", "{file}", "nothing").Replace(path), nil), http.StatusNotFound)
			}
			if op.Security == nil {
				a.checkCode(withToken.do(method, target, nil), http.StatusUnauthorized)
				a.checkCode(withoutToken.do(method, target, newHeader("Host", "evil.example")), http.StatusForbidden)
			} else if path != consoleRedirect {
				a.checkCode(withToken.do(method, target, nil), http.StatusOK)
			}
			if path == "/api/cluster" || path == "/api/summary" {
				a.checkCode(clustered.do(method, path, nil), http.StatusOK)
			}
			if op.Request != nil {
				a.checkMessages(withoutToken, closed, c.ID())
			}
			if method == http.MethodDelete {
				defer a.checkAllSeen()
				defer func() { a.checkCode(withoutToken.do(method, target, nil), http.StatusNoContent) }()
				continue
			}
			if path == healthPath || path == readyPath {
				unhealthy.wantError(unhealthy.do(method, path, nil), http.StatusServiceUnavailable, "the hub hangs")
			}
			if path == healthPath {
				a.checkCode(unhealthy.do(method, path, nil), http.StatusServiceUnavailable)
			}
			if path == readyPath {
				withToken.Drain()
				a.checkCode(withToken.do(method, path, nil), http.StatusServiceUnavailable)
			}
			a.checkAllSeen()
		}
	}
}

// checkMessages sends test messages to an operation, until each described response was seen.
func (a *operationCheck) checkMessages(s, closed *testServer, to uint64) {
	a.t.Helper()
	send := func(s *testServer, header http.Header, text string) reply {
		return s.doBody(http.MethodPost, "/api/messages", header, strings.NewReader(text))
	}
	isJSON, valid := newHeader("Content-Type", "application/json"), fmt.Sprintf(`{"to":["%d","999"],"level":"written"}`, to)
	request := a.op.Request.Content["application/json"].Schema
	a.checkRequest(request, messageRequest{})
	a.checkCode(send(s, isJSON, valid), http.StatusOK)
	a.checkCode(send(s, newHeader("Content-Type", "text/plain"), valid), http.StatusUnsupportedMediaType)
	a.checkCode(send(s, isJSON, "{"), http.StatusBadRequest)
	a.checkCode(send(s, isJSON, `{"body":"`+strings.Repeat("x", maxBodyBytes)+`"}`), http.StatusRequestEntityTooLarge)
	a.checkCode(send(closed, isJSON, valid), http.StatusServiceUnavailable)
}

// checkRequest compares the names in the schema of a request with those of its type.
func (a *operationCheck) checkRequest(s schema, request any) {
	a.t.Helper()
	s = a.resolve(s)
	text, err := json.Marshal(request)
	if err != nil {
		a.t.Fatal(err)
	}
	want, got := slices.Sorted(maps.Keys(parseJSON[map[string]any](a.t, text))), slices.Sorted(maps.Keys(s.Properties))
	if !slices.Equal(want, got) {
		a.t.Errorf("%s: the request is described as %q, want %q", a.name, got, want)
	}
}

// resolve returns the schema that s refers to, or s.
func (a *operationCheck) resolve(s schema) schema {
	a.t.Helper()
	name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
	if !ok {
		return s
	}
	resolved, found := a.d.Components.Schemas[name]
	if !found {
		a.t.Fatalf("%s: schema %s does not exist", a.name, name)
	}
	return resolved
}

// examples returns valid values of a parameter.
func (s *schema) examples() (values []string) {
	for _, v := range s.Enum {
		values = append(values, fmt.Sprint(v))
	}
	if s.Default != nil {
		values = append(values, fmt.Sprint(s.Default))
	}
	for _, bound := range []*float64{s.Minimum, s.Maximum} {
		if bound != nil {
			values = append(values, fmt.Sprint(*bound))
		}
	}
	if s.Type == "boolean" {
		values = append(values, "true", "false")
	}
	return values
}

// operationCheck checks the responses of an operation, and records their codes.
type operationCheck struct {
	t    *testing.T
	d    *description
	op   operation
	name string
	seen map[string]bool
}

// checkCode checks the code of a response, and its body against the schema.
func (a *operationCheck) checkCode(r reply, code int) {
	a.t.Helper()
	if r.code != code {
		a.t.Errorf("%s: %d %s, want %d", a.name, r.code, r.body, code)
	}
	a.checkReply(r)
}

func (a *operationCheck) checkReply(r reply) {
	a.t.Helper()
	code := fmt.Sprint(r.code)
	described, ok := a.op.Responses[code]
	if !ok {
		a.t.Errorf("%s: %s is not described: %s", a.name, code, r.body)
		return
	}
	a.seen[code] = true
	if described.Content == nil {
		if len(r.body) > 0 {
			a.t.Errorf("%s: %s has a body: %s", a.name, code, r.body)
		}
		return
	}
	kind, _, err := mime.ParseMediaType(r.header.Get("Content-Type"))
	content, ok := described.Content[kind]
	if a.op.ID == "profile" && kind == "text/plain" { // requested by the parameter debug
		return
	}
	if err != nil || !ok {
		a.t.Errorf("%s: the Content-Type of %s is %q", a.name, code, r.header.Get("Content-Type"))
		return
	}
	if kind == "application/json" {
		a.checkSchema(content.Schema, parseJSON[any](a.t, r.body), code)
	}
}

// checkAllSeen fails if a described code was not seen.
func (a *operationCheck) checkAllSeen() {
	for code := range a.op.Responses {
		if !a.seen[code] {
			a.t.Errorf("%s: no response had the code %s", a.name, code)
		}
	}
}

// checkSchema checks a value against its schema.
func (a *operationCheck) checkSchema(s schema, value any, at string) {
	a.t.Helper()
	s = a.resolve(s)
	if !slices.Contains(s.types(), jsonType(value)) && !(jsonType(value) == "integer" && slices.Contains(s.types(), "number")) {
		a.t.Errorf("%s: %s is %v, described as %v", a.name, at, value, s.Type)
		return
	}
	switch v := value.(type) {
	case map[string]any:
		if s.Additional == nil {
			return // any object
		}
		if s.Additional.schema != nil {
			for name, field := range v {
				a.checkSchema(*s.Additional.schema, field, at+"."+name)
			}
			return
		}
		if want, got := slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(v)); !slices.Equal(want, got) {
			a.t.Errorf("%s: %s has %q, described are %q", a.name, at, got, want)
		}
		if want := slices.Sorted(slices.Values(s.Required)); !slices.Equal(want, slices.Sorted(maps.Keys(s.Properties))) {
			a.t.Errorf("%s: %s: required are %q", a.name, at, want)
		}
		for name, field := range v {
			a.checkSchema(s.Properties[name], field, at+"."+name)
		}
	case []any:
		for i, item := range v {
			a.checkSchema(*s.Items, item, fmt.Sprintf("%s[%d]", at, i))
		}
	case string:
		a.checkString(s, v, at)
	case float64:
		if s.Enum != nil && !slices.Contains(s.Enum, any(v)) || s.Minimum != nil && v < *s.Minimum {
			a.t.Errorf("%s: %s is %v", a.name, at, v)
		}
	}
}

func (a *operationCheck) checkString(s schema, text, at string) {
	a.t.Helper()
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(text) {
		a.t.Errorf("%s: %s is %q, described as %s", a.name, at, text, s.Pattern)
	}
	if _, err := time.Parse(time.RFC3339, text); s.Format == "date-time" && err != nil {
		a.t.Errorf("%s: %s is %q", a.name, at, text)
	}
	if s.MaxLength != nil && len(text) > *s.MaxLength {
		a.t.Errorf("%s: %s has %d bytes", a.name, at, len(text))
	}
}

func (s *schema) types() (names []string) {
	switch t := s.Type.(type) {
	case string:
		return []string{t}
	case []any:
		for _, name := range t {
			names = append(names, fmt.Sprint(name))
		}
	}
	return names
}

func jsonType(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}
