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
	prefix1 = "PROXY "                           // of version 1, a line
	prefix2 = "\r\n\r\n\x00\r\nQUIT\n"           // of version 2
	fixed2  = len(prefix2) + 4                   // its bytes that are always there; the last two say how many follow
	minLine = len("PROXY UNKNOWN\r\n")           // bytes of version 1
	maxLine = 107                                // likewise
	probe   = min(minLine, fixed2, len(prefix2)) // bytes that each header has
)

// Begins reports whether bytes are how a header begins, or the first four of that at least.
func Begins(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	for _, prefix := range []string{prefix1, prefix2} {
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
func Read(r io.Reader) (from netip.AddrPort, err error) {
	header, err := take(r)
	if err != nil {
		return from, err
	}
	parsed, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), len(header)))
	if err != nil {
		return from, fmt.Errorf("bad header of the PROXY protocol: %w", err)
	}
	source, ok := parsed.SourceAddr.(*net.TCPAddr)
	if !ok || parsed.Command.IsLocal() {
		return from, nil
	}
	at := source.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), nil
}

// take returns the bytes of a header.
func take(r io.Reader) ([]byte, error) {
	header := make([]byte, probe, maxLine)
	if _, err := io.ReadFull(r, header[:1]); err != nil {
		return nil, err
	}
	if header[0] != prefix1[0] && header[0] != prefix2[0] { // a client that waits for an answer sends no more
		return nil, ErrNone
	}
	if _, err := io.ReadFull(r, header[1:]); err != nil {
		return nil, cut(err)
	}
	switch {
	case bytes.HasPrefix(header, []byte(prefix1)):
		return takeLine(r, header)
	case bytes.HasPrefix(header, []byte(prefix2)):
		return take2(r, header)
	}
	return nil, ErrNone
}

// takeLine takes what is left of a header of version 1. Its length is not known before its end, so that is looked for
// byte by byte.
func takeLine(r io.Reader, header []byte) ([]byte, error) {
	for header[len(header)-1] != '\n' {
		n := len(header)
		if n == maxLine {
			return nil, fmt.Errorf("header of the PROXY protocol with more than %d bytes", maxLine)
		}
		header = header[:n+1]
		if _, err := io.ReadFull(r, header[n:]); err != nil {
			return nil, cut(err)
		}
	}
	return header, nil
}

// take2 takes what is left of a header of version 2.
func take2(r io.Reader, header []byte) ([]byte, error) {
	n := len(header)
	header = header[:fixed2]
	if _, err := io.ReadFull(r, header[n:]); err != nil {
		return nil, cut(err)
	}
	length := binary.BigEndian.Uint16(header[fixed2-2:])
	if length > proxyproto.MaxV2HeaderSize {
		return nil, fmt.Errorf("header of the PROXY protocol with %d bytes, %d are allowed", length, proxyproto.MaxV2HeaderSize)
	}
	header = append(header, make([]byte, length)...)
	if _, err := io.ReadFull(r, header[fixed2:]); err != nil {
		return nil, cut(err)
	}
	return header, nil
}

// cut returns the error of a header that is not whole.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
