package hub_test

import (
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// TestObservers_Latency_IsSampled sends in every possible way until some deliveries were
// timed, and checks that all deliveries arrive.
func TestObservers_Latency_IsSampled(t *testing.T) {
	for name, send := range map[string]func(v1Sender *clientV1, v2Sender *clientV2, to uint64, body []byte) uint64{
		"version 1": func(v1Sender *clientV1, _ *clientV2, to uint64, body []byte) uint64 {
			v1Sender.relay(body, to)
			return 0
		},
		"version 2": func(_ *clientV1, v2Sender *clientV2, to uint64, body []byte) uint64 {
			return v2Sender.sendMessage(body, 0, 0, to)
		},
		"followed": func(_ *clientV1, v2Sender *clientV2, to uint64, body []byte) uint64 {
			seq := v2Sender.sendMessage(body, levelOptions(wire.LevelWritten), 0, to)
			v2Sender.expectReport(seq, wire.FateWritten)
			return seq
		},
	} {
		t.Run(name, func(t *testing.T) {
			latencies := make(chan time.Duration, 100)
			h := start(t, hub.Config{OnLatency: func(d time.Duration) {
				select {
				case latencies <- d:
				default:
				}
			}})
			v1Sender, v2Sender, v1, v2 := h.connectV1(t), h.connectV2(t), h.connectV1(t), h.connectV2(t)
			began := time.Now()
			for n := 0; len(latencies) < 4; n++ {
				body := pattern(100+n%3*2000, byte(n))
				send(v1Sender, v2Sender, v1.id, body)
				v1.expectRelay(body)
				seq := send(v1Sender, v2Sender, v2.id, body)
				from := v2Sender.id
				if seq == 0 {
					from = v1Sender.id
				}
				v2.expectDeliver(from, seq, body)
			}
			for range 4 {
				if d := <-latencies; d <= 0 || d > time.Since(began) {
					t.Errorf("a delivery took %v", d)
				}
			}
		})
	}
}

// BenchmarkRelayTimed is BenchmarkRelay with OnLatency: the two should not differ.
func BenchmarkRelayTimed(b *testing.B) {
	benchmarkRelays(b, hub.Config{OnLatency: func(time.Duration) {}})
}
