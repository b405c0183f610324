package client

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// withMaxReportTimeout returns w with MaxReportTimeout set to max.
func withMaxReportTimeout(w wire.Welcome, max time.Duration) wire.Welcome {
	w.MaxReportTimeout = max.Milliseconds()
	return w
}

// TestSendFunc_ReportTimeout checks the report timeout in a SEND to hubs that allow more, less,
// or do not know the option, also when the hub changes while the message waits.
func TestSendFunc_ReportTimeout(t *testing.T) {
	ask := func(timeout time.Duration) []byte {
		return wire.AppendSend(nil, 1, wire.MakeOptions(wire.LevelProcessed, 0).WithReportTimeout(timeout), 0, []uint64{1}, []byte("task"))
	}
	const unknown, asked = 0, 90 * time.Second
	for name, tt := range map[string]struct {
		first, second time.Duration // limits of the two hubs
		resumed       bool          // the second hub resumes the session
		want          [2]time.Duration
	}{
		"allowed":                           {first: time.Hour, second: time.Hour, resumed: true, want: [2]time.Duration{asked, asked}},
		"resumed on a hub that allows less": {first: time.Hour, second: time.Minute, resumed: true, want: [2]time.Duration{asked, time.Minute}},
		"sent again to a hub without report timeouts": {first: time.Hour, second: unknown, want: [2]time.Duration{asked, 0}},
		"sent again to a hub with report timeouts":    {first: unknown, second: time.Hour, want: [2]time.Duration{0, asked}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2}, withMaxReportTimeout(testWelcome, tt.first), func(o *Options) { o.Resend = true })
				err := tc.client.SendFunc(t.Context(), []uint64{1}, []byte("task"), &SendOptions{Level: wire.LevelProcessed, ReportTimeout: asked}, func(*Report, error) {})
				if err != nil {
					t.Fatal(err)
				}
				h.wantBytes(ask(tt.want[0]))
				h.Close()
				tc.wantEvent(EventDisconnected)
				h = <-tc.hubs
				h.wantType(wire.TypeHello)
				h.wantType(wire.TypeIdentity)
				w := withMaxReportTimeout(testWelcome, tt.second)
				w.Resumed = tt.resumed
				h.sendWelcome(w)
				h.wantBytes(ask(tt.want[1]))
			})
		})
	}
}

// TestSendFunc_ReportTimeoutTooLong sends nothing.
func TestSendFunc_ReportTimeoutTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tc, h := newTestClientWith(t, wire.Hello{Version: wire.Version2}, withMaxReportTimeout(testWelcome, time.Minute), nil)
		_, err := tc.client.SendReport(t.Context(), []uint64{1}, nil, &SendOptions{ReportTimeout: time.Minute + 1})
		var tooLong *ReportTimeoutTooLongError
		if !errors.As(err, &tooLong) || tooLong.Limit != time.Minute || tooLong.Timeout != time.Minute+1 {
			t.Errorf("above the limit of the hub: %v", err)
		}
		for _, timeout := range []time.Duration{-1, wire.MaxReportTimeout + 1} {
			if _, err := tc.client.SendReport(t.Context(), []uint64{1}, nil, &SendOptions{ReportTimeout: timeout}); err == nil {
				t.Errorf("%v is accepted", timeout)
			}
		}
		h.wantSilence()
	})
}
