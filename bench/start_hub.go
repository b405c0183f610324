package main

import (
	"context"
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
