package hub_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
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
