package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
)

// forward accepts connections in pairs, and copies the bytes from each connection of a pair to
// the other, with one Read and one Write for each chunk. io.Copy would let the kernel do the
// copying, which is impossible for a program that inspects what it forwards. forward ends by a
// signal.
func forward(chunk int) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { ln.Close() })
	fmt.Println(ln.Addr())
	var first net.Conn // the accepted half of an incomplete pair
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
		// Both end when either connection ends, or with the program.
		go copyConn(first, c, chunk)
		go copyConn(c, first, chunk)
		first = nil
	}
}

// copyConn copies from one connection to another until either ends, and closes both.
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
