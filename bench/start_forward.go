package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

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
