package natsconn

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The protocol is text, in lines. An operation is a line, and with MSG and HMSG also a payload:
//
//	INFO {JSON}                                server   first, and when something has changed
//	CONNECT {JSON}                             hub
//	SUB <subject> <sid>                        hub
//	PUB <subject> <size>                       hub      size bytes and CR LF follow
//	HPUB <subject> <header size> <size>        hub      size bytes, first the header, and CR LF
//	MSG <subject> <sid> [reply] <size>         server   size bytes and CR LF follow
//	HMSG <subject> <sid> [reply] <header size> <size>   server
//	PING, PONG                                 both
//	+OK                                        server   only if CONNECT wants it
//	-ERR '<text>'                              server
//
// The reference is https://docs.nats.io/reference/reference-protocols/nats-protocol.

// The maximum lengths of a line, in bytes, with CR LF.
const (
	maxLine = 4096 // that of nats-server for its clients

	// A server names all servers of its cluster in INFO, with 20 to 100 bytes each.
	maxInfo = 64 << 10
)

// maxSize is the maximum size that a server can name: nats-server permits no more.
const maxSize = 64 << 20

const crlf = "\r\n"

// kind is the kind of an operation of the server.
type kind byte

const (
	kindNone    kind = iota // the line is not complete
	kindInfo                // with text: JSON
	kindFrame               // MSG, with payload
	kindSkipped             // HMSG, which is no frame, or a frame that is too large
	kindPing
	kindPong
	kindOK
	kindError // with text
)

// operation is an operation of the server. Its slices are parts of the input.
type operation struct {
	kind    kind
	text    []byte
	payload []byte
}

var errProtocol = errors.New("the NATS server sends what is no protocol of NATS")

func protocolError(line []byte) error { return fmt.Errorf("%w: %.80q", errProtocol, line) }

// parse parses the operation at the beginning of data, of which size bytes belong to it, more than
// data if it is not complete. 0: not known yet. Frames of more than maxPayload bytes are skipped.
func parse(data []byte, maxPayload int) (op operation, size int, err error) {
	limit := maxLine
	if len(data) > 0 && data[0] == 'I' {
		limit = maxInfo
	}
	end := bytes.IndexByte(data[:min(len(data), limit)], '\n')
	switch {
	case end < 0 && len(data) >= limit:
		return operation{}, 0, fmt.Errorf("a line is too long: %w", protocolError(data))
	case end < 0:
		return operation{}, 0, nil
	case end == 0 || data[end-1] != '\r':
		return operation{}, 0, protocolError(data[:end])
	}
	line := data[:end-1]
	name, args, _ := bytes.Cut(line, []byte(" "))
	switch string(name) {
	case "MSG":
		return parseMessage(data, line, args, 3, maxPayload)
	case "HMSG":
		return parseMessage(data, line, args, 4, maxPayload)
	case "PING":
		op.kind = kindPing
	case "PONG":
		op.kind = kindPong
	case "+OK":
		op.kind = kindOK
	case "INFO":
		op = operation{kind: kindInfo, text: args}
	case "-ERR":
		op = operation{kind: kindError, text: bytes.Trim(args, " '")}
	default:
		return operation{}, 0, protocolError(line)
	}
	return op, end + 1, nil
}

// parseMessage parses MSG, which has 3 arguments and perhaps the subject for a reply, or HMSG,
// which has 4.
func parseMessage(data, line, args []byte, count, maxPayload int) (op operation, size int, err error) {
	if spaces := bytes.Count(args, []byte(" ")) + 1; spaces != count && spaces != count+1 {
		return operation{}, 0, protocolError(line)
	}
	payload, ok := parseSize(args[bytes.LastIndexByte(args, ' ')+1:])
	if !ok {
		return operation{}, 0, protocolError(line)
	}
	begin := len(line) + len(crlf)
	end := begin + payload
	size = end + len(crlf)
	switch {
	case count != 3 || payload > maxPayload:
		return operation{kind: kindSkipped}, size, nil
	case size > len(data):
		return operation{kind: kindFrame}, size, nil
	case string(data[end:size]) != crlf:
		return operation{}, 0, fmt.Errorf("a frame of %d bytes is longer: %w", payload, protocolError(line))
	}
	return operation{kind: kindFrame, payload: data[begin:end]}, size, nil
}

// parseSize parses a number up to maxSize.
func parseSize(digits []byte) (n int, ok bool) {
	for _, d := range digits {
		if d < '0' || d > '9' {
			return 0, false
		}
		if n = 10*n + int(d-'0'); n > maxSize {
			return 0, false
		}
	}
	return n, len(digits) > 0
}

// isPublishPermission reports whether an error is a missing permission to publish, after which the
// connection is of use. After a missing permission to subscribe, which a server tells when its
// configuration has changed, the subscription is gone. The server closes the connection after most
// other errors.
func (e *ServerError) isPublishPermission() bool {
	return strings.HasPrefix(strings.ToLower(e.Text), "permissions violation for publish")
}

// nats-server reads at most readSize bytes at a time, and copies a message to new memory if it is
// not within one read. A frame that is smaller by up to maxPadding with its line is padded to
// readSize by spaces in the line, so that such frames are one read each when they follow each
// other.
const (
	readSize   = 64 << 10
	maxPadding = 128
)

var padding = strings.Repeat(" ", maxPadding)

// appendPub appends the line before a frame of size bytes.
func appendPub(b, subject []byte, size int) []byte {
	var buf [20]byte
	digits := strconv.AppendInt(buf[:0], int64(size), 10)
	missing := readSize - (len("PUB ") + len(subject) + len(" ") + len(digits) + 2*len(crlf) + size)
	b = append(b, "PUB "...)
	if 0 < missing && missing <= maxPadding {
		b = append(b, padding[:missing]...)
	}
	b = append(append(b, subject...), ' ')
	return append(append(b, digits...), crlf...)
}

// appendSub appends the subscription to a subject, with a number of its own.
func appendSub(b []byte, subject string, sid int) []byte {
	return fmt.Appendf(b, "SUB %s %d\r\n", subject, sid)
}

// probeHeader marks a message that only finds out whether the hub may publish to a subject. A Conn
// skips messages with headers: frames have none.
const probeHeader = "NATS/1.0\r\nHub-Probe: \r\n\r\n"

// appendProbe appends a message that other hubs skip.
func appendProbe(b []byte, subject string) []byte {
	return fmt.Appendf(b, "HPUB %s %d %d\r\n%s\r\n", subject, len(probeHeader), len(probeHeader), probeHeader)
}
