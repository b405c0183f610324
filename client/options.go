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

// Options change how a client behaves. The zero value of each field means its
// default.
type Options struct {
	// Version is the version of the protocol: 1, 2, or 0 for version 2 with a hub that
	// speaks it and version 1 with any other.
	Version int

	// Name is for people: the hub's operator sees it. Version 2 only.
	Name string

	// GetToken says who the client is, to a hub that asks: it is called for each connection, with
	// a ctx that ends with the attempt, and should return one that is good for long enough. With an
	// error the attempt fails. It is called once at a time, and also, by another goroutine, before the
	// token of a connection ends: a minute, or a fifth of its time. With another one the client then comes
	// back at once, and nothing is lost; with an error or the same one the connection stays. When the hub
	// says that a token is over, a client that was connected
	// asks for a newer one, with growing pauses; it ends when the hub says so of the same one for
	// more than a minute. Version 2 only. Default: none is shown.
	GetToken func(ctx context.Context) (string, error)

	// Dial makes the connections, the first one and those that follow on it. Default:
	// TCP to the address that the function Dial was given; a client made by New has
	// then no way to come back.
	Dial func(ctx context.Context) (net.Conn, error)

	// TLS says how TLS is spoken, on connections that the function Dial makes by whatever
	// way. If it is nil there is TLS only to an address that begins with hubs://, with the
	// authorities that the system knows. ServerName is by default the host of the address.
	// GetClientCertificate is asked for each connection: a client that has it comes back when the
	// hub says that its certificate is over, and one that has only Certificates ends.
	// It must not be changed afterwards.
	TLS *tls.Config

	// NoReconnect says that the client ends with its connection, as one that speaks
	// version 1 does.
	NoReconnect bool

	// Resend says what becomes of messages when the client has come back and the hub
	// does not know it any more: those that it has perhaps not had, and those whose
	// report has not come. They are sent again, with the new id, and some receivers may
	// get them twice; or they fail, see ErrSessionLost and Event.Unconfirmed. When the hub has started
	// anew, or is another one, all messages to ids that the hub had assigned fail: it may have given
	// them to others, or will. Only ids that tokens grant mean the same clients then.
	Resend bool

	// OnEvent is told what happens to the connection, each failed attempt to come back
	// included, if it is set. It is called by the goroutine that reads and reconnects, for one
	// event after the other: while it runs nothing is read and no attempt is made. So it must not wait for
	// anything that comes from the hub, as List, Ping and SendReport do, and a Send whose line
	// is full; nor call Close, which would wait for it. It may start a goroutine that does.
	OnEvent func(Event)

	// MaxBody is the largest body that is sent or received, in bytes. The hub is told in
	// version 2: a larger message does not come, and its sender learns by wire.FateTooLarge that it
	// is too large for this client. Default: what the hub says in version 2, and 1 MiB in version
	// 1, where the hub can say nothing and a larger message ends the client.
	MaxBody int

	// MaxUnread is how many bytes of messages may wait to be received before the
	// client stops reading, plus one read. In version 2 the hub sees to it: it sends no
	// more than its window ahead of what was received, 8 MiB by default. Default: 1 MiB.
	MaxUnread int

	// ReadBuffer is how many bytes the kernel may hold for the client beyond that, as
	// far as the system allows. Hundreds of busy clients on one machine are better
	// off with 1 MiB than with the tens that the kernel may go to.
	// Default: the kernel decides.
	ReadBuffer int

	// MaxQueued is how many bytes may wait to be sent before Send waits, plus one
	// message. In version 2 that includes what the hub has had and not yet taken, and
	// for each receiver what the hub counts: 16 bytes, or 64 if it is an older one.
	// Default: 256 KiB.
	MaxQueued int

	// MaxList is how many ids a list may have. Default: 1,000,000, which is 8 MB.
	MaxList int

	// FrameTimeout is how long the rest of a frame may take to arrive. It may take longer while it
	// brings 1 KiB a second, measured over FrameTimeout.
	// Default: 30 s.
	FrameTimeout time.Duration

	// CloseTimeout is how long Close waits for what was sent to leave, and, with a second more,
	// for a function of the application that is running, such as OnMessage. Default: 5 s.
	CloseTimeout time.Duration

	// OnMessage gets the messages if it is set; Receive and Messages then wait for
	// the end of the client. It is called by the goroutine that reads, for one
	// message after the other in the order in which they came, perhaps before Dial
	// has returned, and no more when Close has. Body is lent: it is valid until
	// OnMessage returns.
	//
	// This is the shortest way for a message. In return nothing is read meanwhile:
	// OnMessage must not wait for List or a report, and must not call Close, which would wait for it. A Send in
	// it that finds MaxQueued bytes in line waits for the hub to take some of them, which
	// in version 2 cannot be heard while OnMessage runs: it then ends with its ctx. Answer
	// from another goroutine, or by Receive.
	OnMessage func(Message)

	now func() time.Time // the wall clock; nil: time.Now
}

// wallTime returns the time of the wall clock, which goes on while the machine sleeps.
func (o *Options) wallTime() time.Time {
	if o.now == nil {
		return time.Now().Round(0)
	}
	return o.now().Round(0)
}

// maxBodyUnset reports whether MaxBody is left to the hub.
func (o *Options) maxBodyUnset() bool { return o == nil || o.MaxBody == 0 }

// withDefaults returns the options with every field set.
func (o *Options) withDefaults() (Options, error) {
	var resolved Options
	if o != nil {
		resolved = *o
	}
	for _, field := range []struct {
		name  string
		value *int
		by    int
		most  int
	}{
		{"MaxBody", &resolved.MaxBody, wire.DefaultMaxBody, wire.MaxBodyLimit},
		{"MaxUnread", &resolved.MaxUnread, 1 << 20, math.MaxInt},
		{"MaxQueued", &resolved.MaxQueued, 256 << 10, math.MaxInt},
		{"MaxList", &resolved.MaxList, 1_000_000, wire.MaxBodyLimit / wire.IDSize},
	} {
		if *field.value == 0 {
			*field.value = field.by
		}
		if *field.value < 1 || *field.value > field.most {
			return resolved, fmt.Errorf("client: %s is %d, must be from 1 to %d", field.name, *field.value, field.most)
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
		by    time.Duration
	}{
		{"FrameTimeout", &resolved.FrameTimeout, 30 * time.Second},
		{"CloseTimeout", &resolved.CloseTimeout, 5 * time.Second},
	} {
		if *field.value == 0 {
			*field.value = field.by
		}
		if *field.value < 0 {
			return resolved, fmt.Errorf("client: %s is %v, must not be negative", field.name, *field.value)
		}
	}
	return resolved, nil
}

// maxNameLen leaves a HELLO far below wire.MaxHelloLen, whatever JSON makes of the name.
const maxNameLen = 256

// maxLength is the largest length field that the hub may send, unless its WELCOME allows more.
func (o *Options) maxLength() int { return o.maxLengthFor(o.MaxBody) }

// maxLengthFor is that of a hub that sends bodies of up to maxBody bytes.
func (o *Options) maxLengthFor(maxBody int) int {
	length := max(1+maxBody, 1+o.MaxList*wire.IDSize)
	if o.Version != 1 {
		length = max(length, wire.DeliverLen(maxBody)-wire.LengthSize, wire.PresenceLen(wire.MaxPageIDs, 0)-wire.LengthSize)
	}
	return length
}
