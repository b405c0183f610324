package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// startHub starts start_server as it comes, without its admin address, which times some of the
// deliveries. There is no limit to raise: when what it
// holds for its clients reaches its bound, senders wait.
func startHub(ctx context.Context, p *programs, _ limitMode) (*server, error) {
	return startHubWith(ctx, p)
}

// startHubWith starts it with further flags.
func startHubWith(ctx context.Context, p *programs, flags ...string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, "hub", addr, p.path("start_server"),
		append([]string{"-addr=127.0.0.1", "-port=" + portOf(addr), "-stat=false", "-admin=off"}, flags...)...)
}

// startForward starts the bare forwarder. It takes every connection for half of a
// pair, so nobody may connect to see whether it listens: it says so.
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
