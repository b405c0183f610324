package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// Options configure a client. The zero value of each field means its default. A Client copies
// its Options.
type Options struct {
	// Version is the version of the protocol: 1, 2, or 0. With 0 the client speaks version 2 if
	// the hub does, and version 1 otherwise. Default: 0.
	Version int

	// Name is a human-readable name that the operator of the hub sees, of at most 256 bytes.
	// Version 2 only. Default: no name.
	Name string

	// GetToken returns the token that authenticates the client. It is called for each connection.
	// ctx ends with the attempt to connect. If GetToken fails, the attempt fails. GetToken is not
	// called concurrently with itself.
	//
	// GetToken is also called, by another goroutine, before the token of a connection expires: one
	// minute before, or when a fifth of the lifetime of the token is left if that is shorter. If
	// GetToken returns a different token, the client presents it to the hub, and the connection
	// stays. With a hub that cannot renew tokens, or does not answer within half of the remaining
	// time or 30 s, the client reconnects with the token at once, and resumes its session. If
	// GetToken fails or returns the same token, or the hub refuses the token, the connection stays,
	// and GetToken is called again when half of the remaining time has passed.
	//
	// When the hub says that a token has expired, a client that was connected reconnects with
	// backoff and asks GetToken for a new one. The client ends when the hub has rejected the same
	// token for more than a minute. Version 2 only. Default: no token.
	GetToken func(ctx context.Context) (string, error)

	// Dial makes every connection, the first one and those after a reconnect. ctx ends with the
	// attempt to connect. The client has one address then. Default: TCP to the addr of the function
	// Dial. A client of NewConn without Options.Dial cannot reconnect.
	Dial func(ctx context.Context) (net.Conn, error)

	// InOrder makes the client try several addresses in the order of addr, the first one first, and
	// not in a random order. See the function Dial.
	InOrder bool

	// TLS configures TLS on the connections of the function Dial, also on those that Options.Dial
	// returns. If TLS is nil, the client uses TLS only for an addr that begins with "hubs://", with
	// the certificate authorities of the system. The default of ServerName is the host of addr, of
	// several the one of the connection. GetClientCertificate is called for each connection: with
	// GetClientCertificate, the client reconnects when the hub says that its certificate has expired,
	// and with only Certificates, the client ends. The client keeps a clone of TLS.
	TLS *tls.Config

	// NoReconnect makes the client end with its connection, as in version 1.
	NoReconnect bool

	// Resend selects the fate of unacknowledged messages when the client has lost its session (see
	// EventNewID and EventKeptID): messages that may not have reached the hub, and messages whose
	// report has not come. With Resend the client sends them again under its new id, and some
	// receivers may get them twice. Without Resend they fail: see ErrSessionLost and
	// Event.Unconfirmed.
	//
	// When the hub has restarted, or is a different hub, all messages to ids that the hub had
	// assigned fail, with and without Resend, because the ids may belong to other clients. Only
	// ids that tokens grant stay valid. At another hub of the same cluster all ids stay valid. There
	// the client keeps its id (EventKeptID), and a receiver that is a Client drops what it has got,
	// unless the message asks for a verdict or its sender has a granted id.
	Resend bool

	// OnEvent, if set, is called for each change of the connection and each failed attempt to
	// reconnect. The read goroutine calls OnEvent, for one event after the other. While OnEvent
	// runs, the client neither reads nor reconnects. Therefore OnEvent must not wait for the hub,
	// as List, Ping, SendReport and a Send with a full queue do, and must not call Close, which
	// would wait for OnEvent. OnEvent can start a goroutine for such calls.
	OnEvent func(Event)

	// MaxBody is the largest body to send or to receive, in bytes: at most 1 GiB (1 << 30). In
	// version 2 the hub knows MaxBody and does not deliver larger messages; their sender gets
	// wire.FateTooLarge. Default: the limit of the hub in version 2, and 1 MiB in version 1. In
	// version 1 the hub does not know MaxBody, and a larger message ends the client.
	MaxBody int

	// MaxUnread is the number of bytes of unread messages at which the client stops reading; one
	// more read can exceed it. A message counts as its body plus 128 bytes. In version 2 the hub
	// enforces a limit instead: it sends at most its window, 8 MiB by default, ahead of what the
	// application has received. Default: 1 MiB.
	MaxUnread int

	// ReadBuffer is the size of the receive buffer of the kernel, in bytes, in addition to
	// MaxUnread, as far as the system allows. With hundreds of busy clients on one machine, 1 MiB
	// is better than the tens of MiB that the kernel can use. Default: the kernel decides.
	ReadBuffer int

	// MaxQueued is the number of bytes in the send queue at which Send waits; one message can
	// exceed it. In version 2 the queue includes messages that the hub has not acknowledged, and
	// each receiver of a message counts as 16 bytes, or as 64 bytes with a hub that does not
	// announce the cost of a receiver. Default: 256 KiB.
	MaxQueued int

	// MaxList is the maximum number of ids in a list. Default: 1,000,000, which is 8 MB.
	MaxList int

	// FrameTimeout is the maximum time between the first and the last byte of a received frame. A
	// frame can take longer while at least 1 KiB per second arrives, measured over FrameTimeout.
	// Default: 30 s.
	FrameTimeout time.Duration

	// CloseTimeout is how long Close waits for queued messages to be sent. Close waits one second
	// longer for a running callback, such as OnMessage. Default: 5 s.
	CloseTimeout time.Duration

	// OnMessage, if set, receives the messages; Receive and Messages then only wait for the end of
	// the client. The read goroutine calls OnMessage, for one message after the other in the order
	// of arrival, possibly before Dial has returned, and never after Close has returned. The
	// client owns Message.Body: it is valid only until OnMessage returns.
	//
	// OnMessage costs less per message than Receive. In return the client does not read while
	// OnMessage runs. Therefore OnMessage must not wait for List or for a report, and must not
	// call Close, which would wait for OnMessage. A Send in OnMessage with a full queue
	// (MaxQueued) waits for an acknowledgement of the hub, which version 2 cannot receive while
	// OnMessage runs: such a Send returns only when its ctx ends. Reply from another goroutine, or
	// use Receive.
	OnMessage func(Message)

	now func() time.Time // wall clock; nil: time.Now
}

// wallTime returns the wall clock time. Unlike the monotonic clock, the wall clock advances
// while the machine sleeps.
func (o *Options) wallTime() time.Time {
	if o.now == nil {
		return time.Now().Round(0)
	}
	return o.now().Round(0)
}

// maxBodyUnset reports whether the hub decides the largest body.
func (o *Options) maxBodyUnset() bool { return o == nil || o.MaxBody == 0 }

// withDefaults returns the validated options with every default set.
func (o *Options) withDefaults() (Options, error) {
	var resolved Options
	if o != nil {
		resolved = *o
	}
	for _, field := range []struct {
		name  string
		value *int
		def   int
		max   int
	}{
		{"MaxBody", &resolved.MaxBody, wire.DefaultMaxBody, wire.MaxBodyLimit},
		{"MaxUnread", &resolved.MaxUnread, 1 << 20, math.MaxInt},
		{"MaxQueued", &resolved.MaxQueued, 256 << 10, math.MaxInt},
		{"MaxList", &resolved.MaxList, 1_000_000, wire.MaxBodyLimit / wire.IDSize},
	} {
		if *field.value == 0 {
			*field.value = field.def
		}
		if *field.value < 1 || *field.value > field.max {
			return resolved, fmt.Errorf("client: %s is %d, must be from 1 to %d", field.name, *field.value, field.max)
		}
	}
	if resolved.Version < 0 || resolved.Version > wire.Version2 {
		return resolved, fmt.Errorf("client: Version is %d, must be 0, 1 or 2", resolved.Version)
	}
	if len(resolved.Name) > maxNameLen {
		return resolved, fmt.Errorf("client: Name has %d bytes, at most %d are allowed", len(resolved.Name), maxNameLen)
	}
	if resolved.ReadBuffer < 0 || resolved.ReadBuffer > wire.MaxBodyLimit {
		return resolved, fmt.Errorf("client: ReadBuffer is %d, must be from 1 to %d", resolved.ReadBuffer, wire.MaxBodyLimit)
	}
	for _, field := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"FrameTimeout", &resolved.FrameTimeout, 30 * time.Second},
		{"CloseTimeout", &resolved.CloseTimeout, 5 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.def
		}
		if *field.value < 0 {
			return resolved, fmt.Errorf("client: %s is %v, must not be negative", field.name, *field.value)
		}
	}
	return resolved, nil
}

// maxNameLen is the maximum length of Options.Name, in bytes. It keeps a HELLO far below
// wire.MaxHelloLen, however JSON escapes the name.
const maxNameLen = 256

// maxLength returns the largest value of the length field that the hub can send before WELCOME.
func (o *Options) maxLength() int { return o.maxLengthFor(o.MaxBody) }

// maxLengthFor returns the largest value of the length field that a hub can send whose bodies
// have at most maxBody bytes.
func (o *Options) maxLengthFor(maxBody int) int {
	length := max(1+maxBody, 1+o.MaxList*wire.IDSize)
	if o.Version != 1 {
		length = max(length, wire.DeliverLen(maxBody)-wire.LengthSize, wire.PresenceLen(wire.MaxPageIDs, 0)-wire.LengthSize)
	}
	return length
}
