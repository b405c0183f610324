package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestDeliveriesAreTimed sends in every way there is until some of the deliveries were
// timed, and finds them undisturbed.
func TestDeliveriesAreTimed(t *testing.T) {
	for name, send := range map[string]func(classic *peer, sender *guest, to uint64, body []byte) uint64{
		"version 1": func(classic *peer, _ *guest, to uint64, body []byte) uint64 {
			classic.relay(body, to)
			return 0
		},
		"version 2": func(_ *peer, sender *guest, to uint64, body []byte) uint64 {
			return sender.tell(body, 0, 0, to)
		},
		"followed": func(_ *peer, sender *guest, to uint64, body []byte) uint64 {
			seq := sender.tell(body, only(wire.LevelWritten), 0, to)
			sender.reported(seq, wire.FateWritten)
			return seq
		},
	} {
		t.Run(name, func(t *testing.T) {
			took := make(chan time.Duration, 100)
			h := start(t, hub.Config{Latency: func(d time.Duration) {
				select {
				case took <- d:
				default:
				}
			}})
			classic, sender, older, newer := h.peer(t), h.guest(t), h.peer(t), h.guest(t)
			began := time.Now()
			for n := 0; len(took) < 4; n++ {
				body := pattern(100+n%3*2000, byte(n))
				send(classic, sender, older.id, body)
				older.hears(body)
				seq := send(classic, sender, newer.id, body)
				from := sender.id
				if seq == 0 {
					from = classic.id
				}
				newer.delivered(from, seq, body)
			}
			for range 4 {
				if d := <-took; d <= 0 || d > time.Since(began) {
					t.Errorf("a delivery took %v", d)
				}
			}
		})
	}
}

// BenchmarkRelayTimed is BenchmarkRelay with timing: the two should not differ.
func BenchmarkRelayTimed(b *testing.B) {
	benchmarkRelays(b, hub.Config{Latency: func(time.Duration) {}})
}
