package admin

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxConsoleBytes is the maximum size of the page with its script, style and icon, compressed.
const maxConsoleBytes = 45_000

// TestConsole_Size checks the size of what a browser loads for the page.
func TestConsole_Size(t *testing.T) {
	s := startHub(t, Config{Token: token})
	total := 0
	for _, name := range []string{"", "console.js", "console.css", "icon.svg"} {
		r := s.do(http.MethodGet, consolePath+name, newHeader("Accept-Encoding", "gzip, deflate, br"))
		if r.code != http.StatusOK || r.header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%q: %d %v", name, r.code, r.header)
		}
		total += len(r.body)
	}
	t.Logf("%d bytes", total)
	if total > maxConsoleBytes {
		t.Errorf("the console has %d bytes, at most %d are allowed", total, maxConsoleBytes)
	}
}

// TestConsole_Headers checks the policy of every file: it allows nothing from another host, no
// inline script or style and no eval, and the files name no other host.
func TestConsole_Headers(t *testing.T) {
	s := startHub(t, Config{Token: token})
	types := map[string]string{
		"": "text/html", "index.html": "text/html", "runbooks.html": "text/html", "console.js": "text/javascript",
		"console.css": "text/css", "icon.svg": "image/svg+xml", "licenses.txt": "text/plain",
	}
	if len(types) != len(loadConsole())+1 {
		t.Errorf("the console has %d files", len(loadConsole()))
	}
	for name, kind := range types {
		r := s.do(http.MethodGet, consolePath+name, nil)
		policy := r.header.Get("Content-Security-Policy")
		if r.code != http.StatusOK || r.header.Get("Content-Type") != kind+"; charset=utf-8" || r.header.Get("X-Content-Type-Options") != "nosniff" || r.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%q: %d %v", name, r.code, r.header)
		}
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%q: the policy lacks %s: %s", name, want, policy)
			}
		}
		if sources := regexp.MustCompile(`unsafe|http|\*|data:|blob:`).FindString(policy); sources != "" {
			t.Errorf("%q: the policy allows %s: %s", name, sources, policy)
		}
		if kind == "text/html" {
			checkPage(t, name, r.body)
		}
	}
	for _, name := range []string{"console.js", "console.css"} {
		for _, match := range regexp.MustCompile(`(?i)https?://[\w.]+|\beval\(|new Function|@import`).FindAll(loadConsole()[name].content, -1) {
			if text := string(match); text != "http://www.w3.org" { // the names of SVG and MathML
				t.Errorf("%s contains %s", name, text)
			}
		}
	}
}

// checkPage checks that a page loads only files of the console and has no inline script or style.
func checkPage(t *testing.T, name string, page []byte) {
	t.Helper()
	for _, match := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(page, -1) {
		if target := string(match[1]); !strings.HasPrefix(target, "#") && loadConsole()[target].content == nil {
			t.Errorf("%q refers to %s", name, target)
		}
	}
	if match := regexp.MustCompile(`(?i)<style|<script(?: [^>]*)?>[^<]|\bon\w+=|\bstyle=`).Find(page); match != nil {
		t.Errorf("%q contains %s", name, match)
	}
}

// TestConsole_WithoutToken checks that the files need no token, on any host, and that nothing else
// below their path is answered without one.
func TestConsole_WithoutToken(t *testing.T) {
	s := startHub(t, Config{Token: token})
	link := http.Header{"Sec-Fetch-Site": {"cross-site"}, "Host": {"hub.example:9990"}} // a link on another page
	for name := range loadConsole() {
		if r := s.do(http.MethodGet, consolePath+name, link); r.code != http.StatusOK || !bytes.Equal(r.body, loadConsole()[name].content) {
			t.Errorf("%s: %d", name, r.code)
		}
	}
	if r := s.do(http.MethodGet, "/console", link); r.code != http.StatusPermanentRedirect || r.header.Get("Location") != "/console/" {
		t.Errorf("/console: %d %v", r.code, r.header)
	}
	header := newHeader("Host", "hub.example:9990")
	for _, path := range []string{"/console/nothing", "/console/../api/clients", "/console//api/clients", "/console/%2e%2e/api/clients", "/console/console.js/", "/consol", "/console/index.html/../../api/summary"} {
		s.wantError(s.do(http.MethodGet, path, header), http.StatusUnauthorized)
	}
}

func TestConsole_Gzip(t *testing.T) {
	s := startHub(t, Config{})
	want := loadConsole()["console.js"].content
	for accept, compressed := range map[string]bool{"": false, "gzip": true, "br, GZIP": true, "deflate": false, "gzip;q=0": false, "xgzip": false} {
		r := s.do(http.MethodGet, "/console/console.js", newHeader("Accept-Encoding", accept))
		got := r.body
		if compressed {
			reader, err := gzip.NewReader(bytes.NewReader(r.body))
			if err != nil {
				t.Fatalf("%q: %v", accept, err)
			}
			if got, err = io.ReadAll(reader); err != nil {
				t.Fatalf("%q: %v", accept, err)
			}
		}
		if isCompressed := r.header.Get("Content-Encoding") == "gzip"; isCompressed != compressed || !bytes.Equal(got, want) || r.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: compressed %t, %d bytes", accept, isCompressed, len(got))
		}
	}
}

// TestConsole_AlertsMatchRules compares the alerts of the console with those for Prometheus.
func TestConsole_AlertsMatchRules(t *testing.T) {
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				For         time.Duration
				Labels      map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(readRepoFile(t, "deploy", "prometheus", "alerts.yml"), &rules); err != nil {
		t.Fatal(err)
	}
	var alerts map[string]struct {
		Severity   string
		For, Limit float64
	}
	if err := json.Unmarshal(readRepoFile(t, "js", "console", "src", "alerts.json"), &alerts); err != nil {
		t.Fatal(err)
	}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			alert, ok := alerts[rule.Alert]
			if delete(alerts, rule.Alert); !ok || alert.Severity != rule.Labels["severity"] || alert.For != rule.For.Seconds() {
				t.Errorf("%s: %+v, want %s for %v", rule.Alert, alert, rule.Labels["severity"], rule.For)
			}
			if limits := limitsIn(t, rule.Expr); !limits[alert.Limit] {
				t.Errorf("%s: the limit is %v, the rule compares with %v: %s", rule.Alert, alert.Limit, limits, rule.Expr)
			}
			if !bytes.Contains(loadConsole()["console.js"].content, []byte(rule.Alert)) {
				t.Errorf("the console does not contain %s: run js/console/build.sh", rule.Alert)
			}
		}
	}
	if len(alerts) > 0 {
		t.Errorf("without a rule: %v", alerts)
	}
}

// limitsIn returns the numbers that a rule compares with. A number can be a product.
func limitsIn(t *testing.T, expr string) map[float64]bool {
	t.Helper()
	limits := make(map[float64]bool)
	for _, match := range regexp.MustCompile(`(?:==|[<>]=?) *([\d.]+(?: \* [\d.]+)*)`).FindAllStringSubmatch(expr, -1) {
		product := 1.0
		for factor := range strings.SplitSeq(match[1], " * ") {
			n, err := strconv.ParseFloat(factor, 64)
			if err != nil {
				t.Fatal(err)
			}
			product *= n
		}
		limits[product] = true
	}
	return limits
}

// TestConsole_RunbooksAreCurrent checks that the page of the runbooks was built from the current
// docs/OPERATIONS.md.
func TestConsole_RunbooksAreCurrent(t *testing.T) {
	operations := string(readRepoFile(t, "docs", "OPERATIONS.md"))
	section := func(heading, next string) string {
		_, text, ok := strings.Cut(operations, "\n"+heading+"\n")
		if !ok {
			t.Fatalf("docs/OPERATIONS.md has no %q", heading)
		}
		text, _, _ = strings.Cut(text, "\n"+next+" ")
		return heading + "\n" + text + "\n"
	}
	hash := sha256.Sum256([]byte(section("## Runbooks", "##") + section("### Alerts", "##")))
	if want := fmt.Sprintf("sha256:%x", hash); !bytes.Contains(loadConsole()["runbooks.html"].content, []byte(want)) {
		t.Errorf("the runbooks of the console are those of an earlier docs/OPERATIONS.md, want %s: run js/console/build.sh", want)
	}
}
