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

// CloseReason says why a client was disconnected. Its text is the name by which it is
// counted and logged.
type CloseReason uint8

// The reasons for which a connection ends.
const (
	CloseLeft         CloseReason = iota // the client ended its side between two frames
	CloseHalfFrame                       // it did so in the middle of one
	CloseLost                            // the connection broke
	CloseMalformed                       // a frame did not have the layout of its type
	CloseTooLong                         // a frame or a body was over the limit
	CloseFrameTimeout                    // the rest of a frame did not come in time
	CloseStalled                         // others waited for it, and it took nothing
	CloseSlow                            // it held memory that others waited for
	CloseShutdown                        // the hub was shut down
	CloseTimeout                         // nothing was heard from it for two keep-alive intervals
	CloseTakenOver                       // another connection has resumed its id
	CloseVersion                         // it speaks a version that the hub does not
	CloseHandshake                       // it did not agree on TLS, or did not say who it is in time
	CloseRefused                         // it may not come in, or was one too many and resumed no session
	CloseExpired                         // what it had shown is good no longer
	CloseDisconnected                    // Disconnect was called
	numCloseReasons
)

var closeReasonTexts = [numCloseReasons]string{
	"left", "half a frame", "connection lost", "malformed frame", "frame too long",
	"frame timeout", "stalled", "too slow for the memory it held", "shutdown",
	"keep-alive timeout", "taken over", "unknown version", "no handshake", "refused", "permission over",
	"disconnected by the operator",
}

// String returns the reason as it is logged.
func (r CloseReason) String() string {
	if r < numCloseReasons {
		return closeReasonTexts[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// CloseReasons returns all of them.
func CloseReasons() []CloseReason {
	list := make([]CloseReason, numCloseReasons)
	for i := range list {
		list[i] = CloseReason(i)
	}
	return list
}

// Stats is what a hub has seen and done since New.
type Stats struct {
	Uptime time.Duration // since New

	Clients      int                     // connected now
	PeakClients  int                     // the most at one time
	Connected    uint64                  // connections accepted
	Rejected     map[RejectReason]uint64 // connections that were one too many, by reason; reasons that never occurred are absent
	Disconnected map[CloseReason]uint64  // by reason; reasons that never occurred are absent

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

	RateLimited uint64 // how often a client was not read for a while because it was faster than it may be

	TracesDropped uint64 // messages that were to be traced and are not: too many at once, or Config.OnTrace did not take them

	QueuedBytes     int64 // memory held for clients now
	MaxQueuedBytes  int64 // that may be held: Config.MaxQueuedBytes
	PeakQueuedBytes int64 // at most this much at one time: the peak of reading and that of bodies

	AcceptErrors uint64 // failures to accept that the hub survived
}

// WriteTo prints the statistics for people.
func (s Stats) WriteTo(w io.Writer) (int64, error) {
	var t stats.Table
	t.Row("Time alive", "%v", s.Uptime.Round(time.Millisecond))
	var rejected uint64
	for _, n := range s.Rejected {
		rejected += n
	}
	t.Row("Clients Connected", "%s (peak %s, refused %s)", formatCount(s.Connected), formatCount(s.PeakClients), formatCount(rejected))
	var disconnected uint64
	for _, n := range s.Disconnected {
		disconnected += n
	}
	t.Row("Clients Disconnected", "%s", formatCount(disconnected))
	for reason := range numCloseReasons {
		if n := s.Disconnected[reason]; n > 0 {
			t.Row("  "+reason.String(), "%s", formatCount(n))
		}
	}
	t.Row("Incoming Messages", "%s", formatCount(s.MessagesIn))
	t.Row("Outgoing Messages", "%s", formatCount(s.MessagesOut))
	t.Row("Bytes Read", "%s", formatBytes(s.BytesIn))
	t.Row("Bytes Written", "%s", formatBytes(s.BytesOut))
	t.Row("Relays", "%s (%s to nobody)", formatCount(s.Relays), formatCount(s.NoReceivers))
	t.Row("Delivered", "%s", formatCount(s.Delivered))
	t.Row("Not Delivered", "%s", formatCount(s.Unknown+s.Forbidden+s.Gone+s.TooLarge))
	t.Row("  no such client", "%s", formatCount(s.Unknown))
	if s.Forbidden > 0 {
		t.Row("  forbidden", "%s", formatCount(s.Forbidden))
	}
	t.Row("  gone before it was written", "%s", formatCount(s.Gone))
	if s.TooLarge > 0 {
		t.Row("  too large for the receiver", "%s", formatCount(s.TooLarge))
	}
	for fate := range wire.MaxFate + 1 {
		if n := s.Fates[fate]; n > 0 {
			t.Row("Fate "+fate.String(), "%s", formatCount(n))
		}
	}
	if s.Resumed > 0 {
		t.Row("Resumed", "%s", formatCount(s.Resumed))
	}
	if s.TracesDropped > 0 {
		t.Row("Not Traced", "%s", formatCount(s.TracesDropped))
	}
	for _, code := range wire.ErrorCodes() {
		if n := s.Errors[code]; n > 0 {
			t.Row("Error: "+code.String(), "%s", formatCount(n))
		}
	}
	t.Row("Frames Ignored", "%s", formatCount(s.Ignored))
	t.Row("Accept Errors", "%s", formatCount(s.AcceptErrors))
	t.Row("Incoming Messages per second", "%s", formatRate(s.MessagesIn, s.Uptime))
	t.Row("Outgoing Messages per second", "%s", formatRate(s.MessagesOut, s.Uptime))
	t.Row("Bytes Read per second", "%s", formatBytes(uint64(stats.Rate(s.BytesIn, s.Uptime))))
	t.Row("Bytes Written per second", "%s", formatBytes(uint64(stats.Rate(s.BytesOut, s.Uptime))))
	t.Row("Peak of Queued Bytes", "%s (%s)", humanize.Comma(s.PeakQueuedBytes), humanize.IBytes(uint64(s.PeakQueuedBytes)))
	return t.WriteTo(w)
}

func formatCount[N int | uint64](n N) string { return humanize.Comma(int64(n)) }

func formatBytes(n uint64) string {
	return fmt.Sprintf("%s (%s)", humanize.Comma(int64(n)), humanize.Bytes(n))
}

func formatRate(n uint64, d time.Duration) string {
	return humanize.CommafWithDigits(stats.Rate(n, d), 1)
}

// counters are what Stats is read from. Whoever moves a message adds to them
// once per batch, not once per message.
type counters struct {
	connected                    atomic.Uint64
	rejected                     [numRejectReasons]atomic.Uint64
	messagesIn, bytesIn          atomic.Uint64
	messagesOut, bytesOut        atomic.Uint64
	relays, noReceivers, ignored atomic.Uint64
	delivered, unknown           atomic.Uint64
	forbidden, gone, rateLimited atomic.Uint64
	tooLarge                     atomic.Uint64
	tracesDropped                atomic.Uint64
	acceptErrors                 atomic.Uint64
	resumed                      atomic.Uint64
	errors                       [wire.ErrorWatchers + 1]atomic.Uint64
	disconnected                 [numCloseReasons]atomic.Uint64
	fates                        [wire.MaxFate + 1]atomic.Uint64
}

// Stats returns the numbers of this moment. It may be called at any time.
func (h *Hub) Stats() Stats {
	c := &h.counters
	s := Stats{
		Uptime:        time.Since(h.started),
		Connected:     c.connected.Load(),
		Rejected:      make(map[RejectReason]uint64),
		Disconnected:  make(map[CloseReason]uint64),
		Resumed:       c.resumed.Load(),
		Errors:        make(map[wire.ErrorCode]uint64),
		Fates:         make(map[wire.Fate]uint64),
		MessagesIn:    c.messagesIn.Load(),
		MessagesOut:   c.messagesOut.Load(),
		BytesIn:       c.bytesIn.Load(),
		BytesOut:      c.bytesOut.Load(),
		Relays:        c.relays.Load(),
		NoReceivers:   c.noReceivers.Load(),
		Ignored:       c.ignored.Load(),
		Delivered:     c.delivered.Load(),
		Unknown:       c.unknown.Load(),
		Gone:          c.gone.Load(),
		Forbidden:     c.forbidden.Load(),
		TooLarge:      c.tooLarge.Load(),
		RateLimited:   c.rateLimited.Load(),
		TracesDropped: c.tracesDropped.Load(),
		AcceptErrors:  c.acceptErrors.Load(),

		MaxQueuedBytes: h.config.MaxQueuedBytes,
	}
	s.Clients, s.PeakClients = h.roster.Size()
	for reason := range numCloseReasons {
		if n := c.disconnected[reason].Load(); n > 0 {
			s.Disconnected[reason] = n
		}
		for rejectReason := range numRejectReasons {
			if n := c.rejected[rejectReason].Load(); n > 0 {
				s.Rejected[rejectReason] = n
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
