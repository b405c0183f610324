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

// listen returns the manager's end of a socket with this name and sets NOTIFY_SOCKET to the
// name.
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

// receive returns the next datagram.
func receive(t *testing.T, conn *net.UnixConn) string {
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

func TestManager_ReadyAndStopping(t *testing.T) {
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
			if got := receive(t, conn); got != tt.want {
				t.Errorf("%s: sent %q, want %q", name, got, tt.want)
			}
		}
	}
}

// TestManager_ReloadingSendsMonotonicTime checks the time that systemd compares with the time
// of its reload signal (Type=notify-reload).
func TestManager_ReloadingSendsMonotonicTime(t *testing.T) {
	conn := listen(t, filepath.Join(t.TempDir(), "notify"))
	before, err := monotonic()
	if err != nil {
		t.Fatal(err)
	}
	if err := fromEnvironment(t).Reloading(); err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(receive(t, conn), "RELOADING=1\nMONOTONIC_USEC=")
	when, err := strconv.ParseInt(text, 10, 64)
	if delay := time.Duration(when)*time.Microsecond - before; !ok || err != nil || delay < -time.Microsecond || delay > time.Minute {
		t.Errorf("%q is %v after %v: %v", text, delay, before, err)
	}
}

func TestRunWatchdog_PingsWhileAlive(t *testing.T) {
	conn := listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "10000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := fromEnvironment(t)
	ctx, cancel := context.WithCancel(t.Context())
	calls, done := 0, make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		m.RunWatchdog(ctx, func() error {
			if calls++; calls%2 == 0 {
				return errors.New("not now")
			}
			return nil
		})
	}()
	const pings = 3
	for range pings {
		if got := receive(t, conn); got != "WATCHDOG=1" {
			t.Errorf("sent %q, want WATCHDOG=1", got)
		}
	}
	cancel()
	<-done
	if calls < 2*pings-1 {
		t.Errorf("alive was called %d times for %d pings", calls, pings)
	}
}

func TestRunWatchdog_NoPingsWithoutWatchdog(t *testing.T) {
	listen(t, filepath.Join(t.TempDir(), "notify"))
	for _, pid := range []string{"", "1"} { // no pings requested; pings requested from another process
		t.Setenv("WATCHDOG_PID", pid)
		if pid != "" {
			t.Setenv("WATCHDOG_USEC", "1000")
		}
		fromEnvironment(t).RunWatchdog(t.Context(), func() error { t.Error("alive was called"); return nil })
	}
}

func TestManager_Nil(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m := fromEnvironment(t)
	m.RunWatchdog(t.Context(), nil)
	if err := errors.Join(m.Ready(""), m.Reloading(), m.Stopping(0)); m != nil || err != nil {
		t.Errorf("%v, %v", m, err)
	}
}

func TestManager_SocketClosed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	listen(t, name).Close()
	t.Setenv("WATCHDOG_USEC", "2000")
	m := fromEnvironment(t)
	if err := m.Ready(""); err == nil {
		t.Error("Ready on a closed socket returned no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	m.RunWatchdog(ctx, func() error {
		if calls++; calls == 3 {
			cancel()
		}
		return nil
	})
	if calls != 3 {
		t.Errorf("stopped after %d pings, want 3", calls)
	}
}

func TestFromEnvironment_Invalid(t *testing.T) {
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
