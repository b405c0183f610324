//go:build !linux

package socket

import "net"

// newKernelTransport returns nil: TCP is read and written by package net, and an idle connection
// holds a small buffer while it waits.
func newKernelTransport(net.Conn, *Reader) transport { return nil }

// WrapForTLS returns nc: see the file for Linux.
func WrapForTLS(nc net.Conn) net.Conn { return nc }

func kernelMemory() int64 { return 0 }

func setSocketOptions(net.Conn, *Config) {}
