// Package notify tells the service manager that has started this process about the state of
// the process: ready, reloading, stopping, and alive. It implements the protocol of systemd
// (sd_notify(3)): one datagram per state, to the socket that the environment names.
//
// It knows nothing about hubs and is not on the path of a message. The existing library,
// go-systemd, would add a module to replace one page of code, and does not send the time at
// which a reload began, which systemd requires.
package notify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// writeTimeout is how long the write of a datagram can block. The manager serves the whole
// machine and can be busy, but the shutdown of the process must not wait for it longer.
const writeTimeout = time.Second

// Manager is a service manager. A nil Manager is valid: its methods do nothing. All methods
// can be called concurrently.
type Manager struct {
	socket   net.UnixAddr
	watchdog time.Duration
}

// FromEnvironment returns the service manager that NOTIFY_SOCKET names. It returns nil if
// NOTIFY_SOCKET is empty, and an error if its value is not the address of a supported socket.
func FromEnvironment() (*Manager, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	switch {
	case name == "":
		return nil, nil
	case name[0] != '/' && name[0] != '@': // an abstract socket begins with @
		return nil, fmt.Errorf("notify: NOTIFY_SOCKET=%s is neither a path nor an abstract socket", name)
	}
	watchdog, err := watchdogFromEnvironment()
	if err != nil {
		return nil, err
	}
	return &Manager{net.UnixAddr{Name: name, Net: "unixgram"}, watchdog}, nil
}

// watchdogFromEnvironment returns the time without a ping after which the manager considers
// this process dead, or 0 if the manager does not request pings.
func watchdogFromEnvironment() (time.Duration, error) {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil // the variables are meant for another process and were inherited
	}
	text := os.Getenv("WATCHDOG_USEC")
	if text == "" {
		return 0, nil
	}
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil || us <= 0 || us > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0, fmt.Errorf("notify: WATCHDOG_USEC=%s is not a number of microseconds", text)
	}
	return time.Duration(us) * time.Microsecond, nil
}

// Ready tells the manager that the process is ready, for the first time or after Reloading.
func (m *Manager) Ready(status string) error { return m.send("READY=1", "STATUS="+status) }

// Reloading tells the manager that the process reloads its configuration. The caller must call
// Ready afterwards.
func (m *Manager) Reloading() error {
	if m == nil {
		return nil
	}
	now, err := monotonic()
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return m.send("RELOADING=1", "MONOTONIC_USEC="+microseconds(now))
}

// Stopping tells the manager that the process shuts down, and how long that can take. The
// manager does not kill the process before that time, even if its settings name a shorter timeout.
func (m *Manager) Stopping(timeout time.Duration) error {
	return m.send("STOPPING=1", "EXTEND_TIMEOUT_USEC="+microseconds(timeout))
}

// RunWatchdog pings the manager twice per watchdog interval while alive returns nil. If alive
// returns an error, RunWatchdog skips the ping and calls alive again at the next tick. If
// alive blocks, the pings stop and the manager restarts the process. RunWatchdog ignores a
// ping that cannot be sent because the manager itself can be restarting. RunWatchdog returns
// when ctx ends, or at once if the manager does not request pings.
func (m *Manager) RunWatchdog(ctx context.Context, alive func() error) {
	if m == nil || m.watchdog == 0 {
		return
	}
	tick := time.NewTicker(max(m.watchdog/2, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if alive() == nil {
			_ = m.send("WATCHDOG=1")
		}
	}
}

// send sends lines as one datagram.
func (m *Manager) send(lines ...string) error {
	if m == nil {
		return nil
	}
	conn, err := net.DialUnix(m.socket.Net, nil, &m.socket)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

func microseconds(d time.Duration) string { return strconv.FormatInt(d.Microseconds(), 10) }
