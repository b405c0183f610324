package main

import (
	"context"
	"fmt"
	"strings"
)

// mosquittoBase is what mosquitto needs to be used at all by anybody: without the
// second line, nobody may connect to a listener that is configured.
const mosquittoBase = `
listener %s 127.0.0.1
allow_anonymous true
`

// mosquittoRaised is what is set besides for measuring.
const mosquittoRaised = `
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

// startMosquitto starts Debian's mosquitto with a port of its own.
func startMosquitto(ctx context.Context, p *programs, how setting) (*server, error) {
	path, err := installed("mosquitto")
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, mosquittoBase, portOf(addr))
	if how == raised {
		conf.WriteString(mosquittoRaised)
	}
	file, err := p.write("mosquitto.conf", conf.String())
	if err != nil {
		return nil, err
	}
	return launch(ctx, "mosquitto", addr, path, "-c", file)
}
