// Package proxyheader reads the header of the PROXY protocol, versions 1 and 2, which a load balancer sends before the
// bytes of a client to say who that is (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// It takes exactly the header from a connection, so that whoever reads on has every byte behind it, and nothing is
// kept for the life of the connection. Whom to believe is not its business. What a header says is parsed by go-proxyproto.
package proxyheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// ErrNone says that what comes is no header of the PROXY protocol.
var ErrNone = errors.New("no header of the PROXY protocol")

const (
	prefixV1     = "PROXY "                                 // of version 1, a line
	prefixV2     = "\r\n\r\n\x00\r\nQUIT\n"                 // of version 2
	fixedLenV2   = len(prefixV2) + 4                        // its bytes that are always there; the last two say how many follow
	minLenV1     = len("PROXY UNKNOWN\r\n")                 // bytes of version 1
	maxLenV1     = 107                                      // likewise
	minHeaderLen = min(minLenV1, fixedLenV2, len(prefixV2)) // bytes that each header has
)

// HasPrefix reports whether bytes are how a header begins, or the first four of that at least.
func HasPrefix(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	for _, prefix := range []string{prefixV1, prefixV2} {
		n := min(len(b), len(prefix))
		if string(b[:n]) == prefix[:n] {
			return true
		}
	}
	return false
}

// Read reads one header from a connection, and nothing behind it. It returns the address of the client, which is not valid
// when the header names none: then the connection is of its sender's own making, such as a check of health, and its own
// address counts. Its error is io.EOF when there was no byte at all, and wraps ErrNone when there is something else. Read waits for the
// whole header: its caller sets a deadline.
func Read(r io.Reader) (client netip.AddrPort, err error) {
	header, err := readHeader(r)
	if err != nil {
		return client, err
	}
	parsed, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), len(header)))
	if err != nil {
		return client, fmt.Errorf("bad header of the PROXY protocol: %w", err)
	}
	source, ok := parsed.SourceAddr.(*net.TCPAddr)
	if !ok || parsed.Command.IsLocal() {
		return client, nil
	}
	addr := source.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// readHeader returns the bytes of a header.
func readHeader(r io.Reader) ([]byte, error) {
	header := make([]byte, minHeaderLen, maxLenV1)
	if _, err := io.ReadFull(r, header[:1]); err != nil {
		return nil, err
	}
	if header[0] != prefixV1[0] && header[0] != prefixV2[0] { // a client that waits for an answer sends no more
		return nil, ErrNone
	}
	if _, err := io.ReadFull(r, header[1:]); err != nil {
		return nil, unexpectedEOF(err)
	}
	switch {
	case bytes.HasPrefix(header, []byte(prefixV1)):
		return readV1(r, header)
	case bytes.HasPrefix(header, []byte(prefixV2)):
		return readV2(r, header)
	}
	return nil, ErrNone
}

// readV1 takes what is left of a header of version 1. Its length is not known before its end, so that is looked for
// byte by byte.
func readV1(r io.Reader, header []byte) ([]byte, error) {
	for header[len(header)-1] != '\n' {
		n := len(header)
		if n == maxLenV1 {
			return nil, fmt.Errorf("header of the PROXY protocol with more than %d bytes", maxLenV1)
		}
		header = header[:n+1]
		if _, err := io.ReadFull(r, header[n:]); err != nil {
			return nil, unexpectedEOF(err)
		}
	}
	return header, nil
}

// readV2 takes what is left of a header of version 2.
func readV2(r io.Reader, header []byte) ([]byte, error) {
	n := len(header)
	header = header[:fixedLenV2]
	if _, err := io.ReadFull(r, header[n:]); err != nil {
		return nil, unexpectedEOF(err)
	}
	length := binary.BigEndian.Uint16(header[fixedLenV2-2:])
	if length > proxyproto.MaxV2HeaderSize {
		return nil, fmt.Errorf("header of the PROXY protocol with %d bytes, %d are allowed", length, proxyproto.MaxV2HeaderSize)
	}
	header = append(header, make([]byte, length)...)
	if _, err := io.ReadFull(r, header[fixedLenV2:]); err != nil {
		return nil, unexpectedEOF(err)
	}
	return header, nil
}

// unexpectedEOF returns the error of a header that is not whole.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
