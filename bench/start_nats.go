package main

import (
	"context"
	"fmt"
)

// natsConf is the configuration of nats-server with raised limits.
const natsConf = `
listen: "%s"

# What may wait for one subscriber before the server takes it for a slow one and
# disconnects it: 64 MB by default. In the default pattern a client gets 100 MB in
# all, so with this none is.
max_pending: 1GB

# How long one write to a subscriber may take before the server disconnects it: 10 s
# by default, which a client on two busy cores can miss.
write_deadline: "60s"

# 64K by default.
max_connections: 100000
`

// startNATS starts nats-server, in the version that go.mod requires.
func startNATS(ctx context.Context, p *programs, limits limitMode) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if limits == limitsDefault {
		return startProcess(ctx, "nats", addr, p.path("nats-server"), "-a", "127.0.0.1", "-p", portOf(addr))
	}
	conf, err := p.writeFile("nats.conf", fmt.Sprintf(natsConf, addr))
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, "nats", addr, p.path("nats-server"), "-c", conf)
}
