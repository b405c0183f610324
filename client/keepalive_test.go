package client

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestKeepAlive_AnswersPingAndTimesOut replies to a PING, and then sees the keep-alive timeout.
func TestKeepAlive_AnswersPingAndTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClient(t, nil)
		h.send(wire.AppendPing(nil, 42))
		h.wantBytes(wire.AppendPong(nil, 42))
		begin := time.Now()
		go io.Copy(io.Discard, h) // ends with the connection
		e := tc.wantEvent(EventDisconnected)
		if took := time.Since(begin); took < 20*time.Second || took > 30*time.Second || !errors.Is(e.Err, ErrConnectionLost) {
			t.Errorf("given up after %v: %v, want after two intervals of 10s", took, e.Err)
		}
	})
}

// TestKeepAlive_IgnoresCallbackTime blocks the read goroutine in each kind of callback for
// longer than two keep-alive intervals.
func TestKeepAlive_IgnoresCallbackTime(t *testing.T) {
	const long = time.Minute // testWelcome has a keep-alive of 10 s
	for name, change := range map[string]func(*Options){
		"OnMessage": func(o *Options) { o.OnMessage = func(Message) { time.Sleep(long) } },
		"OnEvent": func(o *Options) {
			onEvent := o.OnEvent
			o.OnEvent = func(e Event) {
				if onEvent(e); e.Kind == EventRefused {
					time.Sleep(long)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClient(t, change)
				// Ends with the connection.
				go io.Copy(io.Discard, h)
				// About a message without a report.
				h.send(deliverFrame(1, 0), wire.AppendError(nil, 99, wire.ErrorBody, "too large"))
				time.Sleep(long + 5*time.Second)
				h.send(wire.AppendPing(nil, 1)) // bytes came within two intervals
				synctest.Wait()
				for len(tc.events) > 0 {
					if e := <-tc.events; e.Kind == EventDisconnected {
						t.Errorf("disconnected: %v", e.Err)
					}
				}
			})
		})
	}
}
