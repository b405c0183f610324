package main

import (
	"context"
	"fmt"
	"strings"
)

// mosquittoBaseConf is the minimal configuration. Without its second line, mosquitto rejects
// all clients of a configured listener.
const mosquittoBaseConf = `
listener %s 127.0.0.1
allow_anonymous true
`

// mosquittoRaisedConf raises the limits for measuring.
const mosquittoRaisedConf = `
# How many messages, and bytes of them, may wait for one client beyond those under
# way: 1000 messages by default, and the rest is thrown away. 0 is no limit.
max_queued_messages 0
max_queued_bytes 0

# By default, a small message may wait for the next one or for an acknowledgement.
set_tcp_nodelay true

# Nothing is written to disk, and no line for each connection.
persistence false
connection_messages false
`

// startMosquitto starts Debian's mosquitto on a free port.
func startMosquitto(ctx context.Context, p *programs, limits limitMode) (*server, error) {
	path, err := findProgram("mosquitto")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, mosquittoBaseConf, portOf(addr))
	if limits == limitsRaised {
		conf.WriteString(mosquittoRaisedConf)
	}
	file, err := p.writeFile("mosquitto.conf", conf.String())
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, "mosquitto", addr, path, "-c", file)
}
