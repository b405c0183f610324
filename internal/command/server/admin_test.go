package server

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/command/programtest"
	"github.com/sechlol/go-message-hub/internal/settings"
)

const adminToken = "0123456789abcdef0123456789abcdef"

// writeTokenFile writes a token file and returns its path.
func writeTokenFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startServerWithAdmin starts a hub with an admin address. It returns the program, the port of
// the hub and the admin address.
func startServerWithAdmin(t *testing.T, args ...string) (s *programtest.Running, port, addr string) {
	t.Helper()
	s, port = startServer(t, args...)
	var event struct{ Addr string }
	line := s.WaitForLine(&s.Stderr, "admin address open")
	if err := json.Unmarshal([]byte(line), &event); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return s, port, event.Addr
}

// httpGet sends a GET request to the admin address and returns the status code and the body.
func httpGet(t *testing.T, addr, path, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	r.Close = true
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return got.StatusCode, string(body)
}

// TestCheck_ReadsAdminToken checks that -check reads the token file, which the server reads
// only later.
func TestCheck_ReadsAdminToken(t *testing.T) {
	for file, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "-admin-token-file: open ", writeTokenFile(t, "\n"): "-admin-token-file: no token in ", writeTokenFile(t, adminToken): "",
	} {
		got := programtest.Run(Run, "-check", "-admin-token-file="+file)
		if (got.Code == command.ExitOK) != (want == "") || !strings.Contains(got.Stderr, want) || strings.Contains(got.Stdout, adminToken) {
			t.Errorf("%s: %+v, want %q", file, got, want)
		}
	}
}

func TestAdmin_ServesMetricsUntilStop(t *testing.T) {
	s, port, addr := startServerWithAdmin(t, "-admin=127.0.0.1:0")
	programtest.Dial(t, port)
	if code, _ := httpGet(t, addr, "/readyz", ""); code != http.StatusOK {
		t.Errorf("/readyz: %d", code)
	}
	code, text := httpGet(t, addr, "/metrics", "")
	if code != http.StatusOK || !strings.Contains(text, "messagehub_clients 1\n") || !strings.Contains(text, "messagehub_delivery_latency_seconds_count") {
		t.Errorf("/metrics: %d %s", code, text)
	}
	if got := s.Interrupt(); got.Code != command.ExitOK {
		t.Errorf("exit code %d, stderr %s", got.Code, got.Stderr)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("the admin address is open after the hub has stopped")
	}
}

// TestAdmin_NotReadyWhileDraining queries the probes while the drain waits for a client that
// does not read.
func TestAdmin_NotReadyWhileDraining(t *testing.T) {
	s, port, addr := startServerWithAdmin(t, "-admin=127.0.0.1:0", "-drain=24h", "-stall=24h")
	stalled := dialFullQueue(t, port)
	defer stalled.Close()
	s.Signals <- os.Interrupt
	for code := 0; code != http.StatusServiceUnavailable; {
		code, _ = httpGet(t, addr, "/readyz", "") // the hub handles the signal asynchronously
	}
	if code, text := httpGet(t, addr, "/api/clients", ""); code != http.StatusOK || !strings.Contains(text, `"total":1`) {
		t.Errorf("connected clients: %d %s", code, text)
	}
	if code, _ := httpGet(t, addr, "/healthz", ""); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
	s.Interrupt()
}

func TestAdmin_TokenRequired(t *testing.T) {
	_, _, addr := startServerWithAdmin(t, "-admin=0.0.0.0:0", "-admin-token-file="+writeTokenFile(t, adminToken+"\n"))
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	addr = net.JoinHostPort("127.0.0.1", port)
	if code, _ := httpGet(t, addr, "/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("without the token: %d", code)
	}
	if code, text := httpGet(t, addr, "/metrics", adminToken); code != http.StatusOK {
		t.Errorf("with the token: %d %s", code, text)
	}
}

// TestAdmin_DefaultAddressInUse starts a hub whose default admin address is in use, and one
// whose explicit address is in use.
func TestAdmin_DefaultAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := newConfig()
	c.admin.addr = ln.Addr().String() // in place of the default
	var stderr programtest.Output
	s := &program{config: c, logger: settings.NewLogger(&stderr, settings.LogText, slog.LevelInfo)}
	a, err := s.openAdmin(nil, new(liveness))
	if a != nil || err != nil {
		t.Errorf("got %v, %v", a, err)
	}
	if !strings.Contains(stderr.String(), "without an admin address") || !strings.Contains(stderr.String(), "-admin=off") {
		t.Errorf("the warning does not say what to do: %s", &stderr)
	}

	got := programtest.Run(Run, "-addr=127.0.0.1", "-port=0", "-admin="+ln.Addr().String())
	if got.Code != command.ExitFailure || strings.Count(got.Stderr, "\n") != 1 || !strings.Contains(got.Stderr, ln.Addr().String()) || !strings.Contains(got.Stderr, "-admin") {
		t.Errorf("explicit address: exit code %d, stderr %s", got.Code, got.Stderr)
	}
}

func TestAdmin_InvalidAddresses(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"open to others": {[]string{"-admin=0.0.0.0:0"}, []string{"other machines", "-admin-token-file"}},
		"all interfaces": {[]string{"-admin=:0"}, []string{"other machines", "-admin-token-file"}},
		"short token":    {[]string{"-admin=127.0.0.1:0", "-admin-token-file=" + writeTokenFile(t, "short")}, []string{"5 characters", "openssl"}},
		"empty token":    {[]string{"-admin=127.0.0.1:0", "-admin-token-file=" + writeTokenFile(t, " \n")}, []string{"empty", "openssl"}},
		"huge token":     {[]string{"-admin=127.0.0.1:0", "-admin-token-file=" + writeTokenFile(t, strings.Repeat("x", 1<<20))}, []string{"4096 bytes", "openssl"}},
		"no token file":  {[]string{"-admin=127.0.0.1:0", "-admin-token-file=/no/such/file"}, []string{"/no/such/file", "openssl"}},
		// 192.0.2.1 is reserved for documentation.
		"not this machine": {[]string{"-admin=192.0.2.1:0"}, []string{"192.0.2.1", "-admin=off"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := programtest.Run(Run, append([]string{"-addr=127.0.0.1", "-port=0"}, tt.args...)...)
			if got.Code != command.ExitFailure || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 {
				t.Errorf("exit code %d, stdout %q, stderr %s", got.Code, got.Stdout, got.Stderr)
			}
			for _, want := range tt.want {
				if !strings.Contains(got.Stderr, want) {
					t.Errorf("%q is missing in: %s", want, got.Stderr)
				}
			}
		})
	}
}

func TestAdmin_Off(t *testing.T) {
	for _, arg := range []string{"-admin=off", "-admin="} {
		if c := parseServerFlags(t, arg); c.admin.addr != "" {
			t.Errorf("%s: %q", arg, c.admin.addr)
		}
		s, _ := startServer(t, arg)
		if got := s.Interrupt(); strings.Contains(got.Stderr, "admin") {
			t.Errorf("%s: %s", arg, got.Stderr)
		}
	}
	t.Setenv("HUB_ADMIN", "off")
	if c := parseServerFlags(t); c.admin.addr != "" {
		t.Errorf("HUB_ADMIN=off: %q", c.admin.addr)
	}
	for _, wrong := range []string{"localhost", "9990", "localhost:http", "localhost:65536", "::1:9990"} {
		programtest.CheckUsageError(t, programtest.Run(Run, "-admin="+wrong), "start_server: -admin="+wrong+": allowed are addresses with a port")
	}
}
