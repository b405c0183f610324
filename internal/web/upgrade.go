package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// Upgrader makes a WebSocket of the connection of a request that Rules.Check has accepted.
type Upgrader struct {
	Subprotocol string
	Timeout     time.Duration // to write the response
	RetryAfter  time.Duration // after which a client that Admit rejects can come back

	// Admit accepts the connection, or says why not. The text of the error is sent to the client.
	// After an error the connection still belongs to the Upgrader, which closes it.
	Admit func(net.Conn) error
}

// Upgrade takes the connection of r from its HTTP server, has it admitted, and then writes the
// response. It returns nil if the connection is a WebSocket now.
//
// It returns an *Error without having called Admit if there are bytes behind the request, of which
// package http has read some: a client must wait for the response. So it does if the connection
// cannot be taken.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request) error {
	nc, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		unable := NewError(http.StatusInternalServerError, "this server cannot upgrade a connection: %v", err)
		unable.Write(w)
		return unable
	}
	_ = nc.SetWriteDeadline(time.Now().Add(u.Timeout)) // fails only on a closed connection, as writing does
	if rw.Reader.Buffered() > 0 {
		early := NewError(http.StatusBadRequest, "the client must wait for the response before it sends anything")
		early.writeAndClose(nc, 0)
		return early
	}
	if err := u.Admit(nc); err != nil {
		NewError(http.StatusServiceUnavailable, "%v", err).writeAndClose(nc, u.RetryAfter)
		return err
	}
	upgrader := ws.HTTPUpgrader{Timeout: u.Timeout, Protocol: func(name string) bool { return name == u.Subprotocol }}
	if _, _, _, err = upgrader.Upgrade(u.plainRequest(r), hijacked{w, nc, rw}); err != nil {
		return fmt.Errorf("upgrade: %w", err)
	}
	return nil
}

// plainRequest returns r, which Rules.Check has accepted, with one line and one value for each
// header of the upgrade. gobwas/ws reads no further line, and would answer a request by its own
// rules when the connection is admitted already.
func (u *Upgrader) plainRequest(r *http.Request) *http.Request {
	return &http.Request{
		Method: r.Method, ProtoMajor: r.ProtoMajor, ProtoMinor: r.ProtoMinor, Host: r.Host,
		Header: http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {version},
			"Sec-Websocket-Key": r.Header["Sec-Websocket-Key"], "Sec-Websocket-Protocol": {u.Subprotocol},
		},
	}
}

// writeAndClose answers a request whose connection was hijacked.
func (e *Error) writeAndClose(nc net.Conn, retryAfter time.Duration) {
	defer nc.Close()
	response := http.Response{
		StatusCode: e.Status, ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header:        http.Header{"Content-Type": {"text/plain; charset=utf-8"}, "X-Content-Type-Options": {"nosniff"}},
		ContentLength: int64(len(e.text) + 1),
		Body:          io.NopCloser(strings.NewReader(e.text + "\n")),
	}
	if retryAfter > 0 {
		response.Header.Set("Retry-After", strconv.Itoa(max(1, int(retryAfter.Seconds()))))
	}
	_ = response.Write(nc) // the client can be gone already
}

// hijacked is the ResponseWriter of a request whose connection was hijacked already.
type hijacked struct {
	http.ResponseWriter
	nc net.Conn
	rw *bufio.ReadWriter
}

// Hijack implements http.Hijacker.
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return writeDeadlines{h.nc}, h.rw, nil
}

// writeDeadlines is a connection without read deadlines. The deadlines of gobwas/ws must not
// replace that of an interrupt, which can come once the connection is admitted.
type writeDeadlines struct{ net.Conn }

// SetDeadline implements net.Conn.
func (c writeDeadlines) SetDeadline(t time.Time) error { return c.SetWriteDeadline(t) }
