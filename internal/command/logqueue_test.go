package command

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/internal/settings"
)

// gatedWriter is a log whose writes block until gate is closed.
type gatedWriter struct {
	gate chan struct{}         // nil: writes do not block
	err  atomic.Pointer[error] // of every write; nil: none

	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (w *gatedWriter) Write(p []byte) (int, error) {
	if w.gate != nil {
		<-w.gate
	}
	if err := w.err.Load(); err != nil {
		return 0, *err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(p)
}

// String returns the log so far.
func (w *gatedWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

func TestLogQueue_KeepsOrder(t *testing.T) {
	var w gatedWriter
	q := NewLogQueue(&w, settings.LogText)
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() { fmt.Fprintln(q, "another") })
	}
	var want strings.Builder
	for i := range 1000 {
		fmt.Fprintln(q, i)
		fmt.Fprintln(&want, i)
	}
	writers.Wait()
	q.Close(time.Minute)
	if got := strings.ReplaceAll(w.String(), "another\n", ""); got != want.String() || strings.Count(w.String(), "another") != 4 {
		t.Errorf("got %q", w.String())
	}
	if n := q.Dropped(); n != 0 {
		t.Errorf("%d lines dropped, want none", n)
	}
}

// TestLogQueue_DropsWhenFull writes more lines than fit in the queue and then unblocks the
// writer.
func TestLogQueue_DropsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := gatedWriter{gate: make(chan struct{})}
		q := NewLogQueue(&w, settings.LogJSON)
		q.maxBytes = 100
		for i := range 30 {
			fmt.Fprintf(q, "line %04d\n", i) // 10 bytes
			synctest.Wait()
		}
		fmt.Fprint(q, "\n") // fits, but must not precede the report of dropped lines
		if n := q.Dropped(); n != 21 {
			t.Errorf("%d lines dropped, want 21", n)
		}
		close(w.gate)
		synctest.Wait()
		fmt.Fprintln(q, "later")
		q.Close(time.Minute)
		lines := strings.Split(strings.TrimSpace(w.String()), "\n")
		if len(lines) != 12 || lines[0] != "line 0000" || lines[9] != "line 0009" || lines[11] != "later" ||
			!strings.Contains(lines[10], `"log lines dropped","lines":21`) {
			t.Errorf("got %q", lines)
		}
	})
}

// TestLogQueue_CountsFailedWrites has a writer that fails temporarily, as on a full disk.
func TestLogQueue_CountsFailedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w gatedWriter
		full := errors.New("disk full")
		w.err.Store(&full)
		q := NewLogQueue(&w, settings.LogText)
		for range 3 {
			fmt.Fprintln(q, "lost")
			synctest.Wait()
		}
		w.err.Store(nil)
		fmt.Fprintln(q, "lost as well, because the next line is the report")
		synctest.Wait()
		fmt.Fprintln(q, "later")
		q.Close(time.Minute)
		if got := w.String(); !strings.HasSuffix(got, "msg=\"log lines dropped\" lines=4\nlater\n") || strings.Contains(got, "lost") {
			t.Errorf("got %q", got)
		}
		if n := q.Dropped(); n != 4 {
			t.Errorf("%d lines dropped, want 4", n)
		}
	})
}

// TestLogQueue_CloseTimesOut closes a queue whose writer blocks.
func TestLogQueue_CloseTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := gatedWriter{gate: make(chan struct{})}
		q := NewLogQueue(&w, settings.LogText)
		slog.New(slog.NewTextHandler(q, nil)).Info("last words")
		began := time.Now()
		q.Close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("close took %v, want 1s", took)
		}
		fmt.Fprintln(q, "too late")
		close(w.gate)
		<-q.done
		if got := w.String(); !strings.Contains(got, "last words") || strings.Contains(got, "too late") || q.Dropped() != 1 {
			t.Errorf("got %q, %d dropped", got, q.Dropped())
		}
	})
}
