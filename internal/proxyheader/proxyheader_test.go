package proxyheader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pires/go-proxyproto"
)

// headerV2 returns a version 2 header with this command, family and payload.
func headerV2(command, family byte, payload ...byte) string {
	b := append([]byte(prefixV2), command, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(payload))), payload...))
}

var (
	// From 198.51.100.7:40000 to 192.0.2.1:9999.
	addrsV4 = []byte{198, 51, 100, 7, 192, 0, 2, 1, 0x9c, 0x40, 0x27, 0x0f}
	// From [2001:db8::7]:40000 to [2001:db8::1]:9999.
	addrsV6 = append(append(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice()...), 0x9c, 0x40, 0x27, 0x0f)
)

// validHeaders maps valid headers to the client address that each of them names; "" means
// none.
var validHeaders = map[string]string{
	"PROXY TCP4 198.51.100.7 192.0.2.1 40000 9999\r\n":  "198.51.100.7:40000",
	"PROXY TCP6 2001:db8::7 2001:db8::1 40000 9999\r\n": "[2001:db8::7]:40000",
	"PROXY UNKNOWN\r\n":                             "",
	"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n": "",
	headerV2(0x21, 0x11, addrsV4...):                "198.51.100.7:40000",
	headerV2(0x21, 0x21, addrsV6...):                "[2001:db8::7]:40000",
	// With a TLV.
	headerV2(0x21, 0x11, append(addrsV4[:12:12], 4, 0, 2, 'h', 'i')...): "198.51.100.7:40000",
	// Health checks.
	headerV2(0x20, 0x00):             "",
	headerV2(0x20, 0x11, addrsV4...): "",
	// Of a Unix socket.
	headerV2(0x21, 0x31, make([]byte, 216)...): "",
	// With an IPv4-mapped IPv6 address.
	headerV2(0x21, 0x21, append(append(make([]byte, 10), 255, 255, 198, 51, 100, 7), addrsV6[16:]...)...): "198.51.100.7:40000",
}

// TestRead_ConsumesHeaderOnly reads valid headers, whole and byte by byte, from a stream that
// continues with data. Read must leave all of that data unread.
func TestRead_ConsumesHeaderOnly(t *testing.T) {
	const payload = "data of the client, PROXY and more"
	for header, want := range validHeaders {
		for name, wrap := range map[string]func(io.Reader) io.Reader{"whole": func(r io.Reader) io.Reader { return r }, "bytes": iotest.OneByteReader} {
			r := wrap(strings.NewReader(header + payload))
			from, err := Read(r)
			if err != nil || from.IsValid() != (want != "") || want != "" && from.String() != want {
				t.Errorf("%q, %s: %v, %v, want %q", header, name, from, err, want)
			}
			if rest, _ := io.ReadAll(r); string(rest) != payload {
				t.Errorf("%q, %s: %q is left", header, name, rest)
			}
		}
		if !HasPrefix([]byte(header)) || !HasPrefix([]byte(header)[:4]) {
			t.Errorf("HasPrefix(%q) is false", header)
		}
		for n := range len(header) {
			_, err := Read(strings.NewReader(header[:n]))
			if want := map[bool]error{true: io.EOF, false: io.ErrUnexpectedEOF}[n == 0]; !errors.Is(err, want) {
				t.Errorf("%q: %v, want %v", header[:n], err, want)
			}
		}
	}
}

func TestRead_InvalidHeaders(t *testing.T) {
	for text, isNone := range map[string]bool{
		"\x00\x00\x00\x01\x01":                              true, // v1 identity request
		"GET / HTTP/1.1\r\n\r\n":                            true,
		"POST / HTTP/1.1\r\n\r\n":                           true,
		"\x16\x03\x01\x02\x00\x01":                          true,
		"PROXYTCP4 1.2.3.4 5.6.7.8 ":                        true,
		"PROXY TCP4 198.51.100.7 192.0.2.1 40000\r\n":       false,
		"PROXY TCP4 198.51.100.7 192.0.2.1 40000 99999\r\n": false,
		"PROXY TCP4 2001:db8::7 2001:db8::1 40000 9999\r\n": false,
		"PROXY TCP4 198.51.100.7 192.0.2.1 40000 9999\n":    false,
		"PROXY " + strings.Repeat("x", 200):                 false,
		headerV2(0x31, 0x11, addrsV4...):                    false, // unsupported version
		headerV2(0x21, 0x11, addrsV4[:11]...):               false,
		headerV2(0x21, 0x11, make([]byte, 5000)...):         false,
		headerV2(0x21, 0x13, addrsV4...):                    false,
	} {
		if _, err := Read(strings.NewReader(text)); err == nil || errors.Is(err, ErrNone) != isNone {
			t.Errorf("%q: %v, want errors.Is(err, ErrNone) = %t", text, err, isNone)
		}
	}
}

// FuzzRead checks that Read returns the same result for the consumed bytes alone, that no
// prefix of them is a valid header, and that Read consumes at most one header.
func FuzzRead(f *testing.F) {
	for header := range validHeaders {
		f.Add([]byte(header + "behind"))
	}
	f.Add([]byte("\x00\x00\x00\x01\x01"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		from, err := Read(r)
		if err != nil {
			return
		}
		consumed := stream[:len(stream)-r.Len()]
		again, err := Read(bytes.NewReader(consumed))
		if err != nil || again != from {
			t.Fatalf("%q alone: %v, %v, want %v", consumed, again, err, from)
		}
		for n := range len(consumed) {
			if _, err := Read(bytes.NewReader(consumed[:n])); err == nil {
				t.Fatalf("%q is accepted as a header without its end %q", consumed[:n], consumed[n:])
			}
		}
		if !HasPrefix(consumed) || len(consumed) > fixedLenV2+int(proxyproto.MaxV2HeaderSize) {
			t.Fatalf("a header of %d bytes: %q", len(consumed), consumed)
		}
	})
}
