package main

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// startEcho starts a server that returns what it receives, and a proxy before it.
func startEcho(t *testing.T) *faultProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				_, _ = io.Copy(nc, nc)
				nc.Close()
			}()
		}
	}()
	p, err := newFaultProxy(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFaultProxy_ForwardsEndOfStream(t *testing.T) {
	p := startEcho(t)
	defer p.close()
	c := dialTest(t, p.addr)
	if _, err := c.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "last words" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFaultProxy_BreaksConns exchanges bytes on new connections while the proxy breaks them.
// Afterwards close ends those that stall.
func TestFaultProxy_BreaksConns(t *testing.T) {
	p := startEcho(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan struct{})
	go func() { // ends with ctx
		p.breakConns(ctx, time.Millisecond)
		close(done)
	}()
	broken := 0
	for ctx.Err() == nil {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			broken++ // already, by a reset
			continue
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Millisecond))
		for ctx.Err() == nil {
			if _, err := c.Write([]byte("x")); err != nil {
				broken++
				break
			}
			if _, err := c.Read(make([]byte, 1)); err != nil {
				broken++
				break
			}
		}
	}
	<-done
	if broken == 0 || p.breakCount.Load() == 0 {
		t.Errorf("%d connections broke, the proxy broke %d", broken, p.breakCount.Load())
	}
	p.close()
	if len(p.conns) != 0 {
		t.Errorf("%d connections after close", len(p.conns))
	}
}
