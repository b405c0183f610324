package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
)

// loadProcess is a running load program.
type loadProcess struct {
	cmd    *exec.Cmd
	output *bufio.Reader
	stderr bytes.Buffer
}

// startLoad starts the load program in a mode.
func startLoad(ctx context.Context, p *programs, mode, system, addr string, args ...string) (*loadProcess, error) {
	return startLoadCommand(exec.CommandContext(ctx, p.path("load"), append([]string{mode, "-system=" + system, "-addr=" + addr}, args...)...))
}

// startLoadCommand starts the load program with the command cmd.
func startLoadCommand(cmd *exec.Cmd) (*loadProcess, error) {
	l := &loadProcess{cmd: cmd}
	l.cmd.Stderr = &l.stderr
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.output = bufio.NewReader(stdout)
	if err := l.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	return l, nil
}

// waitUntilMoving waits for the line by which the load program reports that its clients are
// connected.
func (l *loadProcess) waitUntilMoving() error {
	if line, err := l.output.ReadString('\n'); err != nil || line != "moving\n" {
		l.kill()
		return fmt.Errorf("load printed %q: %w\n%s", line, err, l.stderr.String())
	}
	return nil
}

// during calls measure while the clients of the load are connected. It returns the result of
// measure and that of the load. When measure fails, it kills the load.
func (l *loadProcess) during(measure func() (*measurement, error)) (m, load *measurement, err error) {
	if err := l.waitUntilMoving(); err != nil {
		return nil, nil, err
	}
	if m, err = measure(); err != nil {
		l.kill()
		return nil, nil, err
	}
	load, err = l.finish()
	return m, load, err
}

func (l *loadProcess) kill() {
	l.cmd.Process.Kill()
	l.cmd.Wait()
}

// runLoad runs a mode that prints only its result, to its end.
func runLoad(ctx context.Context, p *programs, mode, system, addr string, args ...string) (*measurement, error) {
	l, err := startLoad(ctx, p, mode, system, addr, args...)
	if err != nil {
		return nil, err
	}
	return l.finish()
}

// runMove runs a move on a server to its end, and validates the result.
func runMove(ctx context.Context, p *programs, s *server, flags ...string) (*measurement, error) {
	l, err := startLoad(ctx, p, "move", s.name, s.addr, flags...)
	if err != nil {
		return nil, err
	}
	if err := l.waitUntilMoving(); err != nil {
		return nil, err
	}
	m, err := l.finish()
	if err != nil {
		return nil, err
	}
	return m, m.validate(s.name)
}

// finish waits for the process to end and parses its result, whose JSON keys are those of
// measurement.
func (l *loadProcess) finish() (*measurement, error) {
	b, readErr := io.ReadAll(l.output)
	if err := l.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("load: %w\n%s", err, l.stderr.String())
	}
	if readErr != nil {
		return nil, readErr
	}
	m := &measurement{LoadCPU: processCPUSeconds(l.cmd)}
	return m, json.Unmarshal(b, m)
}
