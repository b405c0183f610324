package main

import (
	"context"
	"fmt"
	"net"
)

// forEachConn calls do for each connection and returns the first error.
func forEachConn(conns []net.Conn, do func(net.Conn) error) error {
	for _, c := range conns {
		if err := do(c); err != nil {
			return err
		}
	}
	return nil
}

// openConns opens n connections to a server and calls greet on each of them, unless greet is
// nil.
func openConns(ctx context.Context, s *server, n int, greet func(net.Conn) error) ([]net.Conn, error) {
	var dialer net.Dialer
	return openConnsWith(s, n, func() (net.Conn, error) { return dialer.DialContext(ctx, "tcp", s.addr) }, greet)
}

// openConnsWith is openConns by the function dial.
func openConnsWith(s *server, n int, dial func() (net.Conn, error), greet func(net.Conn) error) ([]net.Conn, error) {
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dial()
		if err != nil {
			return conns, fmt.Errorf("connection %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
		if greet == nil {
			continue
		}
		if err := greet(c); err != nil {
			return conns, fmt.Errorf("greet %s on connection %d: %w", s.name, len(conns), err)
		}
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}
