package admin

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.yaml.in/yaml/v3"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// family is a metric family in the output of /metrics.
type family struct {
	kind   string
	help   string
	labels map[string]bool    // label names of its series
	series map[string]float64 // value by name and labels
}

var (
	commentLine = regexp.MustCompile(`^# (HELP|TYPE) (\S+) (.*)$`)
	sampleLine  = regexp.MustCompile(`^((\w+)(?:{(.*)})?) (\S+)$`)
	labelName   = regexp.MustCompile(`(\w+)="`)
)

// scrape parses the output of /metrics.
func (s *testServer) scrape() map[string]*family {
	s.t.Helper()
	families := make(map[string]*family)
	var f *family
	for line := range strings.Lines(string(s.get("/metrics"))) {
		line = strings.TrimSuffix(line, "\n")
		if match := commentLine.FindStringSubmatch(line); match != nil {
			if families[match[2]] == nil {
				families[match[2]] = &family{labels: make(map[string]bool), series: make(map[string]float64)}
			}
			f = families[match[2]]
			if match[1] == "TYPE" {
				f.kind = match[3]
			} else {
				f.help = match[3]
			}
			continue
		}
		match := sampleLine.FindStringSubmatch(line)
		if match == nil {
			s.t.Fatalf("not a line of a metric: %q", line)
		}
		value, err := strconv.ParseFloat(match[4], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		f.series[match[1]] = value
		for _, name := range labelName.FindAllStringSubmatch(match[3], -1) {
			f.labels[name[1]] = true
		}
	}
	return families
}

// TestMetrics_Values checks metrics after known traffic.
func TestMetrics_Values(t *testing.T) {
	s := startHub(t, fullConfig())
	a, b := s.dial(t, client.Options{}), s.dial(t, client.Options{})
	if _, err := a.SendReport(t.Context(), []uint64{b.ID(), 999}, []byte("hello"), &client.SendOptions{Level: wire.LevelWritten}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a latency is sampled", func() bool {
		for range 100 {
			if err := a.Send(t.Context(), []uint64{999, b.ID()}, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		return s.scrape()["messagehub_delivery_latency_seconds"].series["messagehub_delivery_latency_seconds_count"] > 0
	})
	got := s.scrape()
	for name, minValue := range map[string]float64{
		"messagehub_clients":                                              2,
		"messagehub_connections_total":                                    2,
		"messagehub_relays_total":                                         2,
		`messagehub_deliveries_total{outcome="written"}`:                  2,
		`messagehub_deliveries_total{outcome="unknown"}`:                  2,
		`messagehub_followed_deliveries_total{fate="unknown"}`:            1,
		`messagehub_disconnections_total{reason="stalled"}`:               0,
		`messagehub_connections_refused_total{reason="too many clients"}`: 0,
		"messagehub_queued_bytes_limit":                                   hub.DefaultMaxQueuedBytes,
		"messagehub_delivery_latency_seconds_sum":                         1e-9,
		"messagehub_certificate_not_after_timestamp_seconds":              1_800_000_000,
		"messagehub_log_lines_dropped_total":                              3,
		"go_goroutines":                                                   1,
	} {
		base, _, _ := strings.Cut(name, "{")
		f := got[strings.TrimSuffix(base, "_sum")]
		if f == nil {
			t.Errorf("there is no %s", base)
			continue
		}
		if value, ok := f.series[name]; !ok || value < minValue {
			t.Errorf("%s is %v (%t), want at least %v", name, value, ok, minValue)
		}
	}
	if got["go_build_info"] == nil {
		t.Error("go_build_info is missing")
	}
	for name, f := range got {
		if f.help == "" || f.kind == "" || f.kind == "untyped" {
			t.Errorf("%s: %q, %q", name, f.kind, f.help)
		}
		if strings.HasPrefix(name, prefix) && len(f.series) > 100 {
			t.Errorf("%s has %d series: one for each client?", name, len(f.series))
		}
	}
}

// TestMetrics_CoverStats sets each number of the statistics to a different value, and checks that
// /metrics has all values.
func TestMetrics_CoverStats(t *testing.T) {
	f := &fakeHub{stats: hub.Stats{
		Rejected: make(map[hub.RejectReason]uint64), Disconnected: make(map[hub.CloseReason]uint64), Dropped: make(map[hub.DropReason]uint64),
		Fates: make(map[wire.Fate]uint64), Errors: make(map[wire.ErrorCode]uint64),
	}}
	want := make(map[float64]string)
	next := uint64(1000)
	put := func(desc string) uint64 {
		next++
		want[float64(next)] = desc
		return next
	}
	for _, r := range hub.CloseReasons() {
		f.stats.Disconnected[r] = put("reason " + r.String())
	}
	for _, r := range hub.RejectReasons() {
		f.stats.Rejected[r] = put("reject reason " + r.String())
	}
	for _, r := range hub.DropReasons() {
		f.stats.Dropped[r] = put("drop reason " + r.String())
	}
	for _, fate := range wire.Fates() {
		f.stats.Fates[fate] = put("fate " + fate.String())
	}
	for _, code := range wire.ErrorCodes() {
		f.stats.Errors[code] = put("error " + code.String())
	}
	value := reflect.ValueOf(&f.stats).Elem()
	for i := range value.NumField() {
		field, name := value.Field(i), value.Type().Field(i).Name
		switch {
		case name == "Uptime":
			field.SetInt(int64(put(name)) * 1e9)
		case field.CanInt():
			field.SetInt(int64(put(name)))
		case field.CanUint():
			field.SetUint(put(name))
		case field.Len() == 0:
			t.Errorf("the test sets no value of the map %s", name)
		}
	}
	s := startAdmin(t, Config{Hub: f})
	for name, family := range s.scrape() {
		for _, v := range family.series {
			if strings.HasPrefix(name, prefix) {
				delete(want, v)
			}
		}
	}
	for _, desc := range want {
		t.Errorf("no metric has the value of %s", desc)
	}
}

// TestMetrics_Lint runs the linter of Prometheus.
func TestMetrics_Lint(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	r.MustRegister(newCollector(new(fakeHub).Stats), NewLatency().histogram, newCertificateExpiry(time.Now), newLogDropped(func() uint64 { return 0 }), newClusterCollector(fakeCluster()))
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// fullConfig returns a configuration with all optional metrics. startHub adds the latency.
func fullConfig() Config {
	return Config{
		CertificateExpiry: func() time.Time { return time.Unix(1_800_000_000, 0) },
		LogDropped:        func() uint64 { return 3 },
		Cluster:           fakeCluster(),
	}
}

func readRepoFile(t *testing.T, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

var tableRow = regexp.MustCompile("(?m)^\\| `(" + prefix + "\\w+)`(?: by `(\\w+)`)? \\| (\\w+) \\| (.+) \\| (.+) \\|$")

// TestMetrics_Documented compares the table of metrics in OPERATIONS.md with /metrics.
func TestMetrics_Documented(t *testing.T) {
	s := startHub(t, fullConfig())
	remaining := make(map[string]*family)
	for name, f := range s.scrape() {
		if strings.HasPrefix(name, prefix) {
			remaining[name] = f
		}
	}
	for _, row := range tableRow.FindAllStringSubmatch(string(readRepoFile(t, "docs", "OPERATIONS.md")), -1) {
		name, by, kind := row[1], row[2], row[3]
		f := remaining[name]
		if f == nil {
			t.Errorf("%s is documented twice or does not exist", name)
			continue
		}
		delete(remaining, name)
		delete(f.labels, "le")
		if kind != f.kind || by != strings.Join(slices.Sorted(maps.Keys(f.labels)), ",") {
			t.Errorf("%s is documented as a %s with labels %q, is a %s with labels %v", name, kind, by, f.kind, f.labels)
		}
	}
	for name := range remaining {
		t.Errorf("%s is not documented", name)
	}
}

// TestReasons_Documented checks that OPERATIONS.md has every close reason, reject reason and
// drop reason.
func TestReasons_Documented(t *testing.T) {
	page := string(readRepoFile(t, "docs", "OPERATIONS.md"))
	for _, text := range slices.Concat(textsOf(hub.CloseReasons()), textsOf(hub.RejectReasons()), textsOf(hub.DropReasons())) {
		if !strings.Contains(page, "`"+text+"`") {
			t.Errorf("%q is not documented", text)
		}
	}
}

// checkQuery fails if a query uses metrics, labels or label values that do not exist.
func checkQuery(t *testing.T, where, query string, families map[string]*family) {
	t.Helper()
	names := regexp.MustCompile(`\b(messagehub|go|process)_\w+`).FindAllString(query, -1)
	if len(names) == 0 {
		t.Errorf("%s uses no metric: %s", where, query)
	}
	labels := map[string]bool{"instance": true, "job": true, "le": true}
	for _, name := range names {
		f := families[name]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base := families[strings.TrimSuffix(name, suffix)]; f == nil && base != nil && (base.kind == "histogram" || base.kind == "summary") {
				f = base
			}
		}
		if f == nil {
			if strings.HasPrefix(name, "process_") && runtime.GOOS != "linux" {
				continue // other systems have fewer process metrics
			}
			t.Errorf("%s uses the metric %s, which does not exist", where, name)
			continue
		}
		maps.Copy(labels, f.labels)
	}
	for _, match := range regexp.MustCompile(`\b(?:by|without|on|ignoring) ?\(([^)]*)\)|{([^}]*)}`).FindAllStringSubmatch(query, -1) {
		for _, name := range strings.Split(match[1], ",") {
			if name = strings.TrimSpace(name); name != "" && !labels[name] {
				t.Errorf("%s groups by the label %s, which none of its metrics has: %s", where, name, query)
			}
		}
		for _, name := range regexp.MustCompile(`(\w+)\s*(?:=|!=|=~|!~)\s*"`).FindAllStringSubmatch(match[2], -1) {
			if !labels[name[1]] {
				t.Errorf("%s selects by the label %s, which none of its metrics has: %s", where, name[1], query)
			}
		}
	}
	for value, values := range map[string][]string{
		"reason": append(textsOf(hub.CloseReasons()), textsOf(hub.RejectReasons())...), "fate": textsOf(wire.Fates()), "outcome": append(textsOf(hub.DropReasons()), "written"),
	} {
		for _, match := range regexp.MustCompile(value+`\s*(?:=|!=|=~|!~)\s*"([^"]*)"`).FindAllStringSubmatch(query, -1) {
			for _, text := range strings.Split(match[1], "|") {
				if !slices.Contains(values, text) {
					t.Errorf("%s selects the %s %q, which does not exist", where, value, text)
				}
			}
		}
	}
}

func textsOf[T fmt.Stringer](values []T) (texts []string) {
	for _, v := range values {
		texts = append(texts, v.String())
	}
	return texts
}

// TestDashboard_QueriesExist checks the queries of the Grafana dashboard.
func TestDashboard_QueriesExist(t *testing.T) {
	families := startHub(t, fullConfig()).scrape()
	var dashboard struct {
		Title  string
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ X, Y, W, H int }
			Description string
			Targets     []struct{ Expr, RefID string }
		}
	}
	if err := json.Unmarshal(readRepoFile(t, "deploy", "grafana", "go-message-hub.json"), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.Title == "" || len(dashboard.Panels) == 0 {
		t.Fatalf("dashboard %+v", dashboard)
	}
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.W == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %+v", p)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Description == "" {
			t.Errorf("panel %q has no query or no description", p.Title)
		}
		for _, target := range p.Targets {
			checkQuery(t, fmt.Sprintf("panel %q", p.Title), target.Expr, families)
		}
	}
}

// TestAlerts_QueriesExist checks the queries of the Prometheus alerts. Each alert must have a
// description, an entry in OPERATIONS.md and a test in alerts_test.yml.
func TestAlerts_QueriesExist(t *testing.T) {
	families := startHub(t, fullConfig()).scrape()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(readRepoFile(t, "deploy", "prometheus", "alerts.yml"), &file); err != nil {
		t.Fatal(err)
	}
	n := 0
	page, alertTests := string(readRepoFile(t, "docs", "OPERATIONS.md")), string(readRepoFile(t, "deploy", "prometheus", "alerts_test.yml"))
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			n++
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("alert %+v", r)
			}
			if !strings.Contains(page, "`"+r.Alert+"`") {
				t.Errorf("OPERATIONS.md does not mention %s", r.Alert)
			}
			if !regexp.MustCompile(`\b` + r.Alert + `\b`).MatchString(alertTests) {
				t.Errorf("alerts_test.yml does not test %s", r.Alert)
			}
			if r.Expr != `up{job="go-message-hub"} == 0` {
				checkQuery(t, "alert "+r.Alert, r.Expr, families)
			}
		}
	}
	if n == 0 {
		t.Error("no alerts")
	}
}
