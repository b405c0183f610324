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

// loadRun is the load program at work on a server.
type loadRun struct {
	cmd    *exec.Cmd
	output *bufio.Reader
	errors bytes.Buffer
}

// startLoad starts a mode of the load program.
func startLoad(ctx context.Context, p *programs, mode, system, addr string, args ...string) (*loadRun, error) {
	return startCommand(exec.CommandContext(ctx, p.path("load"), append([]string{mode, "-system=" + system, "-addr=" + addr}, args...)...))
}

// startCommand starts the load program however it is to be called.
func startCommand(cmd *exec.Cmd) (*loadRun, error) {
	l := &loadRun{cmd: cmd}
	l.cmd.Stderr = &l.errors
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

// moving waits until the clients of a move are connected, or a flood begins.
func (l *loadRun) moving() error {
	if line, err := l.output.ReadString('\n'); err != nil || line != "moving\n" {
		l.kill()
		return fmt.Errorf("load said %q: %w\n%s", line, err, l.errors.String())
	}
	return nil
}

func (l *loadRun) kill() {
	l.cmd.Process.Kill()
	l.cmd.Wait()
}

// load runs a mode that prints nothing but its result to the end.
func load(ctx context.Context, p *programs, mode, system, addr string, args ...string) (*measured, error) {
	l, err := startLoad(ctx, p, mode, system, addr, args...)
	if err != nil {
		return nil, err
	}
	return l.finish()
}

// move runs a move to the end.
func move(ctx context.Context, p *programs, system, addr string, args ...string) (*measured, error) {
	l, err := startLoad(ctx, p, "move", system, addr, args...)
	if err != nil {
		return nil, err
	}
	if err := l.moving(); err != nil {
		return nil, err
	}
	return l.finish()
}

// finish waits for the end and reads the result, whose names are those of measured.
func (l *loadRun) finish() (*measured, error) {
	b, readErr := io.ReadAll(l.output)
	if err := l.cmd.Wait(); err != nil {
		return nil, fmt.Errorf("load: %w\n%s", err, l.errors.String())
	}
	if readErr != nil {
		return nil, readErr
	}
	m := &measured{LoadCPU: cpuOf(l.cmd)}
	return m, json.Unmarshal(b, m)
}
