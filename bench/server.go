package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// waitTimeout is how long a process can take to start listening, or to end after SIGTERM.
const waitTimeout = 20 * time.Second

// usage is the resources that a process used.
type usage struct {
	PeakMiB float64 `json:"peak_mib"` // peak of the resident memory
	CPU     float64 `json:"cpu_seconds"`
}

// server is a running server of any system, in its own process.
type server struct {
	name    string
	addr    string // host:port
	webAddr string // of WebSockets, of a server that has another address for them
	cmd     *exec.Cmd
	log     bytes.Buffer
	exited  chan struct{} // closed when the process has ended
	err     error         // result of Wait; set before exited is closed
}

// startProcess starts a server that listens at addr, and waits until it listens.
func startProcess(ctx context.Context, name, addr, path string, args ...string) (*server, error) {
	s := &server{name: name, addr: addr, exited: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, path, args...)
	s.cmd.Stderr, s.cmd.Stdout = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.monitorExit()
	for end := time.Now().Add(waitTimeout); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-s.exited:
			return nil, fmt.Errorf("%s did not start: %w\n%s", name, s.err, s.log.String())
		default:
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return s, nil
		}
	}
	s.kill()
	return nil, fmt.Errorf("%s did not listen at %s within %v\n%s", name, addr, waitTimeout, s.log.String())
}

// monitorExit waits for the process in a goroutine, and records how it ended.
func (s *server) monitorExit() {
	go func() { // ends with the process
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
}

// stop ends the server with SIGTERM and returns its usage.
func (s *server) stop() (usage, error) {
	peak, err := s.memoryMiB("VmHWM")
	if err != nil {
		s.kill()
		return usage{}, fmt.Errorf("%w\n%s", err, s.log.String())
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return usage{}, err
	}
	killTimer := time.AfterFunc(waitTimeout, func() { s.cmd.Process.Kill() })
	defer killTimer.Stop()
	<-s.exited
	if s.err != nil {
		return usage{}, fmt.Errorf("%s ended with an error: %w\n%s", s.name, s.err, s.log.String())
	}
	return usage{PeakMiB: peak, CPU: processCPUSeconds(s.cmd)}, nil
}

// kill ends the server with SIGKILL.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// memoryMiB reads a field of the server's /proc/PID/status, in MiB. VmHWM is the peak of the
// resident memory, VmRSS its current value.
func (s *server) memoryMiB(field string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", s.name, err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of %s: it has ended", field, s.name)
}

// stableMemoryMiB returns the resident memory when it has not grown for a second.
func (s *server) stableMemoryMiB(ctx context.Context) (float64, error) {
	last := 0.0
	for ctx.Err() == nil {
		now, err := s.memoryMiB("VmRSS")
		if err != nil || now <= last {
			return now, err
		}
		last = now
		time.Sleep(time.Second)
	}
	return 0, ctx.Err()
}

// ticksPerSecond is the unit of the times in /proc/PID/stat: sysconf(_SC_CLK_TCK), which is
// 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// cpuSeconds returns the processor time of the server until now, in seconds. It reads fields
// 14 and 15 of /proc/PID/stat, which are the 12th and 13th field after the name in
// parentheses.
func (s *server) cpuSeconds() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", s.name, err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const userField, systemField = 11, 12
	if len(fields) <= systemField {
		return 0, fmt.Errorf("processor time of %s: %d fields", s.name, len(fields))
	}
	ticks := 0.0
	for _, i := range []int{userField, systemField} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return ticks / ticksPerSecond, nil
}

// processCPUSeconds returns the processor time of a process that has ended, in seconds.
func processCPUSeconds(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

// freeAddr returns a loopback address with a free port.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// portOf returns the port of an address that freeAddr returned.
func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}
