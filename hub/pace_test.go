package hub_test

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestPace slows down one who sends faster than it may, and nobody else; its own end is heard
// meanwhile.
func TestPace(t *testing.T) {
	for name, test := range map[string]struct {
		config hub.Config
		body   int
	}{
		"messages": {hub.Config{MessageRate: 50}, 1},
		"bytes":    {hub.Config{ByteRate: 50_000}, 1000},
		"by grant": {hub.Config{MessageRate: 1e6, Admit: func(hub.Applicant) (*hub.Grant, error) {
			return &hub.Grant{MessageRate: 50}, nil
		}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time it waits
			h := start(t, test.config)
			sender, receiver := h.guest(t), h.guest(t)
			receiver.mute = true
			body := pattern(test.body, 1)
			begun := time.Now()
			const messages = 75 // 50 of them are a second's worth
			for range 2 {       // what one read brings is handled, and the next read has to wait
				first := sender.seq + 1
				for range messages {
					sender.tell(body, 0, 0, receiver.id)
				}
				for seq := first; seq < first+messages; seq++ {
					receiver.delivered(sender.id, seq, body)
				}
			}
			if took := time.Since(begun); took < 300*time.Millisecond {
				t.Errorf("%d messages took %v", messages, took)
			}
			if h.Stats().Paced == 0 {
				t.Error("nobody was slowed down")
			}
			for range 100 { // it will be busy for long
				sender.tell(body, 0, 0, receiver.id)
			}
			h.Disconnect(sender.id, false)
			var late net.Error
			for {
				if _, _, err := sender.next(); err != nil {
					if errors.As(err, &late) && late.Timeout() {
						t.Error("it is not gone")
					}
					break
				}
			}
			h.disconnected(t, hub.ReasonDisconnected, 1)
		})
	}
}

// TestPace_HoldsNoMemoryToReadInto has more clients be slowed down than there are read buffers: others are read as ever.
func TestPace_HoldsNoMemoryToReadInto(t *testing.T) {
	h := start(t, hub.Config{ByteRate: 100, MaxQueuedBytes: 5 << 20}) // 10 minutes each
	for range 20 {                                                    // of 64 KiB each: there are 10
		g := h.guest(t)
		g.tell(make([]byte, 60_000), 0, 0, 12345)
	}
	eventually(t, "all are slowed down", func() bool { return h.Stats().Paced == 20 })
	eventually(t, "those who are not read hold no memory", func() bool { return h.Stats().QueuedBytes == 0 })
}

// reconnecting sends as much as it can at once over one connection after the other.
type reconnecting struct {
	hello *wire.Hello // nil: it speaks version 1
	again bool        // it resumes
	stays bool        // the old connection is there until then

	dial    func(t testing.TB) net.Conn
	seq     uint64
	welcome wire.Welcome
	old     net.Conn
}

// flood does so for a while.
func (r *reconnecting) flood(t *testing.T, to uint64, while time.Duration) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < while; {
		nc := r.dial(t)
		frames := r.frames(to)
		go func() { _, _ = nc.Write(frames) }() // ends with the connection
		heard := make(chan wire.Welcome, 1)
		go func() { // likewise
			p := &peer{Conn: nc, t: t}
			for kind, payload, err := p.next(); err == nil; kind, payload, err = p.next() {
				if kind == wire.TypeWelcome {
					w, _ := wire.ParseWelcome(payload)
					heard <- w
				}
			}
		}()
		if r.old != nil {
			r.old.Close()
		}
		if r.old = nc; r.hello != nil {
			r.welcome = <-heard
		}
		<-time.After(20 * time.Millisecond)
		if !r.stays {
			nc.Close()
			<-time.After(20 * time.Millisecond)
		}
	}
	r.old.Close()
}

// frames returns what it says on the next connection.
func (r *reconnecting) frames(to uint64) (frames []byte) {
	if r.hello != nil {
		hello := *r.hello
		if r.again && r.welcome.ID != 0 {
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

// TestPace_SurvivesConnections has a client come back as often as it can: it sends no faster for it. When it has
// paused for long enough it may send as at first.
func TestPace_SurvivesConnections(t *testing.T) {
	const perSecond, while = 10, 20 * time.Second
	for name, hello := range map[string]wire.Hello{"without a token": {}, "by a token": {Token: "alice 10h"}, "by a token with an id": {Token: "alice 10h 7"}} {
		hello.Version = wire.Version2
		for way, r := range map[string]*reconnecting{
			"resuming": {again: true}, "resuming while it is connected": {again: true, stays: true}, "as another client": {},
		} {
			if hello.Token == "" && !r.again {
				continue // see TestPace_SurvivesConnectionsOfAnAddress
			}
			t.Run(name+" "+way, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ln := newPipes()
					config, token := hub.Config{MessageRate: perSecond}, ""
					if hello.Token != "" {
						config.Admit, token = renewable, "bob 10h"
					}
					h := startOn(t, config, ln)
					bob := dialVirtual(t, ln, &client.Options{Token: func(context.Context) (string, error) { return token, nil }, OnMessage: func(client.Message) {}})
					defer bob.Close()
					r.hello, r.dial = &hello, func(t testing.TB) net.Conn { return ln.dial(t) }
					r.flood(t, bob.ID(), while)
					most := uint64(perSecond*while.Seconds()) + perSecond + 1 // a second's worth at once, and the one that is over
					if n := h.Stats().Delivered; n > most || n < perSecond {
						t.Errorf("%d messages in %v, want at most %d", n, while, most)
					}
					<-time.After(time.Hour)
					before := h.Stats().Delivered
					r.flood(t, bob.ID(), time.Millisecond)
					if n := h.Stats().Delivered - before; n < perSecond-1 {
						t.Errorf("after a pause %d messages are handed on at once, want %d", n, perSecond-1)
					}
				})
			})
		}
	}
}

// TestPace_SurvivesConnectionsOfAnAddress has a client come back as a stranger, in both versions. It takes a kernel
// that tells that the last one has closed its connection.
func TestPace_SurvivesConnectionsOfAnAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the hub cannot know that a connection is closed before it has read what came before")
	}
	const perSecond, while = 10, 3 * time.Second
	for name, hello := range map[string]*wire.Hello{"in version 1": nil, "in version 2": {Version: wire.Version2}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time it waits
			h := start(t, hub.Config{MessageRate: perSecond, ResumeWindow: 10 * time.Millisecond})
			bob, begin := h.peer(t), time.Now()
			background(t, func() error {
				_, _ = io.Copy(io.Discard, bob) // ends with the connection
				return nil
			})
			r := reconnecting{hello: hello, dial: func(t testing.TB) net.Conn { return h.silent(t).Conn }}
			r.flood(t, bob.id, while)
			n := h.Stats().Delivered
			if most := uint64(perSecond*time.Since(begin).Seconds()) + 2*perSecond; n > most || n < perSecond {
				t.Errorf("%d messages in %v, want at most %d", n, time.Since(begin), most)
			}
			bob.Close()
		})
	}
}

// TestPace_IsOfEachConnection at one time: those behind one address do not share what they may send.
func TestPace_IsOfEachConnection(t *testing.T) {
	h := start(t, hub.Config{MessageRate: 10})
	for range 5 {
		g := h.guest(t)
		for range 8 {
			g.tell([]byte("x"), 0, 0, g.ID)
		}
	}
	eventually(t, "all is handed on", func() bool { return h.Stats().Delivered == 5*8 })
	if n := h.Stats().Paced; n > 0 {
		t.Errorf("%d times somebody was slowed down", n)
	}
}

// TestPace_OneSecondAtOnce is what a client may send at once, however much of it comes in one read, and the rest comes
// evenly.
func TestPace_OneSecondAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		config hub.Config
		body   int
		second uint64 // messages
	}{
		"messages": {hub.Config{MessageRate: 20}, 1, 20},
		"bytes":    {hub.Config{ByteRate: 40_000}, 2000, 20},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipes()
				h := startOn(t, test.config, ln)
				g := greet(virtual(t, ln), wire.Hello{Version: wire.Version2})
				defer g.Close() // for those in the background
				background(t, func() error {
					_, _ = io.Copy(io.Discard, g) // ends with the connection
					return nil
				})
				<-time.After(2 * time.Second) // its budget is full
				var frames []byte
				for seq := range uint64(400) {
					frames = wire.AppendSend(frames, 1+seq, 0, 0, []uint64{12345}, make([]byte, test.body))
				}
				background(t, func() error { // ends with the connection
					_, _ = g.Write(frames)
					return nil
				})
				for second := range uint64(10) {
					<-time.After(10 * time.Millisecond)
					if n := h.Stats().Unknown; n > (1+second)*test.second+2 || n+2 < (1+second)*test.second*9/10 {
						t.Errorf("after %d s %d messages are handed on, want %d", second, n, (1+second)*test.second)
					}
					<-time.After(990 * time.Millisecond)
				}
			})
		})
	}
}
