package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

func TestClose_Twice(t *testing.T) {
	c, h := newTestClientV1TCP(t, nil)
	go func() { // ends when the client has closed the connection
		h.wantEOF()
		h.Close()
	}()
	for range 3 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	wantClosed(t, c, ErrClosed)
}

func TestClose_UnblocksWaitingCalls(t *testing.T) {
	c, h := newTestClientV1TCP(t, nil)
	go func() { // ends when the client has closed the connection
		io.Copy(io.Discard, h)
		h.Close()
	}()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, err := c.Receive(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("Receive: %v", err)
			}
		})
		wg.Go(func() {
			for _, err := range c.Messages(t.Context()) {
				if !errors.Is(err, ErrClosed) {
					t.Errorf("Messages: %v", err)
				}
			}
		})
		wg.Go(func() {
			if _, err := c.List(t.Context()); !errors.Is(err, ErrClosed) {
				t.Errorf("List: %v", err)
			}
		})
		wg.Go(func() {
			if err := c.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			select {
			case <-c.Done():
			default:
				t.Error("Close has returned, and Done is not closed")
			}
		})
	}
	wg.Wait()
	wantClosed(t, c, ErrClosed)
}

// TestClose_FlushesQueuedSends has a hub that sends at the same time and reads slowly.
func TestClose_FlushesQueuedSends(t *testing.T) {
	const all, size = 50, 100_000
	c, h := newTestClientV1TCP(t, &Options{MaxQueued: all * size})
	h.send(deliveryFrames(1000)) // the application does not receive them
	for i := range all {
		if err := c.Send(t.Context(), []uint64{uint64(i)}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	closed := runAsync(c.Close)
	for i := range all {
		_, payload, err := h.readFrame()
		if err != nil {
			t.Fatal(err)
		}
		if r, err := wire.ParseRelay(payload); err != nil || r.To.At(0) != uint64(i) || len(r.Body) != size {
			t.Fatalf("relay %d is not what was sent: %v", i, err)
		}
		h.send(deliveryFrames(10))
	}
	h.wantEOF()
	h.Close()
	if err := waitFor(t, "Close", closed); err != nil {
		t.Error(err)
	}
}

func TestClose_TimesOutWhenHubDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newTestClientV1(t, &Options{CloseTimeout: 3 * time.Second, MaxQueued: 1})
		for range 2 {
			ctx, cancel := context.WithCancel(t.Context())
			sent := runAsync(func() error { return c.Send(ctx, nil, nil) })
			if isBlocked(sent) {
				cancel()
			}
			<-sent
			cancel()
		}
		waiting := runAsync(func() error { return c.Send(t.Context(), nil, nil) })
		if !isBlocked(waiting) {
			t.Fatal("Send does not block")
		}
		begin := time.Now()
		if err := c.Close(); !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "messages were not sent") {
			t.Errorf("Close: %v, want the number of unsent messages", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("Close took %v, want 3s", took)
		}
		if err := <-waiting; !errors.Is(err, ErrClosed) {
			t.Errorf("Send: %v, want %v", err, ErrClosed)
		}
		wantClosed(t, c, ErrClosed)
	})
}

// TestClose_TimesOutWhenHubDoesNotClose has a hub that reads everything and does not close its
// side.
func TestClose_TimesOutWhenHubDoesNotClose(t *testing.T) {
	c, h := newTestClientV1TCP(t, &Options{CloseTimeout: 20 * time.Millisecond})
	if err := c.Send(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v, but everything was sent", err)
	}
	h.wantBytes(wire.AppendRelay(nil, nil, nil))
	h.wantEOF()
}

// TestClose_WithoutHalfClose: without CloseWrite the hub sees no end of the stream, and Close
// must not wait for its reply.
func TestClose_WithoutHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		begin := time.Now()
		if err := c.Send(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
		closed := runAsync(c.Close)
		h.wantBytes(wire.AppendRelay(nil, nil, nil))
		h.wantEOF()
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestClose_AfterHubClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		h.send(deliveryFrames(1))
		h.Close()
		<-c.Done()
		begin := time.Now()
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v, but nothing was lost", err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v", took)
		}
		if _, err := c.Receive(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Receive: %v, want %v", err, ErrClosed)
		}
		if err := c.Send(t.Context(), nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Send: %v, want %v", err, ErrClosed)
		}
		if _, err := c.List(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("List: %v, want %v", err, ErrClosed)
		}
		if err := c.Err(); !errors.Is(err, ErrHubClosed) {
			t.Errorf("Err: %v, want what ended the connection, %v", err, ErrHubClosed)
		}
	})
}

func TestClose_ReportsUnsentMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		for range 3 {
			if err := c.Send(t.Context(), nil, []byte("hello")); err != nil {
				t.Fatal(err)
			}
		}
		h.wantBytes(wire.AppendRelay(nil, nil, []byte("hello"))[:10])
		h.Close()
		<-c.Done()
		for range 2 {
			if err := c.Close(); !errors.Is(err, ErrHubClosed) && !errors.Is(err, ErrConnectionLost) || !strings.Contains(err.Error(), "3 messages") {
				t.Errorf("Close: %v, want 3 unsent messages", err)
			}
		}
	})
}

// TestClose_DuringMessagesLoop: no message can be received after Close.
func TestClose_DuringMessagesLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, h := newTestClientV1(t, nil)
		h.send(deliveryFrames(20))
		synctest.Wait()
		for range c.Messages(t.Context()) {
			c.Close()
			break // with unread messages in the inbox
		}
		if m, err := c.Receive(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("received %q (%v) after Close", m.Body, err)
		}
		h.wantEOF()
	})
}

// TestClose_WithFullInbox: Close must not wait for a receiver.
func TestClose_WithFullInbox(t *testing.T) {
	c, h := newTestClientV1TCP(t, &Options{MaxUnread: 100})
	go func() { // ends when the client has closed the connection
		for i := 0; ; i++ {
			if _, err := h.Write(deliveryFrame(fmt.Sprint(i))); err != nil {
				return
			}
		}
	}()
	go io.Copy(io.Discard, h) // ends when the client has closed the connection
	wantMessage(t, c, "0")
	closed := runAsync(c.Close)
	<-c.session.life.closing
	h.Conn.(*net.TCPConn).CloseWrite()
	if err := waitFor(t, "Close", closed); err != nil {
		t.Error(err)
	}
}

func TestClose_ConcurrentSend(t *testing.T) {
	for range 50 {
		c, h := newTestClientV1TCP(t, &Options{MaxQueued: 500})
		var received int
		served := make(chan struct{})
		go func() { // ends when the client has closed the connection
			defer close(served)
			h.serve(func(wire.Relay) { received++ })
			h.Close()
		}()
		var taken int
		var wg sync.WaitGroup
		begun := make(chan struct{}, 1)
		wg.Go(func() {
			for c.Send(t.Context(), nil, make([]byte, 100)) == nil {
				if taken++; taken == 10 {
					begun <- struct{}{}
				}
			}
		})
		<-begun
		err := c.Close()
		wg.Wait()
		<-served
		if err == nil && received < taken {
			t.Fatalf("Send accepted %d messages, %d arrived, and Close returned nil", taken, received)
		}
	}
}

// TestClose_BoundedWaitForCallbacks has a callback that waits for the end of Close, or calls
// Close itself.
func TestClose_BoundedWaitForCallbacks(t *testing.T) {
	const timeout = 3 * time.Second
	var c *Client
	var release chan struct{}
	var err error
	waits := func() { <-release }
	closes := func() { err = c.Close() }
	for name, callback := range map[string]func(){"waits": waits, "calls Close": closes} {
		for where, set := range map[string]func(o *Options, f func()){
			"OnMessage": func(o *Options, f func()) { o.OnMessage = func(Message) { f() } },
			"OnEvent":   func(o *Options, f func()) { o.OnEvent = func(Event) { f() } },
			"done":      func(*Options, func()) {},
		} {
			t.Run(where+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					release = make(chan struct{})
					calls := 0
					f := func() {
						if calls++; calls == 1 {
							callback()
						}
					}
					tc, h := newTestClient(t, func(o *Options) {
						o.CloseTimeout = timeout
						set(o, f)
					})
					c = tc.client
					if e := c.SendFunc(t.Context(), []uint64{1}, nil, nil, func(*Report, error) {
						if where == "done" {
							f()
						}
					}); e != nil {
						t.Fatal(e)
					}
					h.wantType(wire.TypeSend)
					switch where {
					case "OnMessage":
						h.send(deliverFrame(1, 0), deliverFrame(2, 0))
					case "OnEvent":
						h.send(wire.AppendError(nil, 9, wire.ErrorBody, "no"))
					case "done":
						h.send(wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)}))
					}
					synctest.Wait()
					go io.Copy(io.Discard, h) // ends with the connection
					begin := time.Now()
					if name == "waits" {
						err = c.Close()
					} else {
						<-c.Done()
						time.Sleep(callbackTimeout)
						synctest.Wait()
					}
					if took := time.Since(begin); took > timeout+callbackTimeout || !errors.Is(err, ErrCallbackBlocked) {
						t.Errorf("Close returned %v after %v, want %v in %v", err, took, ErrCallbackBlocked, timeout+callbackTimeout)
					}
					close(release)
					<-c.reconnector.done
					if err := c.Close(); errors.Is(err, ErrCallbackBlocked) {
						t.Errorf("Close returns %v when no callback runs any more", err)
					}
					if calls != 1 {
						t.Errorf("%d calls, %d of them after Close", calls, calls-1)
					}
				})
			})
		}
	}
}

// TestClose_GoAwayReportsUnsent: messages that were sent after the hub stopped reading are
// lost.
func TestClose_GoAwayReportsUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		if err := tc.client.Send(t.Context(), []uint64{1}, nil); err != nil {
			t.Fatal(err)
		}
		h.wantType(wire.TypeSend)
		closed := runAsync(tc.client.Close)
		h.wantType(wire.TypeBye)
		h.send(wire.AppendGoAway(nil, &wire.GoAway{Code: wire.GoAwayShutdown, Reconnect: true}))
		h.Close()
		if err := <-closed; err == nil || !strings.Contains(err.Error(), "1 messages") {
			t.Errorf("Close: %v", err)
		}
	})
}

// TestClose_NothingSentAfterBye has a PING to answer and messages without an ACK.
func TestClose_NothingSentAfterBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		h.wantBytes(sendFrame(1, "hello"))
		closed := runAsync(tc.client.Close)
		h.wantType(wire.TypeBye)
		h.send(wire.AppendPing(nil, 42), deliverFrame(1, wire.DeliverWantAck))
		time.Sleep(2 * time.Second) // many ticks, which could probe
		if err := h.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := h.readFrame(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a frame of type %d (%v) after BYE", kind, err)
		}
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestClose_SendsFinalAck checks for an ACK and then BYE.
func TestClose_SendsFinalAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(deliverFrame(1, 0), deliverFrame(2, 0))
		wantMessage(t, tc.client, "1")
		closed := runAsync(tc.client.Close)
		h.wantBytes(wire.AppendBye(wire.AppendAck(nil, 1)))
		h.wantEOF()
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestClose_WhileReconnecting loses the connection, and calls Close before the next WELCOME.
func TestClose_WhileReconnecting(t *testing.T) {
	away := func(t *testing.T, sent int) (*testClient, *fakeHub) {
		tc, h := newTestClient(t, nil)
		h.Close()
		tc.wantEvent(EventDisconnected)
		for i := range sent {
			if err := tc.client.Send(t.Context(), []uint64{1}, []byte(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		h = <-tc.hubs
		h.wantType(wire.TypeHello)
		h.wantType(wire.TypeIdentity)
		return tc, h
	}
	t.Run("with nothing to send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tc, _ := away(t, 0)
			begun := time.Now()
			if err := tc.client.Close(); err != nil || time.Since(begun) > 0 {
				t.Errorf("Close took %v: %v", time.Since(begun), err)
			}
		})
	})
	t.Run("with something to send", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tc, h := away(t, 1)
			closed := runAsync(tc.client.Close)
			if !isBlocked(closed) {
				t.Fatal("Close does not wait for the reconnect")
			}
			w := resumedWelcome(func(*wire.Welcome) {})
			h.sendWelcome(w)
			h.wantBytes(wire.AppendBye(sendFrame(1, "0")))
			h.Close()
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("to a hub that does not reply", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tc, _ := away(t, 2)
			begun := time.Now()
			err := tc.client.Close()
			if took := time.Since(begun); took != tc.client.session.options.CloseTimeout {
				t.Errorf("Close took %v, want %v", took, tc.client.session.options.CloseTimeout)
			}
			if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "2 messages") {
				t.Errorf("Close: %v", err)
			}
		})
	})
}

// TestClose_DuplicateReportCountsOnce loses the connection of a closing client. The hub then
// sends unacknowledged frames again.
func TestClose_DuplicateReportCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, func(o *Options) { o.MaxQueued = 5000 })
		outcome := make(chan error, 1)
		err := tc.client.SendFunc(t.Context(), []uint64{1}, nil, nil, func(_ *Report, err error) { outcome <- err })
		if err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("x", 900)
		// More than the remaining credit.
		if err := tc.client.Send(t.Context(), []uint64{1}, []byte(large)); err != nil {
			t.Fatal(err)
		}
		h.wantType(wire.TypeSend)
		closed := runAsync(tc.client.Close)
		synctest.Wait()
		report := wire.AppendReport(nil, 1, []byte{byte(wire.FateReceived)})
		h.send(report)
		if err := <-outcome; err != nil {
			t.Error(err)
		}
		h.Close()
		tc.wantEvent(EventDisconnected)
		h = <-tc.hubs
		h.acceptHello(&wire.Hello{Version: wire.Version2, ID: 7, Resume: "secret"},
			resumedWelcome(func(w *wire.Welcome) { w.Seq, w.Acked, w.Again = 1, 1, 1 }))
		h.wantBytes(sendFrame(2, large))
		h.send(report)
		h.wantType(wire.TypeBye)
		h.Close()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// TestClose_StopsReconnecting: an attempt that Close has canceled emits no event.
func TestClose_StopsReconnecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dials := 0
		tc, h := newTestClient(t, func(o *Options) {
			dial := o.Dial
			o.Dial = func(ctx context.Context) (net.Conn, error) {
				if dials++; dials == 1 {
					return dial(ctx)
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		h.Close()
		tc.wantEvent(EventDisconnected)
		time.Sleep(minBackoff + time.Second) // an attempt is in progress
		if err := tc.client.Close(); err != nil {
			t.Error(err)
		}
		tc.wantEvent(EventClosed)
	})
}

// TestClose_WaitsForOnMessage closes the client while OnMessage runs.
func TestClose_WaitsForOnMessage(t *testing.T) {
	entered, leave, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	c, h := newTestClientV1TCP(t, &Options{OnMessage: func(Message) {
		close(entered)
		<-leave
		close(returned)
	}})
	h.send(deliveryFrame("the only one"))
	waitFor(t, "the message", entered)
	closed := runAsync(func() error { return c.Close() })
	<-c.session.life.closing
	close(leave)
	h.Close()
	if err := waitFor(t, "Close", closed); err != nil {
		t.Error(err)
	}
	select {
	case <-returned:
	default:
		t.Error("Close returned while OnMessage ran")
	}
}
