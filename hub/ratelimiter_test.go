package hub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestRateLimiter_SlowsOnlyTheSender exceeds the rate with one client. Its receiver is not
// slowed down, and the client can be disconnected while the hub does not read it.
func TestRateLimiter_SlowsOnlyTheSender(t *testing.T) {
	t.Parallel() // it mostly waits
	for name, test := range map[string]struct {
		config hub.Config
		body   int
	}{
		"messages": {hub.Config{MessageRate: 50}, 1},
		"bytes":    {hub.Config{ByteRate: 50_000}, 1000},
		"by grant": {hub.Config{MessageRate: 1e6, Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) {
			return &hub.Permissions{MessageRate: 50}, nil
		}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onAllTransports(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, test.config)
				sender, receiver := h.connectV2(t), h.connectV2(t)
				receiver.withholdsAcks = true
				body := pattern(test.body, 1)
				begun := time.Now()
				const messages = 75 // the burst is 50
				for range 2 {       // the frames of one read are handled, and the next read has to wait
					first := sender.seq + 1
					for range messages {
						sender.sendMessage(body, 0, 0, receiver.id)
					}
					for seq := first; seq < first+messages; seq++ {
						receiver.expectDeliver(sender.id, seq, body)
					}
				}
				if took := time.Since(begun); took < 300*time.Millisecond {
					t.Errorf("%d messages took %v", messages, took)
				}
				if h.Stats().RateLimited == 0 {
					t.Error("no client was rate limited")
				}
				for range 100 { // keeps the client waiting for long
					sender.sendMessage(body, 0, 0, receiver.id)
				}
				h.Disconnect(sender.id, false)
				var netErr net.Error
				for {
					if _, _, err := sender.readFrame(); err != nil {
						if errors.As(err, &netErr) && netErr.Timeout() {
							t.Error("the client is not disconnected")
						}
						break
					}
				}
				h.waitDisconnected(t, hub.CloseDisconnected, 1)
			})
		})
	}
}

// TestRateLimiter_WaitingConns_HoldNoReadBuffer slows down more clients than there are read
// buffers: other clients are still read.
func TestRateLimiter_WaitingConns_HoldNoReadBuffer(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		// each client waits for 10 minutes
		h := tr.start(t, hub.Config{ByteRate: 100, MaxQueuedBytes: 5 << 20})
		for range 20 { // there are 10 read buffers of 64 KiB
			c := h.connectV2(t)
			c.sendMessage(make([]byte, 60_000), 0, 0, 12345)
		}
		eventually(t, "all rate limited", func() bool { return h.Stats().RateLimited == 20 })
		eventually(t, "clients that are not read hold no memory", func() bool { return h.Stats().QueuedBytes == 0 })
	})
}

// reconnectingClient sends as much as it can at once, on one connection after the other.
type reconnectingClient struct {
	hello    *wire.Hello // nil: version 1
	resumes  bool        // it resumes its session
	overlaps bool        // the old connection stays open until then

	hub     *testHub
	seq     uint64
	welcome wire.Welcome
	prev    net.Conn
}

// flood connects and sends again and again, for a while.
func (r *reconnectingClient) flood(t *testing.T, to uint64, duration time.Duration) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < duration; {
		nc := r.hub.connect(t).Conn
		frames := r.buildFrames(to)
		go func() { _, _ = nc.Write(frames) }() // ends with the connection
		welcomes := make(chan wire.Welcome, 1)
		go func() { // ends with the connection
			c := &clientV1{Conn: nc, t: t}
			for kind, payload, err := c.readFrame(); err == nil; kind, payload, err = c.readFrame() {
				if kind == wire.TypeWelcome {
					w, _ := wire.ParseWelcome(payload)
					welcomes <- w
				}
			}
		}()
		if r.prev != nil {
			r.prev.Close()
		}
		if r.prev = nc; r.hello != nil {
			r.welcome = <-welcomes
		}
		<-time.After(20 * time.Millisecond)
		if !r.overlaps {
			nc.Close()
			<-time.After(20 * time.Millisecond)
		}
	}
	r.prev.Close()
}

// buildFrames returns the frames that the client sends on its next connection.
func (r *reconnectingClient) buildFrames(to uint64) (frames []byte) {
	if r.hello != nil {
		hello := *r.hello
		if r.resumes && r.welcome.ID != 0 {
			hello.ID, hello.Resume = r.welcome.ID, r.welcome.Resume
		}
		frames = wire.AppendHello(frames, &hello)
	}
	for range 20 {
		if r.seq++; r.hello != nil {
			frames = wire.AppendSend(frames, r.seq, 0, 0, []uint64{to}, []byte("x"))
		} else {
			frames = wire.AppendRelay(frames, []uint64{to}, []byte("x"))
		}
	}
	return frames
}

// TestRateLimiter_Reconnect_GainsNothing reconnects as often as possible, and sends no faster
// by that. After a long enough pause the client can send a burst again.
func TestRateLimiter_Reconnect_GainsNothing(t *testing.T) {
	const perSecond, duration = 10, 20 * time.Second
	for name, hello := range map[string]wire.Hello{"without a token": {}, "by a token": {Token: "alice 10h"}, "by a token with an id": {Token: "alice 10h 7"}} {
		hello.Version = wire.Version2
		for mode, r := range map[string]*reconnectingClient{
			"resuming": {resumes: true}, "resuming while it is connected": {resumes: true, overlaps: true}, "as another client": {},
		} {
			if hello.Token == "" && !r.resumes {
				continue // see TestRateLimiter_ReconnectFromAddress_GainsNothing
			}
			t.Run(name+" "+mode, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					config, token := hub.Config{MessageRate: perSecond}, ""
					if hello.Token != "" {
						config.Authenticate, token = authenticateExpiring, "bob 10h"
					}
					h := startInMemory(t, config)
					bob := h.dialWith(t, &client.Options{GetToken: func(context.Context) (string, error) { return token, nil }, OnMessage: func(client.Message) {}})
					defer bob.Close()
					r.hello, r.hub = &hello, h
					r.flood(t, bob.ID(), duration)
					// one burst, and the message charged in advance
					maxDelivered := uint64(perSecond*duration.Seconds()) + perSecond + 1
					if n := h.Stats().Delivered; n > maxDelivered || n < perSecond {
						t.Errorf("%d messages in %v, want at most %d", n, duration, maxDelivered)
					}
					<-time.After(time.Hour)
					before := h.Stats().Delivered
					r.flood(t, bob.ID(), time.Millisecond)
					if n := h.Stats().Delivered - before; n < perSecond-1 {
						t.Errorf("after a pause %d messages are relayed at once, want %d", n, perSecond-1)
					}
				})
			})
		}
	}
}

// TestRateLimiter_ReconnectFromAddress_GainsNothing reconnects without a subject, in both
// versions. It needs a kernel that tells when the peer has closed a connection.
func TestRateLimiter_ReconnectFromAddress_GainsNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the hub learns that a connection is closed only after it has read everything before")
	}
	const perSecond, duration = 10, 3 * time.Second
	for name, hello := range map[string]*wire.Hello{"in version 1": nil, "in version 2": {Version: wire.Version2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			overTCP.test(t, func(t *testing.T, tr testTransport) {
				h := tr.start(t, hub.Config{MessageRate: perSecond, ResumeWindow: 10 * time.Millisecond})
				bob, begin := h.connectV1(t), time.Now()
				background(t, func() error {
					_, _ = io.Copy(io.Discard, bob) // ends with the connection
					return nil
				})
				r := reconnectingClient{hello: hello, hub: h}
				r.flood(t, bob.id, duration)
				n := h.Stats().Delivered
				if maxDelivered := uint64(perSecond*time.Since(begin).Seconds()) + 2*perSecond; n > maxDelivered || n < perSecond {
					t.Errorf("%d messages in %v, want at most %d", n, time.Since(begin), maxDelivered)
				}
				bob.Close()
			})
		})
	}
}

// TestRateLimiter_SameAddress_LimitsEachConn checks that clients behind one address that are
// connected at the same time do not share a rate.
func TestRateLimiter_SameAddress_LimitsEachConn(t *testing.T) {
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MessageRate: 10})
		for range 5 {
			c := h.connectV2(t)
			for range 8 {
				c.sendMessage([]byte("x"), 0, 0, c.ID)
			}
		}
		eventually(t, "all relayed", func() bool { return h.Stats().Delivered == 5*8 })
		if n := h.Stats().RateLimited; n > 0 {
			t.Errorf("%d times rate limited, want 0", n)
		}
	})
}

// TestRateLimiter_Burst_IsOneSecond checks that a client can send one second's worth at once,
// however much comes in one read, and that the rest is handled evenly.
func TestRateLimiter_Burst_IsOneSecond(t *testing.T) {
	for name, test := range map[string]struct {
		config hub.Config
		body   int
		second uint64 // messages in a second
	}{
		"messages": {hub.Config{MessageRate: 20}, 1, 20},
		"bytes":    {hub.Config{ByteRate: 40_000}, 2000, 20},
	} {
		t.Run(name, func(t *testing.T) {
			onMemoryTransports(t, func(t *testing.T, start startFunc) {
				h := start(t, test.config)
				c := h.connectHello(t, wire.Hello{Version: wire.Version2})
				defer c.Close() // ends the background goroutines
				background(t, func() error {
					_, _ = io.Copy(io.Discard, c) // ends with the connection
					return nil
				})
				<-time.After(2 * time.Second) // the bucket fills up
				var frames []byte
				for seq := range uint64(400) {
					frames = wire.AppendSend(frames, 1+seq, 0, 0, []uint64{12345}, make([]byte, test.body))
				}
				background(t, func() error { // ends with the connection
					_, _ = c.Write(frames)
					return nil
				})
				for second := range uint64(10) {
					<-time.After(10 * time.Millisecond)
					if n := h.Stats().Dropped[hub.DropUnknown]; n > (1+second)*test.second+2 || n+2 < (1+second)*test.second*9/10 {
						t.Errorf("after %d s %d messages are relayed, want %d", second, n, (1+second)*test.second)
					}
					<-time.After(990 * time.Millisecond)
				}
			})
		})
	}
}

// TestRateLimiter_OneAtATime_ReachesRate has a client send each message only when the one before
// was answered. The connection is idle in between.
func TestRateLimiter_OneAtATime_ReachesRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond = 10
		c := startInMemory(t, hub.Config{MessageRate: perSecond}).connectV2(t)
		begun := time.Now()
		const seconds = 10
		for range (1 + seconds) * perSecond { // the burst is that of one second
			c.fenceV2()
		}
		if took := time.Since(begun); took < seconds*time.Second*9/10 || took > seconds*time.Second*11/10 {
			t.Errorf("%d messages took %v, want %d s", (1+seconds)*perSecond, took, seconds)
		}
	})
}

// TestRateLimiter_WebSocketOverhead_IsCharged floods the hub with WebSocket frames that bring no
// frame of the protocol, before HELLO and behind it. They count as bytes.
func TestRateLimiter_WebSocketOverhead_IsCharged(t *testing.T) {
	const perSecond, seconds = 50_000, 5
	for name, flood := range map[string][]byte{
		"Pings": maskedFrame(0x89, []byte("ping")), "Pongs": maskedFrame(0x8a, make([]byte, 125)), "empty messages": maskedFrame(0x82, nil),
	} {
		flood = bytes.Repeat(flood, 1000)
		for _, afterHello := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HELLO %v", name, afterHello), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := startWebSocketInMemory(t, hub.Config{ByteRate: perSecond})
					c := h.upgrade(t)
					if afterHello {
						handshakeV2(c.stream, wire.Hello{Version: wire.Version2})
					}
					sent := 0
					for begin := time.Now(); time.Since(begin) < seconds*time.Second; {
						_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
						n, err := c.Write(flood[sent%len(flood):])
						if sent += n; err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
							t.Fatal(err)
						}
					}
					const buffered = 1 << 20 // of the pipe
					if most := (1+seconds)*perSecond + buffered; sent > most {
						t.Errorf("the hub has read %d bytes in %d s, want at most %d", sent, seconds, most)
					}
					if read := h.Stats().BytesIn; read < (1+seconds)*perSecond*8/10 || read > (1+seconds)*perSecond*12/10 {
						t.Errorf("the hub has counted %d bytes, want %d", read, (1+seconds)*perSecond)
					}
					c.reset()
				})
			})
		}
	}
}

// TestRateLimiter_RequestedAcks_AreFree has the hub request ACKs all the time from a client
// with a low message rate. ACKs and PONGs do not count.
func TestRateLimiter_RequestedAcks_AreFree(t *testing.T) {
	const messages = 500
	onAllTransports(t, func(t *testing.T, tr testTransport) {
		h := tr.start(t, hub.Config{MaxQueuedBytes: 5 << 20, Authenticate: func(req hub.AuthRequest) (*hub.Permissions, error) {
			if req.Token == "quiet" {
				return &hub.Permissions{MessageRate: 5}, nil
			}
			return &hub.Permissions{}, nil
		}})
		sender, limited := h.connectToken(t, "sender"), h.connectToken(t, "quiet")
		body := pattern(60_000, 1)
		background(t, func() error {
			for range messages {
				sender.sendMessage(body, 0, 0, limited.id)
			}
			return nil
		})
		if err := limited.ackWhenPinged(messages); err != nil {
			t.Error(err)
		}
		if n := h.Stats().RateLimited; n > 0 {
			t.Errorf("rate-limited %d times by requested ACKs", n)
		}
	})
}
