//go:build !linux

package socket

import "net"

// newTransport returns the transport of nc for a Reader: connections are read and written by
// package net, and an idle connection holds a small buffer while it waits.
func newTransport(nc net.Conn, r *Reader) transport { return &netConnTransport{nc, r} }

// WrapForTLS returns nc: see the file for Linux.
func WrapForTLS(nc net.Conn) net.Conn { return nc }

func kernelMemory() int64 { return 0 }

func setSocketOptions(net.Conn, *Config) {}
