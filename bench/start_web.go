package main

import (
	"context"
	"fmt"
)

// webStarts start, by system, a server that accepts WebSockets.
var webStarts = map[string]func(context.Context, *programs) (*server, error){
	"hub":  func(ctx context.Context, p *programs) (*server, error) { return startHubWeb(ctx, p) },
	"nats": startNATSWeb,
	"chat": func(ctx context.Context, p *programs) (*server, error) { return startChat(ctx, p, limitsRaised) },
}

// withWebServer is withServer for a server that accepts WebSockets.
func withWebServer(ctx context.Context, p *programs, system string, measure func(*server) (*measurement, error)) (*measurement, error) {
	s, err := webStarts[system](ctx, p)
	if err != nil {
		return nil, err
	}
	return measureAndStop(s, measure)
}

// startHubWeb starts the hub with an address for WebSockets and additional flags.
func startHubWeb(ctx context.Context, p *programs, flags ...string) (*server, error) {
	webAddr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := startHubWith(ctx, p, append([]string{"-web=" + webAddr}, flags...)...)
	if err != nil {
		return nil, err
	}
	s.webAddr = webAddr
	return s, nil
}

// natsWebConf is the additional configuration of nats-server for WebSockets. It has no compression by
// default.
const natsWebConf = `
websocket {
	listen: "%s"
	no_tls: true
}
`

// startNATSWeb starts nats-server with raised limits and an address for WebSockets.
func startNATSWeb(ctx context.Context, p *programs) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	webAddr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	conf, err := p.writeFile("nats-web.conf", fmt.Sprintf(natsConf+natsWebConf, addr, webAddr))
	if err != nil {
		return nil, err
	}
	s, err := startProcess(ctx, "nats", addr, p.path("nats-server"), "-c", conf)
	if err != nil {
		return nil, err
	}
	s.webAddr = webAddr
	return s, nil
}

// startChat starts the chat server, which has only an address for WebSockets. It ignores the limitMode,
// because the chat server has no limits that matter.
func startChat(ctx context.Context, p *programs, _ limitMode) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := startProcess(ctx, "chat", addr, p.path("chat"), addr)
	if err != nil {
		return nil, err
	}
	s.webAddr = addr
	return s, nil
}
