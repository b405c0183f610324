package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"testing"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/internal/certs/testcerts"
	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/wire"
)

// webServer is the web address of a testHub, over TCP or TLS.
type webServer struct {
	handler   *hub.WebHandler
	addr      string
	memory    *memorypipe.Listener // nil: it listens on addr
	clientTLS *tls.Config          // nil: no TLS
	served    chan error           // the result of Serve
}

// serveWeb serves WebSockets of h until h is shut down, over TLS if secure is set.
func (h *testHub) serveWeb(t testing.TB, config hub.WebConfig, secure bool) *webServer {
	t.Helper()
	if !secure {
		return h.serveWebOn(t, config, listen(t), nil)
	}
	authority := testcerts.NewAuthority(t)
	serverTLS := &tls.Config{Certificates: []tls.Certificate{authority.IssueLocal().TLS(t)}, NextProtos: []string{"http/1.1"}}
	return h.serveWebOn(t, config, hub.NewTLSListener(listen(t), serverTLS), &tls.Config{RootCAs: authority.Pool(), ServerName: "localhost"})
}

// serveWebOn is serveWeb on ln. clientTLS is what its clients need; nil: no TLS.
func (h *testHub) serveWebOn(t testing.TB, config hub.WebConfig, ln net.Listener, clientTLS *tls.Config) *webServer {
	t.Helper()
	handler, err := hub.NewWebHandler(h.Hub, config)
	if err != nil {
		t.Fatal(err)
	}
	memory, _ := ln.(*memorypipe.Listener)
	h.web = &webServer{handler: handler, addr: ln.Addr().String(), memory: memory, clientTLS: clientTLS, served: make(chan error, 1)}
	// The goroutine ends with Shutdown; finish waits for Serve.
	go func() { h.web.served <- handler.Serve(context.WithoutCancel(t.Context()), ln) }()
	return h.web
}

// dial returns a new connection to the web address, over which nothing was sent.
func (w *webServer) dial() (net.Conn, error) {
	if w.memory != nil {
		return w.memory.Dial()
	}
	nc, err := net.Dial("tcp", w.addr)
	if err != nil || w.clientTLS == nil {
		return nc, err
	}
	return tls.Client(nc, w.clientTLS), nil
}

// url returns the URL of the web address.
func (w *webServer) url() *url.URL {
	scheme := "ws"
	if w.clientTLS != nil {
		scheme = "wss"
	}
	return &url.URL{Scheme: scheme, Host: w.addr, Path: wire.WebPath}
}

// dialWebSocket returns a new WebSocket as a stream, whose request has these headers.
func (w *webServer) dialWebSocket(header http.Header) (net.Conn, error) {
	nc, err := w.dial()
	if err != nil {
		return nil, err
	}
	dialer := ws.Dialer{Protocols: []string{wire.Subprotocol}, Header: ws.HandshakeHeaderHTTP(header)}
	buffered, hs, err := dialer.Upgrade(nc, w.url())
	switch {
	case err != nil:
	case hs.Protocol != wire.Subprotocol:
		err = fmt.Errorf("the subprotocol is %q", hs.Protocol)
	case buffered != nil:
		err = errors.New("the hub has sent something before HELLO")
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return newWebSocketStream(nc), nil
}

// webSocketStream is the client side of a WebSocket as a stream of bytes, for a client that does
// not know WebSockets. It cuts the stream into messages and fragments at random places, and checks
// that each message of the hub holds whole frames.
type webSocketStream struct {
	net.Conn

	// Owned by the goroutine that reads.
	r         *bufio.Reader
	remaining int64     // bytes of the payload of the current WebSocket frame
	final     bool      // the current WebSocket frame ends its message
	frames    frameScan // of the hub
	status    ws.StatusCode
	err       error // that ended the reading; nil: none

	writing chan struct{} // capacity 1: held by the goroutine that writes; virtual time passes for others
	rnd     *rand.Rand    // owned by that goroutine
}

func newWebSocketStream(nc net.Conn) *webSocketStream {
	return &webSocketStream{Conn: nc, r: bufio.NewReader(nc), writing: make(chan struct{}, 1), rnd: rand.New(rand.NewPCG(1, 2))}
}

// Read implements net.Conn. It answers control frames. A Close frame is the end of the stream.
func (s *webSocketStream) Read(p []byte) (int, error) {
	for s.remaining == 0 && s.err == nil {
		if err := s.nextFrame(); err != nil {
			return 0, err
		}
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.remaining)])
	s.remaining -= int64(n)
	s.frames.add(p[:n])
	if s.remaining == 0 && s.final && !s.frames.whole() {
		s.err = errors.New("a message of the hub ends within a frame")
	}
	return n, err
}

// nextFrame reads the next header. After a timeout it can be called again.
func (s *webSocketStream) nextFrame() error {
	h, err := peekHeader(s.r)
	if err != nil {
		return err
	}
	switch {
	case h.Masked || h.Rsv != 0:
		s.err = fmt.Errorf("the hub has sent the header %+v", h)
	case h.OpCode.IsControl():
		err = s.handleControl(h)
	case h.OpCode == ws.OpBinary || h.OpCode == ws.OpContinuation:
		s.discardHeader(h)
		s.remaining, s.final = h.Length, h.Fin
	default:
		s.err = fmt.Errorf("the hub has sent the opcode %d", h.OpCode)
	}
	return err
}

func (s *webSocketStream) discardHeader(h ws.Header) { _, _ = s.r.Discard(ws.HeaderSize(h)) } // was peeked

// peekHeader returns the next header without consuming it.
func peekHeader(r *bufio.Reader) (ws.Header, error) {
	for n := ws.MinHeaderSize; ; n++ {
		b, err := r.Peek(n)
		if err != nil {
			return ws.Header{}, err
		}
		h, err := ws.ReadHeader(bytes.NewReader(b))
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return h, err
		}
	}
}

// handleControl answers a control frame, once it has arrived as a whole.
func (s *webSocketStream) handleControl(h ws.Header) error {
	size := ws.HeaderSize(h)
	b, err := s.r.Peek(size + int(h.Length))
	if err != nil {
		return err
	}
	payload := bytes.Clone(b[size:])
	_, _ = s.r.Discard(len(b))
	switch h.OpCode {
	case ws.OpPing:
		return s.writeFrame(ws.NewPongFrame(payload))
	case ws.OpClose:
		s.status = ws.StatusNoStatusRcvd
		if len(payload) >= 2 {
			s.status = ws.StatusCode(binary.BigEndian.Uint16(payload))
		}
		s.err = io.EOF
		_ = s.writeFrame(ws.NewCloseFrame(payload[:min(2, len(payload))])) // the hub can be gone already
	}
	return nil
}

// writeFrame masks and writes a frame.
func (s *webSocketStream) writeFrame(f ws.Frame) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	b, err := ws.CompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{7, 0, 255, 128}))
	if err == nil {
		_, err = s.Conn.Write(b)
	}
	return err
}

// Write implements net.Conn.
func (s *webSocketStream) Write(p []byte) (int, error) {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	var b []byte
	parts := splitMessages(p, s.rnd)
	for _, part := range parts {
		b = append(b, part...)
	}
	if n, err := s.Conn.Write(b); err != nil {
		return min(n, len(p)-1), err
	}
	return len(p), nil
}

// splitMessages returns p as masked frames: one message, or two, or one of two fragments.
func splitMessages(p []byte, rnd *rand.Rand) (frames [][]byte) {
	compile := func(opcode ws.OpCode, fin bool, payload []byte) {
		f := ws.NewFrame(opcode, fin, bytes.Clone(payload))
		frames = append(frames, ws.MustCompileFrame(ws.MaskFrameInPlaceWith(f, [4]byte{byte(rnd.Uint32()), byte(rnd.Uint32()), 3, 4})))
	}
	cut := rnd.IntN(len(p) + 1)
	switch rnd.IntN(4) {
	case 0:
		compile(ws.OpBinary, true, p[:cut])
		compile(ws.OpBinary, true, p[cut:])
	case 1:
		compile(ws.OpBinary, false, p[:cut])
		compile(ws.OpContinuation, true, p[cut:])
	default:
		compile(ws.OpBinary, true, p)
	}
	return frames
}

// CloseWrite ends the stream of the client with a Close frame.
func (s *webSocketStream) CloseWrite() error {
	return s.writeFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
}

// NetConn returns the connection that carries the WebSocket.
func (s *webSocketStream) NetConn() net.Conn {
	if secure, ok := s.Conn.(*tls.Conn); ok {
		return secure.NetConn()
	}
	return s.Conn
}

// frameScan follows a stream of frames of the hub.
type frameScan struct {
	length [wire.LengthSize]byte
	have   int // bytes of length
	body   int // bytes of the frame that are missing, once length is known
}

func (f *frameScan) add(p []byte) {
	for len(p) > 0 {
		if f.have < wire.LengthSize {
			n := copy(f.length[f.have:], p)
			p = p[n:]
			if f.have += n; f.have == wire.LengthSize {
				f.body = int(binary.BigEndian.Uint32(f.length[:]))
			}
		} else {
			n := min(len(p), f.body)
			p, f.body = p[n:], f.body-n
		}
		if f.have == wire.LengthSize && f.body == 0 {
			f.have = 0
		}
	}
}

// whole reports whether the stream is between two frames.
func (f *frameScan) whole() bool { return f.have == 0 }
