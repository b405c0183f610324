package web

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxHeaderBytes is the maximum size of the head of a request: 8 KiB. Package http adds
	// httpSlop to its limit.
	maxHeaderBytes = 8<<10 - httpSlop
	httpSlop       = 4 << 10

	// maxPending is the maximum number of connections whose request is not answered. Each takes
	// 15 KiB, 21 KiB with 7 KiB of a head, and over TLS at most 48 KiB (docs/decisions/0020).
	maxPending = 1000
)

// Server serves requests that become WebSockets, or end with their response: no connection is
// kept alive for another request.
type Server struct {
	http    http.Server
	handler http.Handler
	pending pendingConns
}

// ServerConfig configures a Server.
type ServerConfig struct {
	Handler http.Handler
	Timeout time.Duration // for the TLS handshake, then for the request, and then for the response
	Logger  *slog.Logger  // gets what package http logs, at the level debug

	// OnEvicted is called for each connection that was closed because too many have not completed
	// their request. It must not block.
	OnEvicted func(net.Addr)
}

// NewServer returns a server for config.
func NewServer(config ServerConfig) *Server {
	s := &Server{handler: config.Handler, pending: pendingConns{max: maxPending, onEvicted: config.OnEvicted}}
	s.http = http.Server{
		Handler:           http.HandlerFunc(s.handle),
		ReadHeaderTimeout: config.Timeout,
		ReadTimeout:       config.Timeout,
		WriteTimeout:      config.Timeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         s.pending.onState,
		ErrorLog:          slog.NewLogLogger(config.Logger.Handler(), slog.LevelDebug),
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.SetKeepAlivesEnabled(false)
	return s
}

// Serve serves the connections of ln until ctx ends or ln fails. It closes ln and each connection
// that is not a WebSocket, and returns when no request is being handled any more. It returns nil
// if ctx has ended. It must be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := make(chan struct{})
	go func() { // ends with Serve, which waits for it
		defer close(closed)
		<-ctx.Done()
		_ = s.http.Close() // closes ln, whose error has no consequence
	}()
	err := s.http.Serve(ln)
	ended := ctx.Err() != nil
	cancel()
	<-closed
	_ = s.http.Close() // closes a connection that ln returned during the first Close
	s.pending.wg.Wait()
	if ended || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("web: %w", err)
}

// handle serves a request. Its connection counts as pending until Hijack or the response; the
// handler is waited for in both cases.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	s.pending.wg.Add(1)
	defer s.pending.wg.Done()
	s.handler.ServeHTTP(w, r)
}

// pendingConns are the connections whose request is not answered. When there are too many, the
// oldest one makes room: connections that send nothing, however many, do not keep out a client
// that sends its request at once.
type pendingConns struct {
	// Static.
	max       int
	onEvicted func(net.Addr)

	wg sync.WaitGroup // connections, and handlers

	// mu guards the fields below.
	mu    sync.Mutex
	order list.List // of *pendingConn, in the order in which they came
	elems map[net.Conn]*list.Element
}

// pendingConn is a connection and its peer. Once it is a WebSocket, its address can be another.
type pendingConn struct {
	net.Conn
	from net.Addr
}

// onState is http.Server.ConnState.
func (p *pendingConns) onState(nc net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.add(nc)
	case http.StateHijacked, http.StateClosed:
		p.remove(nc)
	}
}

func (p *pendingConns) add(nc net.Conn) {
	p.wg.Add(1)
	if oldest := p.push(nc); oldest != nil {
		closeNow(oldest.Conn)
		p.onEvicted(oldest.from)
	}
}

// push adds nc. If there are too many connections then, it removes and returns the oldest one.
func (p *pendingConns) push(nc net.Conn) (oldest *pendingConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.elems == nil {
		p.elems = make(map[net.Conn]*list.Element)
	}
	p.elems[nc] = p.order.PushBack(&pendingConn{nc, nc.RemoteAddr()})
	if len(p.elems) <= p.max {
		return nil
	}
	oldest = p.order.Remove(p.order.Front()).(*pendingConn)
	delete(p.elems, oldest.Conn)
	return oldest
}

func (p *pendingConns) remove(nc net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.elems[nc]; ok {
		p.order.Remove(e)
		delete(p.elems, nc)
	}
	p.wg.Done()
}

// closeNow closes nc without the alert of TLS, for which crypto/tls would wait up to 5 s.
func closeNow(nc net.Conn) {
	if tlsConn, ok := nc.(*tls.Conn); ok {
		nc = tlsConn.NetConn()
	}
	nc.Close()
}
