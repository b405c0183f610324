package hub

import (
	"errors"
	"net"
	"sync/atomic"
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

// admitter decides which connections the hub accepts. All methods can be called concurrently.
type admitter struct {
	// Static after New.
	hub      *Hub
	ipLimits *admission.IPLimiter

	maxClients atomic.Int64 // the maximum number of clients, loaded for each new connection
}

// recordReject counts and logs a rejected connection.
func (a *admitter) recordReject(reason RejectReason, addr net.Addr) {
	a.hub.counters.rejected[reason].Add(1)
	a.hub.limitedLog.LogWarn("connection refused", "reason", reason.String(), "address", addr.String())
}

// recordRefused counts and logs a connection that was rejected because of err.
func (a *admitter) recordRefused(reason RejectReason, addr net.Addr, err error) {
	a.hub.counters.rejected[reason].Add(1)
	a.hub.limitedLog.LogWarn("connection refused", "reason", reason.String(), "address", addr.String(), "error", err)
}

// recordInvalidHeader counts and logs a connection without a valid PROXY header.
func (a *admitter) recordInvalidHeader(addr net.Addr, err error) {
	a.recordRefused(RejectHeader, addr, err)
}

// warnUnexpectedHeader logs an unexpected PROXY header if err, which ended a connection, shows
// that the connection began with one. first says that it ended with its first frame or before.
func (a *admitter) warnUnexpectedHeader(addr net.Addr, err error, first bool) {
	if beganWithProxyHeader(err, first) {
		a.hub.limitedLog.LogWarn("unexpected PROXY header", "address", addr.String(),
			"advice", "if that is the address of a load balancer, accept its headers with -proxy-protocol and -proxy-trusted, or Hub.NewProxyListener")
	}
}

// reject closes a connection before its first byte is read. If the hub accepts only v2, it
// sends a GOAWAY with the reason, but not over TLS, where the handshake would cost more than
// the rejection saves. The write does not block because the kernel has room for the first
// bytes of a connection.
func (a *admitter) reject(nc net.Conn, reason RejectReason) {
	a.recordReject(reason, nc.RemoteAddr())
	if tcp, ok := socket.TCP(nc); ok && a.hub.config.DisableV1 {
		_, _ = tcp.Write(rejectFrames[reason]) // the client can be gone already
	}
	nc.Close()
}

// admit creates and starts the conn of an accepted connection, or rejects the connection,
// before its first byte is read.
func (a *admitter) admit(nc net.Conn) {
	c, err := a.accept(nc, 0)
	var rejected rejectedError
	switch {
	case err == nil:
		c.start(nc)
	case errors.As(err, &rejected):
		a.reject(nc, rejected.reason)
	default:
		nc.Close()
	}
}

// rejectedError says that a connection was rejected for a limit.
type rejectedError struct{ reason RejectReason }

func (e rejectedError) Error() string { return e.reason.String() }

// accept creates the conn of an accepted connection, which has these flags. It returns a
// rejectedError if a limit does not permit the connection, and ErrClosed after Shutdown; nc then
// still belongs to the caller. Otherwise start or finishReading must be called for the conn.
func (a *admitter) accept(nc net.Conn, flags connFlag) (*conn, error) {
	if m := a.hub.member.Load(); m != nil && !m.Valid() {
		return nil, rejectedError{RejectCluster}
	}
	addr, now := nc.RemoteAddr(), time.Now()
	ipState, err := a.ipLimits.Acquire(addr, now)
	switch {
	case errors.Is(err, admission.ErrTooMany):
		return nil, rejectedError{RejectAddress}
	case errors.Is(err, admission.ErrTooFast):
		return nil, rejectedError{RejectRate}
	}
	c := newConn(a.hub, nc, flags)
	c.ipState = ipState
	if ipState == admission.Provisional {
		c.provisional, c.rejectReason = true, RejectAddress
	}
	switch a.hub.conns.add(c, int(a.maxClients.Load())) {
	case addClosed:
		a.ipLimits.Release(addr, ipState, now)
		return nil, ErrClosed
	case addFull:
		a.ipLimits.Release(addr, ipState, now)
		return nil, rejectedError{c.rejectReason}
	}
	if !a.hub.auth.required() { // finishReading gives the bucket back
		c.rate.limiter = a.hub.buckets.NewRateLimiter("", addr, a.hub.rates, now)
	}
	a.hub.counters.connected.Add(1)
	return c, nil
}
