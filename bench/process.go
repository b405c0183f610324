package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process may take to come up, or to end when it is told.
const patience = 20 * time.Second

// programs are the executables under measurement, in a folder of their own.
type programs struct {
	dir string
}

// build makes the programs of this checkout, each in the module that it is in.
func build(ctx context.Context) (*programs, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/sechlol/go-message-hub").Output()
	if err != nil {
		return nil, fmt.Errorf("find the module under measurement: %w", err)
	}
	dir, err := os.MkdirTemp("", "hub-bench-")
	if err != nil {
		return nil, err
	}
	p := &programs{dir}
	for _, program := range []struct{ name, pkg, in string }{
		{"start_server", "./cmd/start_server", strings.TrimSpace(string(root))},
		{"start_simulation", "./cmd/start_simulation", strings.TrimSpace(string(root))},
		{"limit", "github.com/sechlol/go-message-hub/bench/limit", ""},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", p.path(program.name), program.pkg)
		cmd.Dir = program.in
		if out, err := cmd.CombinedOutput(); err != nil {
			p.remove()
			return nil, fmt.Errorf("build %s: %w\n%s", program.name, err, out)
		}
	}
	return p, nil
}

func (p *programs) path(name string) string { return filepath.Join(p.dir, name) }

func (p *programs) remove() { os.RemoveAll(p.dir) }

// cost is what a process took.
type cost struct {
	PeakMiB float64 `json:"peak_mib"` // resident
	CPU     float64 `json:"cpu_seconds"`
}

// hub is a running start_server.
type hub struct {
	cmd  *exec.Cmd
	port string
	log  bytes.Buffer
}

// startHub starts a hub on a free loopback port and waits until it accepts.
func startHub(ctx context.Context, p *programs, flags ...string) (*hub, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	h := &hub{port: port}
	h.cmd = exec.CommandContext(ctx, p.path("start_server"),
		append([]string{"-addr=127.0.0.1", "-port=" + port, "-stat=false"}, flags...)...)
	h.cmd.Stderr = &h.log
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return h, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			h.cmd.Process.Kill()
			h.cmd.Wait()
			return nil, fmt.Errorf("hub did not come up: %w\n%s", err, h.log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends the hub as an operator would, and returns what it took.
func (h *hub) stop() (cost, error) {
	peak, err := h.memory("VmHWM")
	if err != nil {
		return cost{}, err
	}
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return cost{}, err
	}
	late := time.AfterFunc(patience, func() { h.cmd.Process.Kill() })
	defer late.Stop()
	if err := h.cmd.Wait(); err != nil {
		return cost{}, fmt.Errorf("hub ended badly: %w\n%s", err, h.log.String())
	}
	return cost{PeakMiB: peak, CPU: cpuOf(h.cmd)}, nil
}

// memory reads a field of the hub's /proc/PID/status, in MiB: VmHWM is the peak
// of the resident memory, VmRSS what it is now.
func (h *hub) memory(field string) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of the hub: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kib / 1024, err
		}
	}
	return 0, fmt.Errorf("no %s in the status of the hub", field)
}

// simulated is what is read of a simulation's results.
type simulated struct {
	Seconds    float64 `json:"transfer_seconds"`
	Deliveries uint64  `json:"deliveries"`
	Complete   bool    `json:"complete"`
	Latency    struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_seconds"`
	CPU float64 `json:"-"`
}

// simulate runs a simulation to its end. One that is not satisfied is an error.
func simulate(ctx context.Context, p *programs, port string, s pattern) (simulated, error) {
	var result simulated
	file := filepath.Join(p.dir, "simulation.json")
	cmd := exec.CommandContext(ctx, p.path("start_simulation"), append(s.flags(),
		"-addr=127.0.0.1", "-port="+port, "-i=0", "-stat=false", "-json="+file, "-timeout=2m")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return result, fmt.Errorf("simulation: %w\n%s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return result, err
	}
	if err := json.Unmarshal(b, &result); err != nil {
		return result, err
	}
	if want := s.deliveries(); !result.Complete || result.Deliveries != want {
		return result, fmt.Errorf("simulation got %d of %d deliveries\n%s", result.Deliveries, want, out)
	}
	result.CPU = cpuOf(cmd)
	return result, nil
}

// bare is what the limit took.
type bare struct {
	seconds float64
	cpu     float64 // of both processes
}

// limit moves the bytes of a pattern through bare sockets.
func limit(ctx context.Context, p *programs, s pattern) (bare, error) {
	clients := "-clients=" + strconv.Itoa(s.clients)
	writer := exec.CommandContext(ctx, p.path("limit"), "write", clients, "-bytes="+strconv.FormatUint(s.wireBytes(), 10))
	writer.Stderr = os.Stderr
	stdout, err := writer.StdoutPipe()
	if err != nil {
		return bare{}, err
	}
	if err := writer.Start(); err != nil {
		return bare{}, err
	}
	defer writer.Process.Kill()
	lines := bufio.NewReader(stdout)
	addr, err := lines.ReadString('\n')
	if err != nil {
		return bare{}, fmt.Errorf("address of the writer: %w", err)
	}
	reader := exec.CommandContext(ctx, p.path("limit"), "read", clients, "-addr="+strings.TrimSpace(addr))
	if out, err := reader.CombinedOutput(); err != nil {
		return bare{}, fmt.Errorf("reader: %w\n%s", err, out)
	}
	var result struct {
		Seconds float64 `json:"seconds"`
		Bytes   uint64  `json:"bytes"`
	}
	b, err := io.ReadAll(lines)
	if err != nil {
		return bare{}, err
	}
	if err := json.Unmarshal(b, &result); err != nil {
		return bare{}, err
	}
	if want := uint64(s.clients) * s.wireBytes(); result.Bytes != want {
		return bare{}, fmt.Errorf("limit moved %d bytes, want %d", result.Bytes, want)
	}
	if err := writer.Wait(); err != nil {
		return bare{}, fmt.Errorf("writer: %w", err)
	}
	return bare{result.Seconds, cpuOf(writer) + cpuOf(reader)}, nil
}

// cpuOf returns the seconds of processor time that a process took that has ended.
func cpuOf(cmd *exec.Cmd) float64 {
	return (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}
