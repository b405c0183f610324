package hub_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestWebSocket_AnyMask_IsRemoved sends messages with masks of all kinds, cut at each byte.
func TestWebSocket_AnyMask_IsRemoved(t *testing.T) {
	onWebSockets(t, hub.Config{}, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		c := h.upgrade(t)
		v2 := handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
		for i, mask := range [][4]byte{{}, {255, 255, 255, 255}, {0, 0, 0, 1}, {1, 0, 0, 0}, {0x82, 0x80, 0x82, 0x80}, {'G', 'E', 'T', ' '}} {
			v2.seq++
			body := pattern(300, byte(i))
			send := wire.AppendSend(nil, v2.seq, 0, 0, []uint64{v2.id}, body)
			for from := range len(send) + 1 {
				last := from >= len(send)
				f := ws.NewFrame(ws.OpContinuation, last, bytes.Clone(send[from:min(from+1, len(send))]))
				if from == 0 {
					f.Header.OpCode = ws.OpBinary
				}
				c.send(ws.MustCompileFrame(ws.MaskFrameWith(f, mask)))
			}
			v2.expectDeliver(v2.id, v2.seq, body)
		}
	})
}

// TestWebSocket_PingFlood_IsAnswered sends many pings, some within a message, to a client that
// reads.
func TestWebSocket_PingFlood_IsAnswered(t *testing.T) {
	onWebSockets(t, hub.Config{}, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		c := h.upgrade(t)
		v2 := handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
		pings := bytes.Repeat(maskedFrame(0x89, []byte("ping")), 1000)
		c.send(maskedFrame(0x02, nil))
		for range 20 {
			c.send(pings)
		}
		c.send(maskedFrame(0x80, wire.AppendPing(nil, 5)))
		if kind, _ := v2.nextFrame(); kind != wire.TypePong { // the stream skips the Pongs of WebSocket
			t.Errorf("a frame of type %#x, want PONG", kind)
		}
	})
}

// TestWebSocket_PingFloodWithoutReading_HoldsLittle sends pings and reads no Pong. The hub answers
// only the last ping, and thus holds nothing for the client.
func TestWebSocket_PingFloodWithoutReading_HoldsLittle(t *testing.T) {
	onWebSockets(t, hub.Config{}, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		c := h.upgrade(t)
		handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
		c.shrinkReadBuffer()
		pings := bytes.Repeat(maskedFrame(0x89, make([]byte, 125)), 100)
		for range 500 { // 6.5 MB
			if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(pings); err != nil {
				if !errors.Is(err, os.ErrDeadlineExceeded) { // the hub does not read on, which is as good
					t.Error(err)
				}
				break
			}
		}
		if n := h.Stats().QueuedBytes; n > 1<<20 {
			t.Errorf("%d bytes are queued", n)
		}
		c.reset()
	})
}

// TestWebSocket_CloseInTheMiddle_LosesNothing ends connections at each byte of a SEND, by a Close
// frame or by the end of the stream, and resumes: the message arrives once.
func TestWebSocket_CloseInTheMiddle_LosesNothing(t *testing.T) {
	onWebSockets(t, hub.Config{ResumeWindow: testTimeout}, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		receiver := h.connectV2(t)
		hello := wire.Hello{Version: wire.Version2}
		c := h.upgrade(t)
		v2 := handshakeV2(c.stream, hello)
		frame := maskedFrame(0x82, wire.AppendSend(nil, 1, 0, 0, []uint64{receiver.id}, []byte("body")))
		for i := range len(frame) + 1 {
			seq := v2.Seq + 1
			frame = maskedFrame(0x82, wire.AppendSend(nil, seq, 0, 0, []uint64{receiver.id}, []byte("body")))
			c.send(frame[:i])
			switch {
			case i%2 == 0:
				c.reset()
			case i == len(frame):
				c.send(maskedFrame(0x88, nil))
			default:
				c.Close()
			}
			hello.ID, hello.Resume, hello.Received = v2.ID, v2.Resume, v2.received
			eventually(t, "resumed", func() bool {
				c = h.upgrade(t)
				c.stream.send(wire.AppendHello(nil, &hello))
				kind, payload := c.stream.mustReadFrame()
				if kind == wire.TypeGoAway {
					return false // the previous connection has not ended yet
				}
				v2 = (&clientV2{clientV1: c.stream}).applyWelcome(&hello, kind, payload)
				return true
			})
			if !v2.Resumed {
				t.Fatalf("after %d bytes: %+v", i, v2.Welcome)
			}
			if v2.Seq < seq { // the hub has not got it
				c.send(frame)
				v2.Seq = seq
			}
			receiver.expectDeliver(v2.ID, seq, []byte("body"))
		}
		receiver.fenceV2()
	})
}

// TestWebHandler_HostileRequests_DisturbNobody has requests that never end, in several ways.
func TestWebHandler_HostileRequests_DisturbNobody(t *testing.T) {
	const each = 20
	config := hub.Config{HandshakeTimeout: time.Second}
	onWebSockets(t, config, hub.WebConfig{}, func(t *testing.T, h *testHub) {
		valid := h.upgradeRequest()
		var conns []*clientV1
		for i := range each {
			silent, half, dripping, cut := h.connectRaw(t), h.connectRaw(t), h.connectRaw(t), h.connectRaw(t)
			half.send([]byte(valid[:len(valid)/2+i]))
			background(t, func() error {
				for _, b := range []byte(strings.Repeat(valid[:len(valid)-2], 100)) {
					if _, err := dripping.Write([]byte{b}); err != nil {
						return nil
					}
					<-time.After(20 * time.Millisecond)
				}
				return errors.New("a request takes forever")
			})
			cut.send([]byte(valid))
			cut.Close()
			conns = append(conns, silent, half, dripping)
		}
		for _, c := range conns {
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("a connection stays open")
			}
			c.Close()
		}
		eventually(t, "only the bystanders are left", func() bool { return h.Stats().Clients == 2 })
	})
}

// FuzzWebSocket lets a client send arbitrary bytes at the web address: instead of an upgrade
// request, behind one, and behind HELLO. The connection must end, and the hub must serve others.
func FuzzWebSocket(f *testing.F) {
	send := wire.AppendSend(nil, 1, 0, 0, []uint64{1}, make([]byte, 300))
	for _, input := range [][]byte{
		nil, []byte("GET /connect HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("\r\n\r\n"), hello(), maskedFrame(0x82, hello()), maskedFrame(0x82, send), maskedFrame(0x02, send),
		unmaskedFrame(send), maskedFrame(0x81, send), maskedFrame(0xc2, send), maskedFrame(0x89, []byte("p")), maskedFrame(0x8a, nil), maskedFrame(0x88, []byte{3, 232, 'x'}),
		maskedFrame(0x82, wire.AppendBye(nil)), append(maskedFrame(0x02, send[:7]), maskedFrame(0x80, send[7:])...), {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		for stage := range byte(3) {
			f.Add(input, stage, uint16(1), true)
			f.Add(input, stage, uint16(1000), false)
		}
	}
	f.Fuzz(func(t *testing.T, input []byte, stage byte, chunkSize uint16, tcp bool) {
		tr := webSocketInMemory
		if tcp {
			tr = overWebSocket
		}
		config := hub.Config{MaxBody: fuzzMaxBody, ResumeWindow: time.Millisecond, HandshakeTimeout: time.Second, FrameTimeout: time.Second}
		h := tr.serveWeb(t, startOn(t, config, tr.listen(t)), hub.WebConfig{})
		c := h.connectRaw(t)
		if stage %= 3; stage > 0 {
			c = h.upgrade(t).clientV1
		}
		if stage == 2 {
			c.send(maskedFrame(0x82, hello()))
		}
		size := max(int(chunkSize), len(input)/100) + 1
		for from := 0; from < len(input); from += size {
			if _, err := c.Write(input[from:min(from+size, len(input))]); err != nil {
				break // the hub has closed the connection
			}
		}
		_ = c.closeWrite() // as above
		if n, err := c.readToEnd(); err != nil {
			t.Errorf("the connection stays open after %d bytes", n)
		}
		c.Close()
		a, b := h.connectV2(t), h.connectV2(t)
		b.expectDeliver(a.ID, a.sendMessage([]byte("hello"), 0, 0, b.ID), []byte("hello"))
	})
}
