package hub_test

import (
	"fmt"
	"io"
	"math"
	"net"
	"testing"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// maskedMessage returns a WebSocket frame of a client that holds payload.
func maskedMessage(payload []byte) []byte {
	return ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(payload)))
}

// readWebSocketPayload reads one WebSocket frame of the hub and returns its payload.
func readWebSocketPayload(t *testing.T, nc net.Conn) []byte {
	t.Helper()
	header, err := ws.ReadHeader(nc)
	if err != nil {
		t.Fatal(err)
	}
	payload := make([]byte, header.Length)
	if _, err := io.ReadFull(nc, payload); err != nil {
		t.Fatal(err)
	}
	return payload
}

// connectRawWebSocket connects a client of version 2 and returns the connection below its WebSocket.
func (h *testHub) connectRawWebSocket(t *testing.T) (nc net.Conn, id uint64) {
	t.Helper()
	dialer := ws.Dialer{Protocols: []string{wire.Subprotocol}}
	nc, _, _, err := dialer.Dial(t.Context(), h.web.url().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if _, err := nc.Write(maskedMessage(wire.AppendHello(nil, &wire.Hello{Version: wire.Version2}))); err != nil {
		t.Fatal(err)
	}
	_, payload := wire.Split(readWebSocketPayload(t, nc))
	welcome, err := wire.ParseWelcome(payload)
	if err != nil {
		t.Fatal(err)
	}
	return nc, welcome.ID
}

// TestRelay_OverWebSocket_AllocatesNothing relays from a WebSocket to WebSockets, which acknowledge
// what they have received.
func TestRelay_OverWebSocket_AllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("pools drop entries under the race detector")
	}
	const relayRounds, relaysPerRound = 10, 20
	for _, size := range []int{0, 128, 10_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			h := overWebSocket.start(t, hub.Config{})
			sender, _ := h.connectRawWebSocket(t)
			var ids []uint64
			var receivers []net.Conn
			for range 10 {
				nc, id := h.connectRawWebSocket(t)
				receivers, ids = append(receivers, nc), append(ids, id)
			}
			delivery := make([]byte, size+100)
			n, received := 0, uint64(0)
			// by the number of the message
			sends, acks := make([][]byte, 100+relayRounds*(relaysPerRound+1)), make([][]byte, 100+relayRounds*(relaysPerRound+1))
			for i := range uint64(len(acks)) {
				sends[i] = maskedMessage(wire.AppendSend(nil, i, 0, 0, ids, make([]byte, size)))
				acks[i] = maskedMessage(wire.AppendAck(nil, i))
			}
			relayOnce := func() {
				received++
				if _, err := sender.Write(sends[received]); err != nil {
					t.Fatal(err)
				}
				for _, nc := range receivers {
					if n == 0 { // the first delivery tells the length of each
						n = len(ws.MustCompileFrame(ws.NewBinaryFrame(readWebSocketPayload(t, nc))))
					} else if _, err := io.ReadFull(nc, delivery[:n]); err != nil {
						t.Fatal(err)
					}
					if _, err := nc.Write(acks[received]); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 50 {
				relayOnce()
			}
			// On a busy machine the kernel takes only a part of some deliveries, and a goroutine starts
			// that writes the rest. A relay without that allocates nothing.
			least := math.Inf(1)
			for range relayRounds {
				least = min(least, testing.AllocsPerRun(relaysPerRound, relayOnce))
			}
			if least != 0 {
				t.Errorf("at least %v allocations per relay, want none", least)
			}
		})
	}
}
