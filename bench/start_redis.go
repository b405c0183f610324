package main

import (
	"context"
	"fmt"
)

// redisConf is the configuration of redis-server with raised limits. It has one thread for
// commands, the default. More threads for sockets (io-threads) are not recommended on two
// cores.
const redisConf = `
bind 127.0.0.1
port %s
dir "%s"

# What may wait for one subscriber before it is disconnected: 32 MB, or 8 MB for a
# minute, by default. 0 is no limit.
client-output-buffer-limit pubsub 0 0 0

# Clients that may be connected: 10000 by default, and the idle scenario has more.
maxclients 18000

# Nothing is written to disk. What is published would not be, but saving takes a
# process of its own.
save ""
appendonly no
`

// startRedis starts Debian's redis-server on a free port, with the folder of p.
func startRedis(ctx context.Context, p *programs, limits limitMode) (*server, error) {
	path, err := findProgram("redis-server")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	if limits == limitsDefault {
		return startProcess(ctx, "redis", addr, path, "--bind", "127.0.0.1", "--port", portOf(addr), "--dir", p.dir)
	}
	conf, err := p.writeFile("redis.conf", fmt.Sprintf(redisConf, portOf(addr), p.dir))
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, "redis", addr, path, conf)
}
