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

// Stats are the statistics of a hub since New. A reason, error code or fate that never
// occurred is absent from its map.
type Stats struct {
	Uptime time.Duration // since New

	Clients     int // connected now
	PeakClients int // maximum of Clients

	// ClusterClients is the number of clients of all hubs of the cluster that this hub knows,
	// Clients included. Without a cluster it is equal to Clients.
	ClusterClients int

	Connected    uint64                  // connections accepted
	WebSockets   uint64                  // those of them that became WebSockets
	Rejected     map[RejectReason]uint64 // connections rejected, by reason
	Disconnected map[CloseReason]uint64  // clients disconnected, by reason

	MessagesIn  uint64 // frames received, including ignored frames
	MessagesOut uint64 // frames written completely
	BytesIn     uint64 // on the wire
	BytesOut    uint64 // on the wire

	Relays      uint64                // requests to relay a body
	NoReceivers uint64                // requests of these that named no receiver
	Ignored     uint64                // frames of reserved types, and empty frames
	Delivered   uint64                // copies of bodies written to a receiver's socket
	Dropped     map[DropReason]uint64 // copies of bodies not delivered, by reason

	Resumed uint64                    // connections that resumed a session
	Renewed uint64                    // tokens renewed on a living connection
	Errors  map[wire.ErrorCode]uint64 // requests answered with ERROR, by code

	// Fates counts one fate per receiver of each message for which a v2 client requested a
	// report.
	Fates map[wire.Fate]uint64

	// RateLimited is how often the hub paused reading from a client that exceeded its rate limit.
	RateLimited uint64

	// TracesDropped counts sampled messages that were not traced because too many traces were
	// open or Config.OnTrace returned false.
	TracesDropped uint64

	QueuedBytes    int64 // memory held for clients now
	MaxQueuedBytes int64 // limit of QueuedBytes: Config.MaxQueuedBytes

	// PeakQueuedBytes is an upper bound of the maximum of QueuedBytes: the sum of the peaks of
	// the memory for reading and the memory for bodies.
	PeakQueuedBytes int64

	AcceptErrors uint64 // temporary accept errors
}

// WriteTo writes the statistics to w as a readable table.
func (s Stats) WriteTo(w io.Writer) (int64, error) {
	var t stats.Table
	t.Row("Uptime", "%v", s.Uptime.Round(time.Millisecond))
	t.Row("Clients Connected", "%s (peak %s, rejected %s)", formatCount(s.Connected), formatCount(s.PeakClients), formatCount(sum(s.Rejected)))
	t.Row("Clients Disconnected", "%s", formatCount(sum(s.Disconnected)))
	for reason := range numCloseReasons {
		if n := s.Disconnected[reason]; n > 0 {
			t.Row("  "+reason.String(), "%s", formatCount(n))
		}
	}
	t.Row("Incoming Messages", "%s", formatCount(s.MessagesIn))
	t.Row("Outgoing Messages", "%s", formatCount(s.MessagesOut))
	t.Row("Bytes Read", "%s", formatBytes(s.BytesIn))
	t.Row("Bytes Written", "%s", formatBytes(s.BytesOut))
	t.Row("Relays", "%s (%s without receivers)", formatCount(s.Relays), formatCount(s.NoReceivers))
	t.Row("Delivered", "%s", formatCount(s.Delivered))
	t.Row("Not Delivered", "%s", formatCount(sum(s.Dropped)))
	for reason := range numDropReasons {
		if n, info := s.Dropped[reason], &dropReasons[reason]; n > 0 || info.alwaysRow {
			t.Row("  "+info.row, "%s", formatCount(n))
		}
	}
	for fate := range wire.MaxFate + 1 {
		if n := s.Fates[fate]; n > 0 {
			t.Row("Fate "+fate.String(), "%s", formatCount(n))
		}
	}
	if s.Resumed > 0 {
		t.Row("Resumed", "%s", formatCount(s.Resumed))
	}
	if s.Renewed > 0 {
		t.Row("Tokens Renewed", "%s", formatCount(s.Renewed))
	}
	if s.TracesDropped > 0 {
		t.Row("Traces Dropped", "%s", formatCount(s.TracesDropped))
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
	t.Row("Peak Queued Bytes", "%s (%s)", humanize.Comma(s.PeakQueuedBytes), humanize.IBytes(uint64(s.PeakQueuedBytes)))
	return t.WriteTo(w)
}

// sum returns the sum of the counts of all reasons.
func sum[R comparable](counts map[R]uint64) (total uint64) {
	for _, n := range counts {
		total += n
	}
	return total
}

func formatCount[N int | uint64](n N) string { return humanize.Comma(int64(n)) }

func formatBytes(n uint64) string {
	return fmt.Sprintf("%s (%s)", humanize.Comma(int64(n)), humanize.Bytes(n))
}

func formatRate(n uint64, d time.Duration) string {
	return humanize.CommafWithDigits(stats.Rate(n, d), 1)
}

// counters are the counters behind Stats. Code on the path of a message adds to them once per
// batch, not once per message.
type counters struct {
	connected, webSockets        atomic.Uint64
	rejected                     [numRejectReasons]atomic.Uint64
	messagesIn, bytesIn          atomic.Uint64
	messagesOut, bytesOut        atomic.Uint64
	relays, noReceivers, ignored atomic.Uint64
	delivered                    atomic.Uint64
	dropped                      [numDropReasons]atomic.Uint64
	rateLimited                  atomic.Uint64
	acceptErrors                 atomic.Uint64
	resumed, renewed             atomic.Uint64
	errors                       [wire.ErrorRenewLater + 1]atomic.Uint64
	disconnected                 [numCloseReasons]atomic.Uint64
}

// recordDrop counts n bodies that were not delivered to a receiver.
func (c *counters) recordDrop(reason DropReason, n int) { c.dropped[reason].Add(uint64(n)) }

// recordSend counts one message of Hub.Send.
func (c *counters) recordSend(receivers int) {
	c.relays.Add(1)
	if receivers == 0 {
		c.noReceivers.Add(1)
	}
}

// snapshot returns Stats with the values of all counters, and these numbers of clients.
func (c *counters) snapshot(clients, peakClients int) Stats {
	return Stats{
		Clients:      clients,
		PeakClients:  peakClients,
		Connected:    c.connected.Load(),
		WebSockets:   c.webSockets.Load(),
		Rejected:     loadCounts[RejectReason](c.rejected[:]),
		Disconnected: loadCounts[CloseReason](c.disconnected[:]),
		Resumed:      c.resumed.Load(),
		Renewed:      c.renewed.Load(),
		Errors:       loadCounts[wire.ErrorCode](c.errors[:]),
		MessagesIn:   c.messagesIn.Load(),
		MessagesOut:  c.messagesOut.Load(),
		BytesIn:      c.bytesIn.Load(),
		BytesOut:     c.bytesOut.Load(),
		Relays:       c.relays.Load(),
		NoReceivers:  c.noReceivers.Load(),
		Ignored:      c.ignored.Load(),
		Delivered:    c.delivered.Load(),
		Dropped:      loadCounts[DropReason](c.dropped[:]),
		RateLimited:  c.rateLimited.Load(),
		AcceptErrors: c.acceptErrors.Load(),
	}
}
