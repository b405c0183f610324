package notify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// listen returns a manager's end of the socket of a name, and sets the environment for it.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

// hear returns the next datagram.
func hear(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var datagram [512]byte
	n, err := conn.Read(datagram[:])
	if err != nil {
		t.Fatal(err)
	}
	return string(datagram[:n])
}

func fromEnvironment(t *testing.T) *Manager {
	t.Helper()
	m, err := FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStates(t *testing.T) {
	abstract := "@go-message-hub-" + strconv.Itoa(os.Getpid())
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), abstract} {
		conn := listen(t, name)
		m := fromEnvironment(t)
		for _, tt := range []struct {
			tell func() error
			want string
		}{
			{func() error { return m.Ready("serving") }, "READY=1\nSTATUS=serving"},
			{func() error { return m.Stopping(1500 * time.Millisecond) }, "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000"},
		} {
			if err := tt.tell(); err != nil {
				t.Fatal(err)
			}
			if got := hear(t, conn); got != tt.want {
				t.Errorf("%s: told %q, want %q", name, got, tt.want)
			}
		}
	}
}

// TestReloadingSaysWhen is what notify-reload compares with the time of its signal.
func TestReloadingSaysWhen(t *testing.T) {
	conn := listen(t, filepath.Join(t.TempDir(), "notify"))
	before, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	if err := fromEnvironment(t).Reloading(); err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(hear(t, conn), "RELOADING=1\nMONOTONIC_USEC=")
	when, err := strconv.ParseInt(text, 10, 64)
	if late := time.Duration(when)*time.Microsecond - before; !ok || err != nil || late < -time.Microsecond || late > time.Minute {
		t.Errorf("%q is %v after %v: %v", text, late, before, err)
	}
}

func TestWatchPingsWhileAlive(t *testing.T) {
	conn := listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "10000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := fromEnvironment(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked, ended := 0, make(chan struct{})
	go func() { // ends with ctx
		defer close(ended)
		m.Watch(ctx, func() error {
			if asked++; asked%2 == 0 {
				return errors.New("not now")
			}
			return nil
		})
	}()
	const pings = 3
	for range pings {
		if got := hear(t, conn); got != "WATCHDOG=1" {
			t.Errorf("told %q", got)
		}
	}
	cancel()
	<-ended
	if asked < 2*pings-1 {
		t.Errorf("%d questions for %d pings", asked, pings)
	}
}

func TestWithoutWatchdogThereAreNoPings(t *testing.T) {
	listen(t, filepath.Join(t.TempDir(), "notify"))
	for _, pid := range []string{"", "1"} { // none asked for, or of another process
		t.Setenv("WATCHDOG_PID", pid)
		if pid != "" {
			t.Setenv("WATCHDOG_USEC", "1000")
		}
		fromEnvironment(t).Watch(t.Context(), func() error { t.Error("asked"); return nil })
	}
}

func TestNoManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m := fromEnvironment(t)
	m.Watch(t.Context(), nil)
	if err := errors.Join(m.Ready(""), m.Reloading(), m.Stopping(0)); m != nil || err != nil {
		t.Errorf("%v, %v", m, err)
	}
}

func TestManagerThatIsGone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	listen(t, name).Close()
	t.Setenv("WATCHDOG_USEC", "2000")
	m := fromEnvironment(t)
	if err := m.Ready(""); err == nil {
		t.Error("told to nobody without an error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	asked := 0
	m.Watch(ctx, func() error {
		if asked++; asked == 3 {
			cancel()
		}
		return nil
	})
	if asked != 3 {
		t.Errorf("given up after %d pings", asked)
	}
}

func TestWrongEnvironment(t *testing.T) {
	for _, tt := range []struct{ socket, watchdog string }{
		{"vsock:2:1234", ""}, {"relative", ""}, {"/run/notify", "soon"}, {"/run/notify", "0"}, {"/run/notify", "9223372036854775807"},
	} {
		t.Setenv("NOTIFY_SOCKET", tt.socket)
		t.Setenv("WATCHDOG_USEC", tt.watchdog)
		if m, err := FromEnvironment(); err == nil {
			t.Errorf("%v: no error, %v", tt, m)
		}
	}
}
