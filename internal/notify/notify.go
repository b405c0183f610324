// Package notify tells the service manager that has started this process how it
// fares: that it is ready, reloads, ends, and is alive. The protocol is that of
// systemd (sd_notify(3)): one datagram for each state, to the socket that the
// environment names.
//
// It knows nothing of hubs, and stands beside the way of a message. The library that there
// is for this, go-systemd, would be a module more for a page of code, and does not say when a
// reload began, which systemd wants to know.
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

// writeTimeout is how long a manager may take to have room for a datagram. It is there
// for a whole machine, so that it may be busy; and nobody's end is to wait for it.
const writeTimeout = time.Second

// Manager is a service manager. Nil is none, to which everything can be told. All
// methods may be called concurrently.
type Manager struct {
	socket   net.UnixAddr
	watchdog time.Duration
}

// FromEnvironment returns the service manager that NOTIFY_SOCKET names, nil when it
// names none, or an error when what it names is no socket that this package can reach.
func FromEnvironment() (*Manager, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	switch {
	case name == "":
		return nil, nil
	case name[0] != '/' && name[0] != '@': // a socket of the kernel's own namespace begins with @
		return nil, fmt.Errorf("notify: NOTIFY_SOCKET=%s is neither a path nor an abstract socket", name)
	}
	watchdog, err := watchdogFromEnvironment()
	if err != nil {
		return nil, err
	}
	return &Manager{net.UnixAddr{Name: name, Net: "unixgram"}, watchdog}, nil
}

// watchdogFromEnvironment returns after what time without a ping the manager takes
// this process for dead, and 0 when it does not ask for pings.
func watchdogFromEnvironment() (time.Duration, error) {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0, nil // another process is meant, which has left us its environment
	}
	text := os.Getenv("WATCHDOG_USEC")
	if text == "" {
		return 0, nil
	}
	us, err := strconv.ParseInt(text, 10, 64)
	if err != nil || us <= 0 || us > int64(time.Duration(1<<63-1)/time.Microsecond) {
		return 0, fmt.Errorf("notify: WATCHDOG_USEC=%s is no number of microseconds", text)
	}
	return time.Duration(us) * time.Microsecond, nil
}

// Ready says that the process does its work, for the first time or after Reloading.
func (m *Manager) Ready(status string) error { return m.send("READY=1", "STATUS="+status) }

// Reloading says that the process reads its configuration again. Ready must follow.
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

// Stopping says that the process winds up, and how long that may take: so long the
// manager must not kill it, whatever its own settings say.
func (m *Manager) Stopping(timeout time.Duration) error {
	return m.send("STOPPING=1", "EXTEND_TIMEOUT_USEC="+microseconds(timeout))
}

// RunWatchdog pings the manager, twice in the time that it gives, as long as alive returns nil.
// After an error there is no ping, but the next question; a process that hangs in alive says
// nothing more, and is started anew. A ping that cannot be sent is not the last: the
// manager may be starting anew itself. Watch returns when ctx ends, or at once if nobody
// asks for pings.
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

// send sends one datagram.
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
