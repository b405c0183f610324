package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// startHub starts start_server with default settings, but without its admin address, because
// that makes the hub time some of the deliveries. It ignores the limitMode: when the hub
// reaches its memory limit, senders wait and nothing is lost.
func startHub(ctx context.Context, p *programs, _ limitMode) (*server, error) {
	return startHubWith(ctx, p)
}

// startHubWith starts the hub with additional flags.
func startHubWith(ctx context.Context, p *programs, flags ...string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, "hub", addr, p.path("start_server"),
		append([]string{"-addr=127.0.0.1", "-port=" + portOf(addr), "-stat=false", "-admin=off"}, flags...)...)
}

// startForward starts the bare forwarder. The forwarder takes every connection as one half of
// a pair, therefore its readiness cannot be tested by a connection. It prints its address
// instead.
func startForward(ctx context.Context, p *programs, _ limitMode) (*server, error) {
	s := &server{name: "forward", exited: make(chan struct{}), cmd: exec.CommandContext(ctx, p.path("limit"), "forward")}
	s.cmd.Stderr = &s.log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	s.addr = strings.TrimSpace(addr)
	s.monitorExit()
	if err != nil {
		s.kill()
		return nil, fmt.Errorf("address of the forwarder: %w\n%s", err, s.log.String())
	}
	return s, nil
}
