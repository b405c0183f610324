package hub

import (
	"errors"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/internal/admission"
	"github.com/sechlol/go-message-hub/internal/socket"
	"github.com/sechlol/go-message-hub/wire"
)

// rejectFrames holds the GOAWAY frame that the hub sends to a rejected client, by reason.
var rejectFrames = func() (frames [numRejectReasons][]byte) {
	for why := range numRejectReasons {
		frames[why] = wire.AppendGoAway(nil, &wire.GoAway{
			Code: wire.GoAwayBusy, Reason: why.String(), Reconnect: true, After: int(rejectRetryDelay.Milliseconds()),
		})
	}
	return frames
}()

// rejectRetryDelay is the reconnect delay in the GOAWAY to a rejected client. The client adds
// a random delay of its own.
const rejectRetryDelay = time.Second

// recordReject counts and logs a rejected connection.
func (h *Hub) recordReject(reason RejectReason, addr net.Addr) {
	h.counters.rejected[reason].Add(1)
	h.limitedLog.LogWarn("connection refused", "reason", reason.String(), "address", addr.String())
}

// reject closes a connection before its first byte is read. If the hub accepts only v2, it
// sends a GOAWAY with the reason, but not over TLS, where the handshake would cost more than
// the rejection saves. The write does not block because the kernel has room for the first
// bytes of a connection.
func (h *Hub) reject(nc net.Conn, reason RejectReason) {
	h.recordReject(reason, nc.RemoteAddr())
	if tcp, ok := socket.TCP(nc); ok && h.config.DisableV1 {
		_, _ = tcp.Write(rejectFrames[reason]) // the client can be gone already
	}
	nc.Close()
}

// startConn creates and starts the conn of an accepted connection, before its first byte is
// read.
func (h *Hub) startConn(nc net.Conn) {
	addr, now := nc.RemoteAddr(), time.Now()
	ipState, err := h.ipLimits.Acquire(addr, now)
	switch {
	case errors.Is(err, admission.ErrTooMany):
		h.reject(nc, RejectAddress)
		return
	case errors.Is(err, admission.ErrTooFast):
		h.reject(nc, RejectRate)
		return
	}
	c := newConn(h, nc)
	c.ipState = ipState
	if ipState == admission.Provisional {
		c.provisional, c.rejectReason = true, RejectAddress
	}
	switch h.conns.add(c, int(h.maxClients.Load())) {
	case addClosed:
		nc.Close()
	case addFull:
		h.ipLimits.Release(addr, ipState, now)
		h.reject(nc, c.rejectReason)
	case addOK:
		h.counters.connected.Add(1)
		c.start(nc)
	}
}
