package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// idleClients is how many connections the idle scenario opens: with as many
// descriptors in this process and in the hub, what a limit of 20,000 allows.
const idleClients = 10_000

// idleResult is what connections cost that do nothing.
type idleResult struct {
	Clients       int     `json:"clients"`
	Silent        float64 `json:"kib_each_silent"`     // never said a word
	AskedIdentity float64 `json:"kib_each_identified"` // asked for their id once
}

// measureIdle opens n connections to a hub and reads how much its resident
// memory has grown: first when they are silent, then when each has asked for its
// id and got it.
func measureIdle(ctx context.Context, p *programs, n int) (*idleResult, error) {
	h, err := startHub(ctx, p, "-max-clients=20000", "-stat=false")
	if err != nil {
		return nil, err
	}
	result, err := idle(ctx, h, n)
	if _, stopErr := h.stop(); err == nil {
		err = stopErr
	}
	if err != nil {
		return nil, err
	}
	fmt.Printf("idle: %d connections: %.2f KiB resident each while silent, %.2f KiB after each asked for its id\n",
		n, result.Silent, result.AskedIdentity)
	return result, nil
}

func idle(ctx context.Context, h *hub, n int) (*idleResult, error) {
	before, err := h.memory("VmRSS")
	if err != nil {
		return nil, err
	}
	conns, err := connect(ctx, h.port, n)
	defer closeAll(conns)
	if err != nil {
		return nil, err
	}
	// The last connection's answer says that the hub has taken all of them.
	if err := identify(conns[n-1:]); err != nil {
		return nil, err
	}
	silent, err := settled(ctx, h)
	if err != nil {
		return nil, err
	}
	if err := identify(conns); err != nil {
		return nil, err
	}
	asked, err := settled(ctx, h)
	if err != nil {
		return nil, err
	}
	each := func(mib float64) float64 { return (mib - before) * 1024 / float64(n) }
	return &idleResult{n, each(silent), each(asked)}, nil
}

// settled returns the resident memory when it has not grown for a second.
func settled(ctx context.Context, h *hub) (float64, error) {
	last := 0.0
	for ctx.Err() == nil {
		now, err := h.memory("VmRSS")
		if err != nil || now <= last {
			return now, err
		}
		last = now
		time.Sleep(time.Second)
	}
	return 0, ctx.Err()
}

func connect(ctx context.Context, port string, n int) ([]net.Conn, error) {
	var dialer net.Dialer
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dialer.DialContext(ctx, "tcp", "127.0.0.1:"+port)
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// identify asks for an id on each connection and reads the answer.
func identify(conns []net.Conn) error {
	question := wire.AppendIdentityRequest(nil)
	for _, c := range conns {
		if _, err := c.Write(question); err != nil {
			return err
		}
	}
	answer := make([]byte, wire.IdentityLen)
	for _, c := range conns {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if n, err := c.Read(answer); err != nil || n != len(answer) {
			return fmt.Errorf("answer of %d bytes: %w", n, err)
		}
	}
	return nil
}
