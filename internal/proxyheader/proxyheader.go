// Package proxyheader reads the header of the PROXY protocol, versions 1 and 2. A load
// balancer sends this header before the bytes of a client, to name the client's address
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// It reads exactly the header from a connection: all bytes after the header stay unread, and
// the package keeps no state for the life of the connection. The caller decides which
// connections to trust. The package go-proxyproto parses the content of a header.
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

// ErrNone is returned if the data does not begin with a PROXY header.
var ErrNone = errors.New("not a PROXY header")

const (
	// The header of version 1 is a line of text, that of version 2 is binary.
	prefixV1 = "PROXY "
	prefixV2 = "\r\n\r\n\x00\r\nQUIT\n"

	// fixedLenV2 is the length of the fixed part of a version 2 header, in bytes. The last two
	// bytes of that part are the length of the rest.
	fixedLenV2 = len(prefixV2) + 4

	// minLenV1 and maxLenV1 bound the length of a version 1 header in bytes, with \r\n.
	minLenV1 = len("PROXY UNKNOWN\r\n")
	maxLenV1 = 107

	// minHeaderLen is the minimum length of a header of any version, in bytes.
	minHeaderLen = min(minLenV1, fixedLenV2, len(prefixV2))
)

// HasPrefix reports whether b begins like a PROXY header. At least the first four bytes must
// be present.
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

// Read reads one header from r, and no byte after it. It returns the address of the client.
// The address is not valid if the header names none: the load balancer has then opened the
// connection itself, for a health check for example, and the remote address of the connection
// counts. Read returns io.EOF if there is no byte, and an error that wraps ErrNone if the data
// is not a header. Read blocks until the whole header has arrived. The caller sets a deadline.
func Read(r io.Reader) (client netip.AddrPort, err error) {
	header, err := readHeader(r)
	if err != nil {
		return client, err
	}
	parsed, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), len(header)))
	if err != nil {
		return client, fmt.Errorf("malformed PROXY header: %w", err)
	}
	source, ok := parsed.SourceAddr.(*net.TCPAddr)
	if !ok || parsed.Command.IsLocal() {
		return client, nil
	}
	addr := source.AddrPort()
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// readHeader returns the bytes of one header.
func readHeader(r io.Reader) ([]byte, error) {
	header := make([]byte, minHeaderLen, maxLenV1)
	if _, err := io.ReadFull(r, header[:1]); err != nil {
		return nil, err
	}
	// The first byte is checked alone because a v1 client that waits for a reply sends fewer than
	// minHeaderLen bytes.
	if header[0] != prefixV1[0] && header[0] != prefixV2[0] {
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

// readV1 reads the rest of a version 1 header. The length of the header is unknown until its
// end, and readV1 must not read more. It therefore reads byte by byte.
func readV1(r io.Reader, header []byte) ([]byte, error) {
	for header[len(header)-1] != '\n' {
		n := len(header)
		if n == maxLenV1 {
			return nil, fmt.Errorf("PROXY header exceeds %d bytes", maxLenV1)
		}
		header = header[:n+1]
		if _, err := io.ReadFull(r, header[n:]); err != nil {
			return nil, unexpectedEOF(err)
		}
	}
	return header, nil
}

// readV2 reads the rest of a version 2 header.
func readV2(r io.Reader, header []byte) ([]byte, error) {
	n := len(header)
	header = header[:fixedLenV2]
	if _, err := io.ReadFull(r, header[n:]); err != nil {
		return nil, unexpectedEOF(err)
	}
	length := binary.BigEndian.Uint16(header[fixedLenV2-2:])
	if length > proxyproto.MaxV2HeaderSize {
		return nil, fmt.Errorf("PROXY header of %d bytes exceeds the limit of %d", length, proxyproto.MaxV2HeaderSize)
	}
	header = append(header, make([]byte, length)...)
	if _, err := io.ReadFull(r, header[fixedLenV2:]); err != nil {
		return nil, unexpectedEOF(err)
	}
	return header, nil
}

// unexpectedEOF returns err, or io.ErrUnexpectedEOF in place of io.EOF, for an incomplete
// header.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
