package hub

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/sechlol/go-message-hub/internal/stats"
	"github.com/sechlol/go-message-hub/wire"
)

// Reason says why a client was disconnected. Its text is the name by which it is
// counted and logged.
type Reason uint8

// The reasons for which a connection ends.
const (
	ReasonLeft         Reason = iota // the client ended its side between two frames
	ReasonHalfFrame                  // it did so in the middle of one
	ReasonLost                       // the connection broke
	ReasonMalformed                  // a frame did not have the layout of its type
	ReasonTooLong                    // a frame or a body was over the limit
	ReasonFrameTimeout               // the rest of a frame did not come in time
	ReasonStalled                    // others waited for it, and it took nothing
	ReasonSlow                       // it held memory that others waited for
	ReasonShutdown                   // the hub was shut down
	ReasonTimeout                    // nothing was heard from it for two keep-alive intervals
	ReasonTakenOver                  // another connection has resumed its id
	ReasonVersion                    // it speaks a version that the hub does not
	ReasonHandshake                  // it did not agree on TLS, or did not say who it is in time
	ReasonRefused                    // it may not come in, or was one too many and resumed no session
	ReasonExpired                    // what it had shown is good no longer
	ReasonDisconnected               // Disconnect was called
	reasons
)

var reasonTexts = [reasons]string{
	"left", "half a frame", "connection lost", "malformed frame", "frame too long",
	"frame timeout", "stalled", "too slow for the memory it held", "shutdown",
	"keep-alive timeout", "taken over", "unknown version", "no handshake", "refused", "permission over",
	"disconnected by the operator",
}

// String returns the reason as it is logged.
func (r Reason) String() string {
	if r < reasons {
		return reasonTexts[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Reasons returns all of them.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// Stats is what a hub has seen and done since New.
type Stats struct {
	Uptime time.Duration // since New

	Clients      int                // connected now
	PeakClients  int                // the most at one time
	Connected    uint64             // connections accepted
	Refused      map[Refusal]uint64 // connections that were one too many, by reason; reasons that never occurred are absent
	Disconnected map[Reason]uint64  // by reason; reasons that never occurred are absent

	MessagesIn  uint64 // frames received, ignored ones included
	MessagesOut uint64 // frames written whole
	BytesIn     uint64 // on the wire
	BytesOut    uint64 // on the wire

	Relays      uint64 // requests to relay a body
	NoReceivers uint64 // of these: named nobody
	Ignored     uint64 // frames of reserved types, and empty ones
	Delivered   uint64 // copies of bodies written to a receiver's socket
	Unknown     uint64 // not delivered: no such client is connected
	Forbidden   uint64 // not delivered: the sender may not send to that client
	Gone        uint64 // not delivered: the receiver left, or was disconnected, before it was written, or no connection of it carried it
	TooLarge    uint64 // not delivered: the receiver has said in its HELLO that it takes no body of that size, perhaps when it came back

	Resumed uint64                    // connections that went on where another had ended
	Errors  map[wire.ErrorCode]uint64 // requests answered with an ERROR, by its code; those that never occurred are absent
	Fates   map[wire.Fate]uint64      // of messages that a client of version 2 wanted followed, one for each receiver; those that never occurred are absent

	Paced uint64 // how often a client was not read for a while because it was faster than it may be

	Untraced uint64 // messages that were to be traced and are not: too many at once, or Config.Trace did not take them

	QueuedBytes     int64 // memory held for clients now
	MaxQueuedBytes  int64 // that may be held: Config.MaxQueuedBytes
	PeakQueuedBytes int64 // at most this much at one time: the peak of reading and that of bodies

	AcceptErrors uint64 // failures to accept that the hub survived
}

// WriteTo prints the statistics for people.
func (s Stats) WriteTo(w io.Writer) (int64, error) {
	var t stats.Table
	t.Row("Time alive", "%v", s.Uptime.Round(time.Millisecond))
	var refused uint64
	for _, n := range s.Refused {
		refused += n
	}
	t.Row("Clients Connected", "%s (peak %s, refused %s)", count(s.Connected), count(s.PeakClients), count(refused))
	var gone uint64
	for _, n := range s.Disconnected {
		gone += n
	}
	t.Row("Clients Disconnected", "%s", count(gone))
	for reason := range reasons {
		if n := s.Disconnected[reason]; n > 0 {
			t.Row("  "+reason.String(), "%s", count(n))
		}
	}
	t.Row("Incoming Messages", "%s", count(s.MessagesIn))
	t.Row("Outgoing Messages", "%s", count(s.MessagesOut))
	t.Row("Bytes Read", "%s", size(s.BytesIn))
	t.Row("Bytes Written", "%s", size(s.BytesOut))
	t.Row("Relays", "%s (%s to nobody)", count(s.Relays), count(s.NoReceivers))
	t.Row("Delivered", "%s", count(s.Delivered))
	t.Row("Not Delivered", "%s", count(s.Unknown+s.Forbidden+s.Gone+s.TooLarge))
	t.Row("  no such client", "%s", count(s.Unknown))
	if s.Forbidden > 0 {
		t.Row("  forbidden", "%s", count(s.Forbidden))
	}
	t.Row("  gone before it was written", "%s", count(s.Gone))
	if s.TooLarge > 0 {
		t.Row("  too large for the receiver", "%s", count(s.TooLarge))
	}
	for fate := range wire.MaxFate + 1 {
		if n := s.Fates[fate]; n > 0 {
			t.Row("Fate "+fate.String(), "%s", count(n))
		}
	}
	if s.Resumed > 0 {
		t.Row("Resumed", "%s", count(s.Resumed))
	}
	if s.Untraced > 0 {
		t.Row("Not Traced", "%s", count(s.Untraced))
	}
	for _, code := range wire.ErrorCodes() {
		if n := s.Errors[code]; n > 0 {
			t.Row("Error: "+code.String(), "%s", count(n))
		}
	}
	t.Row("Frames Ignored", "%s", count(s.Ignored))
	t.Row("Accept Errors", "%s", count(s.AcceptErrors))
	t.Row("Incoming Messages per second", "%s", perSecond(s.MessagesIn, s.Uptime))
	t.Row("Outgoing Messages per second", "%s", perSecond(s.MessagesOut, s.Uptime))
	t.Row("Bytes Read per second", "%s", size(uint64(stats.Rate(s.BytesIn, s.Uptime))))
	t.Row("Bytes Written per second", "%s", size(uint64(stats.Rate(s.BytesOut, s.Uptime))))
	t.Row("Peak of Queued Bytes", "%s (%s)", humanize.Comma(s.PeakQueuedBytes), humanize.IBytes(uint64(s.PeakQueuedBytes)))
	return t.WriteTo(w)
}

func count[N int | uint64](n N) string { return humanize.Comma(int64(n)) }

func size(n uint64) string {
	return fmt.Sprintf("%s (%s)", humanize.Comma(int64(n)), humanize.Bytes(n))
}

func perSecond(n uint64, d time.Duration) string {
	return humanize.CommafWithDigits(stats.Rate(n, d), 1)
}

// counters are what Stats is read from. Whoever moves a message adds to them
// once per batch, not once per message.
type counters struct {
	connected                    atomic.Uint64
	refused                      [refusals]atomic.Uint64
	messagesIn, bytesIn          atomic.Uint64
	messagesOut, bytesOut        atomic.Uint64
	relays, noReceivers, ignored atomic.Uint64
	delivered, unknown           atomic.Uint64
	forbidden, gone, paced       atomic.Uint64
	tooLarge                     atomic.Uint64
	untraced                     atomic.Uint64
	acceptErrors                 atomic.Uint64
	resumed                      atomic.Uint64
	errors                       [wire.ErrorWatchers + 1]atomic.Uint64
	disconnected                 [reasons]atomic.Uint64
	fates                        [wire.MaxFate + 1]atomic.Uint64
}

// Stats returns the numbers of this moment. It may be called at any time.
func (h *Hub) Stats() Stats {
	c := &h.counters
	s := Stats{
		Uptime:       time.Since(h.started),
		Connected:    c.connected.Load(),
		Refused:      make(map[Refusal]uint64),
		Disconnected: make(map[Reason]uint64),
		Resumed:      c.resumed.Load(),
		Errors:       make(map[wire.ErrorCode]uint64),
		Fates:        make(map[wire.Fate]uint64),
		MessagesIn:   c.messagesIn.Load(),
		MessagesOut:  c.messagesOut.Load(),
		BytesIn:      c.bytesIn.Load(),
		BytesOut:     c.bytesOut.Load(),
		Relays:       c.relays.Load(),
		NoReceivers:  c.noReceivers.Load(),
		Ignored:      c.ignored.Load(),
		Delivered:    c.delivered.Load(),
		Unknown:      c.unknown.Load(),
		Gone:         c.gone.Load(),
		Forbidden:    c.forbidden.Load(),
		TooLarge:     c.tooLarge.Load(),
		Paced:        c.paced.Load(),
		Untraced:     c.untraced.Load(),
		AcceptErrors: c.acceptErrors.Load(),

		MaxQueuedBytes: h.config.MaxQueuedBytes,
	}
	s.Clients, s.PeakClients = h.roster.Size()
	for reason := range reasons {
		if n := c.disconnected[reason].Load(); n > 0 {
			s.Disconnected[reason] = n
		}
		for why := range refusals {
			if n := c.refused[why].Load(); n > 0 {
				s.Refused[why] = n
			}
		}
	}
	for _, code := range wire.ErrorCodes() {
		if n := c.errors[code].Load(); n > 0 {
			s.Errors[code] = n
		}
	}
	for fate := range c.fates {
		if n := c.fates[fate].Load(); n > 0 {
			s.Fates[wire.Fate(fate)] = n
		}
	}
	bodies, peakBodies := h.bodies.Used()
	reads, peakReads := h.reads.Used()
	s.QueuedBytes, s.PeakQueuedBytes = bodies+reads, peakBodies+peakReads
	return s
}
