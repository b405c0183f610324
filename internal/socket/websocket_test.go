package socket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/internal/memorypipe"
	"github.com/sechlol/go-message-hub/internal/outbox"
	"github.com/sechlol/go-message-hub/wire"
)

// onWebSockets runs a test over every transport that carries a WebSocket.
func onWebSockets(t *testing.T, test func(t *testing.T, tr testTransport)) {
	onTransports(t, func(t *testing.T, tr testTransport) {
		if tr.webSocket {
			test(t, tr)
		}
	})
}

// wsPeer is the client of a WebSocket that a Reader serves. It reads all that the hub sends.
type wsPeer struct {
	*testReader
	client *webSocketClient
	pongs  chan string
	closed chan ws.StatusCode // receives the status of the close frame; closed at the end
}

func newWSPeer(t *testing.T, tr testTransport) *wsPeer {
	p := &wsPeer{testReader: newTestReader(t, tr, readerConfig()), pongs: make(chan string, 1000), closed: make(chan ws.StatusCode, 1)}
	p.client = p.far.(*webSocketClient)
	p.client.onPong = func(payload []byte) { p.pongs <- string(payload) }
	p.client.onClose = func(status ws.StatusCode) { p.closed <- status }
	go func() { // ends with the connection
		defer close(p.closed)
		_, _ = io.Copy(io.Discard, p.client)
	}()
	return p
}

func TestWebSocket_Ping_GetsPong(t *testing.T) {
	onWebSockets(t, func(t *testing.T, tr testTransport) {
		p := newWSPeer(t, tr)
		p.serve()
		for _, payload := range []string{"", "hello", string(bytes.Repeat([]byte{7}, maxControlPayload))} {
			if err := p.client.send(ws.OpPing, []byte(payload)); err != nil {
				t.Fatal(err)
			}
			if got := waitFor(t, "the Pong", p.pongs); got != payload {
				t.Errorf("a Pong with %q, want %q", got, payload)
			}
		}
		p.closeAndWait(t)
	})
}

// fillUntilEnd reads overhead until the reading of c ends, and returns why.
func fillUntilEnd(c *Conn) error {
	for {
		if err := c.Fill(); err != nil {
			return err
		}
	}
}

// TestWebSocket_Overhead_EndsFill sends frames without payload, also in the middle of a frame of the
// hub's protocol. Fill returns now and then, for its caller to charge them.
func TestWebSocket_Overhead_EndsFill(t *testing.T) {
	for name, start := range map[string][]byte{"between frames": nil, "in a frame": frame(200 << 10)[:100], "in a large frame": frame(200 << 10)[:100<<10]} {
		t.Run(name, func(t *testing.T) {
			script := &wsScript{endless: bytes.Repeat(clientFrame(ws.OpPing, true, make([]byte, 4)), 20)}
			if start != nil {
				script.reads = []scriptedRead{{bytes: clientFrame(ws.OpBinary, true, start)}}
			}
			c := New(NewWebSocket(script), readerConfig(), nopHandler{})
			defer c.ReleaseAll()
			before := int64(len(start))
			for c.FrameBytesArrived() < before {
				if err := c.Fill(); err != nil {
					t.Fatal(err)
				}
				if ok, err := c.Next(new(Frame)); ok || err != nil {
					t.Fatalf("a frame: %v, %v", ok, err)
				}
			}
			for range 10 {
				from := c.BytesRead()
				if err := c.Fill(); err != nil {
					t.Fatal(err)
				}
				if n := c.BytesRead() - from; n > 2*maxOverhead {
					t.Errorf("Fill has returned after %d bytes", n)
				}
				if ok, err := c.Next(new(Frame)); ok || err != nil || c.Pending() > 0 {
					t.Fatalf("a frame: %v, %v", ok, err)
				}
			}
			if n := c.FrameBytesArrived(); n != before {
				t.Errorf("%d bytes of frames, want %d", n, before)
			}
		})
	}
}

// TestWebSocket_PingFlood_PeerReadsNothing sends many Pings and reads nothing. The hub reads on and
// answers the last of them when there is room.
func TestWebSocket_PingFlood_PeerReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := memorypipe.New()
		far.SetReadBuffer(1000)
		client := newWebSocketClient(far)
		tc := newTestConn(t, testTransport{open: func(testing.TB) (net.Conn, net.Conn) { return NewWebSocket(near), client }}, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}})
		ended := make(chan error, 1)
		go func() { ended <- fillUntilEnd(tc.Conn) }() // ends with the connection
		const pings = 10_000
		for i := range pings {
			if err := client.send(ws.OpPing, binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if want := int64(pings * (2 + 4 + 4)); tc.BytesRead() != want {
			t.Errorf("%d bytes were read, want %d", tc.BytesRead(), want)
		}
		var last uint32
		client.onPong = func(payload []byte) { last = binary.BigEndian.Uint32(payload) }
		fl := tc.newFlusher()
		for range 2 { // if the rest of an earlier Pong comes first, the last Pong follows the message
			tc.offer(fl, frame(3000))
			fl.Reset()
			tc.wantStream(t, frame(3000))
		}
		if last != pings-1 {
			t.Errorf("the last Pong is that of Ping %d, want %d", last, pings-1)
		}
		tc.drainAndClose(t)
		<-ended
		tc.ReleaseAll()
	})
}

// newWSConn returns a WebSocket in memory whose client accepts readBuffer bytes, and then waits.
func newWSConn(t *testing.T, readBuffer int) (tc *testConn, far *memorypipe.Conn) {
	near, far := memorypipe.New()
	far.SetReadBuffer(readBuffer)
	tr := testTransport{open: func(testing.TB) (net.Conn, net.Conn) { return NewWebSocket(near), far }}
	return newTestConn(t, tr, Config{Outbox: outbox.Config{MaxBytes: 1 << 20}}), far
}

// TestWebSocket_Ping_DuringWrite reads a Ping while a message is unfinished: the Pong follows the
// message, although nothing else is written or read.
func TestWebSocket_Ping_DuringWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, far := newWSConn(t, 1000)
		ended := make(chan error, 1)
		go func() { ended <- tc.Fill() }() // ends with the connection
		fl := tc.newFlusher()
		tc.offer(fl, frame(100_000))
		fl.Reset()
		synctest.Wait() // the flush goroutine waits for the client
		if _, err := far.Write(clientFrame(ws.OpPing, true, []byte("p"))); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		tc.wantStream(t, slices.Concat([]byte{0x82, length64, 0, 0, 0, 0, 0, 1, 0x86, 0xa0}, frame(100_000), []byte{0x8a, 1, 'p'}))
		tc.drainAndClose(t)
		<-ended
		tc.ReleaseAll()
	})
}

// TestWebSocket_Close_DuringWrite reads a close frame while a write goes on. The answer follows
// what is being written, if the client reads that soon.
func TestWebSocket_Close_DuringWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, far := newWSConn(t, 1000)
		ended := make(chan error, 1)
		go func() { ended <- tc.Fill() }() // ends with the close frame
		fl := tc.newFlusher()
		tc.offer(fl, frame(100_000))
		fl.Reset()
		synctest.Wait() // the flush goroutine waits for the client
		if _, err := far.Write(clientFrame(ws.OpClose, true, []byte{3, 232})); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the reader waits for the flush goroutine
		tc.wantStream(t, slices.Concat([]byte{0x82, length64, 0, 0, 0, 0, 0, 1, 0x86, 0xa0}, frame(100_000), []byte{0x88, 2, 3, 232}))
		if err := <-ended; err != io.EOF {
			t.Errorf("the reading ends with %v", err)
		}
		tc.Close()
		tc.ReleaseAll()
	})
}

// wsScript is a WebSocket with scripted reads. It checks that each write holds whole frames.
type wsScript struct {
	scriptedConn
	endless []byte // is read again and again behind the script; nil: the end of the stream
	pos     int    // of the next byte of endless

	mu  sync.Mutex
	err error // of a check; guarded by mu
}

func (s *wsScript) Read(p []byte) (int, error) {
	if len(s.reads) == 0 && s.endless != nil {
		n := copy(p, s.endless[s.pos:])
		s.pos = (s.pos + n) % len(s.endless)
		return n, nil
	}
	return s.scriptedConn.Read(p)
}

func (s *wsScript) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for in := bytes.NewReader(p); in.Len() > 0; {
		h, err := ws.ReadHeader(in)
		if err == nil {
			err = ws.CheckHeader(h, ws.StateClientSide)
		}
		if err == nil && int64(in.Len()) < h.Length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			s.err = err
			break
		}
		in.Seek(h.Length, io.SeekCurrent)
	}
	return len(p), nil
}

func (s *wsScript) SetWriteDeadline(time.Time) error { return nil }
func (s *wsScript) Close() error                     { return nil }

// TestWebSocket_Flood_DoesNotExtendFrameTimeout has a client send half a frame, and then control
// frames or empty frames without end, so that the Reader never waits.
func TestWebSocket_Flood_DoesNotExtendFrameTimeout(t *testing.T) {
	for name, flood := range map[string][]byte{
		"Pings":        bytes.Repeat(clientFrame(ws.OpPing, true, make([]byte, 100)), 5),
		"empty frames": bytes.Repeat(clientFrame(ws.OpContinuation, false, nil), 80),
	} {
		t.Run(name, func(t *testing.T) {
			config := readerConfig()
			config.FrameTimeout = 20 * time.Millisecond
			script := &wsScript{scriptedConn: scriptedConn{reads: []scriptedRead{{bytes: clientFrame(ws.OpBinary, false, frame(1 << 20)[:100])}}}, endless: flood}
			c := New(NewWebSocket(script), config, nopHandler{})
			if _, err := collect(c, func() {}); !errors.Is(err, ErrFrameTimeout) {
				t.Errorf("ended with %v, want %v", err, ErrFrameTimeout)
			}
		})
	}
}

// TestWebSocket_Interrupt_DuringFlood interrupts a Reader that reads only Pings.
func TestWebSocket_Interrupt_DuringFlood(t *testing.T) {
	c := New(NewWebSocket(&wsScript{endless: clientFrame(ws.OpPing, true, nil)}), readerConfig(), nopHandler{})
	ended := make(chan error, 1)
	go func() { ended <- fillUntilEnd(c) }() // ends when it is interrupted
	waitUntil(t, "Pings are read", func() bool { return c.BytesRead() > 1000 })
	c.Interrupt()
	if err := waitFor(t, "the end", ended); err != ErrInterrupted {
		t.Errorf("ended with %v, want %v", err, ErrInterrupted)
	}
}

// TestWebSocket_CloseFrame checks how a close frame of the client ends the reading, and its answer.
func TestWebSocket_CloseFrame(t *testing.T) {
	for _, test := range []struct {
		name    string
		payload string
		want    error
		answer  ws.StatusCode
	}{
		{"without a status", "", io.EOF, ws.StatusNoStatusRcvd},
		{"normal", "\x03\xe8", io.EOF, 1000},
		{"with a reason", "\x03\xe9tab closed", io.EOF, 1001},
		{"of an application", "\x0f\xa0", io.EOF, 4000},
		{"registered later", "\x03\xf5", io.EOF, 1013},
		{"half a status", "\x03", errCloseStatus, 1002},
		{"status that is never sent", "\x03\xed", errCloseStatus, 1002},
		{"status below 1000", "\x03\xe7", errCloseStatus, 1002},
		{"status above 4999", "\x13\x88", errCloseStatus, 1002},
		{"reason that is not UTF-8", "\x03\xe8\xff", errCloseReason, 1007},
	} {
		t.Run(test.name, func(t *testing.T) {
			onWebSockets(t, func(t *testing.T, tr testTransport) {
				p := newWSPeer(t, tr)
				var got []int
				p.handle = func(f Frame) { got = append(got, len(f.Payload)) }
				p.serve()
				p.write(frame(100))
				if err := p.client.send(ws.OpClose, []byte(test.payload)); err != nil {
					t.Fatal(err)
				}
				if err := waitFor(t, "the end", p.ended); !errors.Is(err, test.want) || len(got) != 1 {
					t.Errorf("ended with %v after %d frames, want %v after 1", err, len(got), test.want)
				}
				p.SetCloseStatus(StatusTryAgainLater) // comes too late
				p.Close()
				if status := waitFor(t, "the close frame", p.closed); status != test.answer {
					t.Errorf("answered with %d, want %d", status, test.answer)
				}
			})
		})
	}
}

// TestWebSocket_Violation reads what comes before a violation, and sends its status.
func TestWebSocket_Violation(t *testing.T) {
	for _, test := range []struct {
		bad  []byte
		want *WebSocketError
	}{
		{clientFrame(ws.OpText, true, []byte("{}")), errText},
		{[]byte{0x82, 0}, errNotMasked},
	} {
		onWebSockets(t, func(t *testing.T, tr testTransport) {
			p := newWSPeer(t, tr)
			got := 0
			p.handle = func(Frame) { got++ }
			p.serve()
			go p.client.Conn.Write(slices.Concat(clientFrame(ws.OpBinary, true, frame(100)), test.bad, clientFrame(ws.OpBinary, true, frame(100)))) // ends with the connection
			err := waitFor(t, "the end", p.ended)
			var violation *WebSocketError
			if !errors.As(err, &violation) || violation != test.want || got != 1 {
				t.Errorf("ended with %v after %d frames, want %v after 1", err, got, test.want)
			}
			p.Close()
			if status := waitFor(t, "the close frame", p.closed); status != ws.StatusCode(test.want.Status) {
				t.Errorf("closed with %d, want %d", status, test.want.Status)
			}
		})
	}
}

func TestConn_SetCloseStatus(t *testing.T) {
	for want, set := range map[ws.StatusCode][]CloseStatus{1000: nil, 1001: {StatusGoingAway, StatusPolicyViolation}} {
		for name, end := range map[string]func(c *Conn){
			"Close":           func(c *Conn) { c.Close() },
			"CloseGracefully": func(c *Conn) { c.CloseGracefully(time.Millisecond) },
			"CloseWithFrame":  func(c *Conn) { c.CloseWithFrame(frame(10), testTimeout) },
		} {
			t.Run(name, func(t *testing.T) {
				onWebSockets(t, func(t *testing.T, tr testTransport) {
					p := newWSPeer(t, tr)
					for _, status := range set {
						p.SetCloseStatus(status)
					}
					end(p.Conn)
					if status := waitFor(t, "the close frame", p.closed); status != want {
						t.Errorf("closed with %d, want %d", status, want)
					}
					if _, _, err := p.transport().Write([][]byte{{1}}, false); err == nil {
						t.Error("a write behind the close frame")
					}
				})
			})
		}
	}
	near, _ := inMemory.open(t)
	New(near, readerConfig(), nopHandler{}).SetCloseStatus(StatusGoingAway) // has no effect
}

// TestWebSocket_Close_InMessage ends a connection that has accepted only the start of a message.
// What follows must be no part of that message.
func TestWebSocket_Close_InMessage(t *testing.T) {
	for name, end := range map[string]func(tc *testConn){
		"Close":          func(tc *testConn) { tc.Close() },
		"CloseWithFrame": func(tc *testConn) { tc.Detach(); tc.CloseWithFrame(frame(10), time.Second) },
	} {
		for accepted := range 8 { // the header has 4 bytes
			synctest.Test(t, func(t *testing.T) {
				tc, far := newWSConn(t, accepted)
				tc.EnableAcks(1<<20, false)
				fl := tc.newFlusher()
				tc.offer(fl, frame(200))
				fl.Reset()
				synctest.Wait()
				end(tc)
				got, _ := io.ReadAll(far)
				want := append([]byte{0x82, length16, 0, 200}, frame(200)...)[:max(accepted, 0)]
				if accepted == 0 {
					want = got[:0:0]
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s: % x arrived, want % x", name, got, want)
				}
				tc.Close()
			})
		}
	}
}

// TestWebSocket_EndOfStream ends the stream without a close frame.
func TestWebSocket_EndOfStream(t *testing.T) {
	whole := clientFrame(ws.OpBinary, true, frame(100))
	for _, test := range []struct {
		name   string
		stream []byte
		want   error
	}{
		{"between two messages", whole, io.EOF},
		{"in a header", slices.Concat(whole, whole[:3]), io.ErrUnexpectedEOF},
		{"in a Ping", slices.Concat(whole, clientFrame(ws.OpPing, true, []byte("x"))[:6]), io.ErrUnexpectedEOF},
		{"in a message", slices.Concat(whole, clientFrame(ws.OpBinary, false, nil)), io.ErrUnexpectedEOF},
		{"in a frame of the hub", slices.Concat(whole, clientFrame(ws.OpBinary, true, frame(10)[:5])), io.ErrUnexpectedEOF},
		{"in a frame of the hub, with a close frame", slices.Concat(whole, clientFrame(ws.OpBinary, true, frame(10)[:5]), clientFrame(ws.OpClose, true, nil)), io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			onWebSockets(t, func(t *testing.T, tr testTransport) {
				p := newWSPeer(t, tr)
				got := 0
				p.handle = func(Frame) { got++ }
				p.serve()
				if _, err := p.client.Conn.Write(test.stream); err != nil {
					t.Fatal(err)
				}
				endWriting(p.client.Conn)
				if err := waitFor(t, "the end", p.ended); err != test.want || got != 1 {
					t.Errorf("ended with %v after %d frames, want %v after 1", err, got, test.want)
				}
				p.Close()
			})
		})
	}
}

// TestWebSocketTransport_Write_SharesPayload checks that the inner transport gets the slices of the
// caller.
func TestWebSocketTransport_Write_SharesPayload(t *testing.T) {
	var got [][]byte
	inner := vectorWriter(func(v [][]byte) { got = slices.Clone(v) })
	v := [][]byte{frame(10), frame(2000)}
	if _, _, err := newWebSocketTransport(inner, new(Reader)).Write(v, true); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || &got[1][0] != &v[0][0] || &got[2][0] != &v[1][0] {
		t.Errorf("%d slices were written, want a header and the 2 of the caller", len(got))
	}
}

// vectorWriter is a transport that accepts every vector.
type vectorWriter func(v [][]byte)

func (w vectorWriter) Write(v [][]byte, _ bool) (n, pending int, err error) {
	w(v)
	for _, p := range v {
		n += len(p)
	}
	return n, 0, nil
}

func (vectorWriter) Read() (int, error)    { return 0, io.EOF }
func (vectorWriter) MaxWrite() int         { return 0 }
func (vectorWriter) Interrupt(time.Time)   {}
func (vectorWriter) Close(closeMode) error { return nil }
func (vectorWriter) Conn() net.Conn        { return nil }

// TestWebSocket_Ping_ZeroAllocs checks that the answer to a Ping allocates nothing.
func TestWebSocket_Ping_ZeroAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop items under the race detector")
	}
	transport := newWebSocketTransport(vectorWriter(func([][]byte) {}), new(Reader))
	ping := clientFrame(ws.OpPing, true, []byte("12345678"))
	p := make([]byte, len(ping))
	if n := testing.AllocsPerRun(100, func() {
		copy(p, ping)
		transport.unframe(p)
		transport.answerPing()
	}); n > 0 || transport.end != nil {
		t.Errorf("a Ping allocates %v times: %v", n, transport.end)
	}
}

// FuzzWebSocket passes any bytes to a connection behind its upgrade, cut at any place. The frames
// and the end must be those that a library finds.
func FuzzWebSocket(f *testing.F) {
	for _, test := range wsCases {
		f.Add(test.stream, []byte{1}, uint16(0))
		f.Add(slices.Concat(test.stream, clientFrame(ws.OpClose, true, []byte{3, 232})), []byte{}, uint16(0))
	}
	f.Add(clientFrame(ws.OpBinary, false, smallStream()), []byte{0, 3}, uint16(40_000))
	f.Add(slices.Concat(clientFrame(ws.OpBinary, true, frame(300)), clientFrame(ws.OpText, true, nil)), []byte{9}, uint16(0))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9}, []byte{}, uint16(0))
	f.Fuzz(func(t *testing.T, stream, cuts []byte, large uint16) {
		if large > 0 { // a fuzzer rarely finds a whole large frame by itself
			stream = slices.Concat(clientFrame(ws.OpBinary, true, frame(wire.LengthSize+4*int(large))), stream)
		}
		reads, bodies := newTestBudget(readSize), newTestBudget(1<<20)
		config := &Config{MaxLength: 1 << 18, FrameTimeout: testTimeout, Outbox: outbox.Config{MaxBytes: 1}, ReadAccount: reads.account}
		conn := &wsScript{scriptedConn: scriptedConn{reads: script(stream, cuts)}}
		c := New(NewWebSocket(conn), config, testHandler{account: bodies.account})
		frames, err := collect(c, func() {})
		c.Close()
		compareWebSocket(t, stream, config.MaxLength, frames, err)
		if r, b := used(reads.Budget), used(bodies.Budget); r != 0 || b != 0 {
			t.Errorf("%d and %d bytes are in use at the end", r, b)
		}
		conn.mu.Lock()
		defer conn.mu.Unlock()
		if conn.err != nil {
			t.Errorf("a frame of the hub: %v", conn.err)
		}
	})
}

// compareWebSocket checks the frames that were read of a stream, and how the reading ended, against
// a library.
func compareWebSocket(t *testing.T, stream []byte, maxLength int, frames []testFrame, err error) {
	t.Helper()
	data, controls, end := readByLibrary(stream)
	var violation *WebSocketError
	_, dataErr := parse(data, maxLength)
	switch {
	case errors.Is(dataErr, wire.ErrTooLong) || end == io.EOF:
	case end == errClosedByLibrary:
		if valid := closeIsValid(controls[len(controls)-1][2:]); errors.As(err, &violation) == valid {
			t.Fatalf("ended with %v, and the close frame is valid: %v", err, valid)
		} else if !valid {
			err = dataErr
		}
	case end == io.ErrUnexpectedEOF:
		if err != io.ErrUnexpectedEOF {
			t.Fatalf("ended with %v in a message", err)
		}
		err = dataErr
	default:
		if !errors.As(err, &violation) {
			t.Fatalf("ended with %v, the library with %v", err, end)
		}
		err = dataErr
	}
	compareFrames(t, data, maxLength, frames, err)
}

// closeIsValid checks the payload of a close frame by a library. The library does not know the
// statuses 1012 to 1014, which were registered later, and accepts 5000 and above.
func closeIsValid(payload []byte) bool {
	if len(payload) < 2 {
		return len(payload) == 0
	}
	status := ws.StatusCode(binary.BigEndian.Uint16(payload))
	if status >= 1012 && status <= 1014 {
		status = ws.StatusNormalClosure
	}
	return status < 5000 && ws.CheckCloseFrameData(status, string(payload[2:])) == nil
}
