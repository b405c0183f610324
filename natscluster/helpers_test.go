package natscluster

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sechlol/go-message-hub/internal/cluster"
	"github.com/sechlol/go-message-hub/internal/cluster/lease"
	"github.com/sechlol/go-message-hub/internal/natsserver"
)

// testTimeout is the time limit of anything that a test waits for.
const testTimeout = 30 * time.Second

// startNATS starts a server that ends with the test.
func startNATS(t *testing.T, modify func(*server.Options)) *server.Server {
	t.Helper()
	return startNATSIn(t, t.TempDir(), modify)
}

func startNATSIn(t *testing.T, dir string, modify func(*server.Options)) *server.Server {
	t.Helper()
	s, err := natsserver.Start(dir, modify)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNATS(s) })
	return s
}

func stopNATS(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}

// testConfig is the configuration of a hub at a server, whose log goes to a logRecorder.
func testConfig(s *server.Server) Config {
	return Config{URLs: []string{s.ClientURL()}, Name: "test", HubName: "hub-1", Logger: slog.New(new(logRecorder))}
}

// logs returns the recorder of testConfig.
func logs(config Config) *logRecorder { return config.Logger.Handler().(*logRecorder) }

// testContext returns a context that ends with the test, or after testTimeout.
func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// join joins a cluster until the test ends.
func join(t *testing.T, config Config) *Cluster {
	t.Helper()
	c, err := Join(testContext(t), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// testJetStream returns JetStream as the user of a hub.
func testJetStream(t *testing.T, c *Cluster) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(c.session.Load().nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// readLease returns the lease of a hub, as c reads it. The error is lease.ErrNotFound if the hub
// has none.
func readLease(ctx context.Context, c *Cluster, n cluster.Node) (info lease.Info, err error) {
	value, _, err := kvStore{c, func(b *buckets) jetstream.KeyValue { return b.leases }}.Get(ctx, lease.Key(n))
	if err == nil {
		err = json.Unmarshal(value, &info)
	}
	return info, err
}

// joinWithRetry joins a cluster whose NATS has a problem, which correct corrects once Join has
// told of it, with an error that contains text, and with this advice.
func joinWithRetry(t *testing.T, config Config, text, advice string, correct func()) *Cluster {
	t.Helper()
	told := make(chan error, 1000)
	config.OnRetry = func(err error) { told <- err }
	joined := make(chan *Cluster, 1)
	ctx := testContext(t)
	go func() { // ends with Join, which ctx ends
		defer close(told)
		c, err := Join(ctx, config)
		if err != nil {
			t.Error(err)
		}
		joined <- c
	}()
	found := false
	for err := range told {
		if found = strings.Contains(err.Error(), text); found {
			break
		}
		t.Logf("another reason: %v", err)
	}
	if !found {
		t.FailNow()
	}
	line := logs(config).waitFor(t, "not connected to the cluster, trying again")
	if !strings.Contains(line, text) || !strings.Contains(line, "advice="+advice) {
		t.Errorf("the log says %q, want %q and the advice %q", line, text, advice)
	}
	correct()
	c := <-joined
	if c == nil {
		t.FailNow()
	}
	t.Cleanup(c.Close)
	return c
}

// receiveFrames has the frames of a carrier sent to a channel.
func receiveFrames(c cluster.Carrier) <-chan string {
	frames := make(chan string, 1000)
	c.Receive(func(frame []byte) { frames <- string(frame) })
	return frames
}

// next returns the next value of a channel.
func next[T any](t *testing.T, values <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-values:
	case <-time.After(testTimeout):
		t.Fatal("nothing has arrived")
	}
	return value
}

// logRecorder is a slog.Handler that keeps the lines. Tests wait for them.
type logRecorder struct {
	mu      sync.Mutex
	lines   []string
	arrived chan struct{} // closed with the next line; nil: nobody waits
}

func (r *logRecorder) Enabled(context.Context, slog.Level) bool { return true }
func (r *logRecorder) WithAttrs([]slog.Attr) slog.Handler       { return r }
func (r *logRecorder) WithGroup(string) slog.Handler            { return r }

func (r *logRecorder) Handle(_ context.Context, record slog.Record) error {
	line := fmt.Sprintf("%s %s", record.Level, record.Message)
	record.Attrs(func(a slog.Attr) bool { line += fmt.Sprintf(" %s=%v", a.Key, a.Value); return true })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
	if r.arrived != nil {
		close(r.arrived)
		r.arrived = nil
	}
	return nil
}

// find returns the first line that contains text, or "" and a channel that is closed with the
// next line.
func (r *logRecorder) find(text string) (string, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, text) {
			return line, nil
		}
	}
	if r.arrived == nil {
		r.arrived = make(chan struct{})
	}
	return "", r.arrived
}

// waitFor waits for a line that contains text, and returns it.
func (r *logRecorder) waitFor(t *testing.T, text string) string {
	t.Helper()
	timeout := time.After(testTimeout)
	for {
		line, arrived := r.find(text)
		if line != "" {
			return line
		}
		select {
		case <-arrived:
		case <-timeout:
			t.Fatalf("no line with %q in %q", text, r.lines)
		}
	}
}

// count returns the number of lines that contain text.
func (r *logRecorder) count(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}
