package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// forward accepts connections in pairs, and copies the bytes that come from each
// of a pair to the other: one Read, one Write. io.Copy would let the kernel do it,
// and then it would not be what any program has to do that looks at what it
// forwards. It ends by a signal.
func forward(chunk int) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { ln.Close() })
	fmt.Println(ln.Addr())
	var first net.Conn // for its other half
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if first == nil {
			first = c
			continue
		}
		// Both end when either connection does, and with the program.
		go copyConn(first, c, chunk)
		go copyConn(c, first, chunk)
		first = nil
	}
}

// copyConn copies from one connection to another until either ends, and ends both.
func copyConn(from, to net.Conn, chunk int) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
