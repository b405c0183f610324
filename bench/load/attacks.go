package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// identityRequests and listRequests are long series of requests with short and with long
// replies, for clients that do not read the replies.
var (
	identityRequests = slices.Repeat(wire.AppendIdentityRequest(nil), 20_000)
	listRequests     = slices.Repeat(wire.AppendListRequest(nil), 20_000)
)

// largeRelay is a RELAY frame with a body of 1 MiB.
var largeRelay = wire.AppendRelay(nil, []uint64{1}, make([]byte, 1<<20))

// attack is the behavior of a client on one connection. It authenticates with token, if at all.
// It returns when it has nothing more to do on the connection, which is then reset.
type attack func(ctx context.Context, nc net.Conn, token string)

// attacks are the attacks by kind.
var attacks = map[string]attack{
	"silent": func(_ context.Context, nc net.Conn, _ string) { discardUntilClosed(nc) },
	"header": func(_ context.Context, nc net.Conn, _ string) {
		writeAll(nc, []byte{0, 0, 1})
		discardUntilClosed(nc)
	},
	"client hello": func(_ context.Context, nc net.Conn, _ string) {
		writeAll(nc, []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}) // the beginning of 512 bytes
		discardUntilClosed(nc)
	},
	"body": sendSlowBody,
	"half": func(_ context.Context, nc net.Conn, _ string) {
		writeAll(nc, largeRelay[:len(largeRelay)/2])
		discardUntilClosed(nc)
	},
	"but a byte": func(_ context.Context, nc net.Conn, _ string) {
		writeAll(nc, largeRelay[:len(largeRelay)-1])
		discardUntilClosed(nc)
	},
	"read": func(ctx context.Context, nc net.Conn, _ string) {
		requestWithoutReading(ctx, nc, identityRequests)
	},
	"read lists": func(ctx context.Context, nc net.Conn, _ string) { requestWithoutReading(ctx, nc, listRequests) },
	// Authenticates, then is silent.
	"half-open": func(_ context.Context, nc net.Conn, token string) {
		writeAll(nc, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
		discardUntilClosed(nc)
	},
	"pings": func(ctx context.Context, nc net.Conn, token string) { pingPeriodically(ctx, nc, token, time.Second) },
	"idle":  func(ctx context.Context, nc net.Conn, token string) { pingPeriodically(ctx, nc, token, 10*time.Second) },
	"garbage": func(_ context.Context, nc net.Conn, _ string) {
		writeAll(nc, slices.Repeat([]byte{0xfe, 0xca}, 500))
		discardUntilClosed(nc)
	},
	"resets": func(_ context.Context, nc net.Conn, _ string) {
		writeAll(nc, wire.AppendRelay(nil, []uint64{1, 2, 3}, make([]byte, 5000))[:3000])
	},
}

// requestWithoutReading sends requests and does not read the replies.
func requestWithoutReading(ctx context.Context, nc net.Conn, requests []byte) {
	_ = nc.(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
	for ok := writeAll(nc, requests); ok && sleep(ctx, time.Second); ok = writeAll(nc, requests[:wire.HeaderSize]) {
	}
}

// sendSlowBody announces a frame of 1 MiB, and sends one byte of it a second.
func sendSlowBody(ctx context.Context, nc net.Conn, _ string) {
	frame := wire.AppendRelay(nil, []uint64{1}, nil)
	binary.BigEndian.PutUint32(frame, 1<<20)
	ok := writeAll(nc, append(frame, make([]byte, 1000)...))
	for ok && sleep(ctx, time.Second) {
		ok = writeAll(nc, []byte{0})
	}
}

// pingPeriodically authenticates and sends a PING at the interval.
func pingPeriodically(ctx context.Context, nc net.Conn, token string, interval time.Duration) {
	writeAll(nc, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: token}))
	var wg sync.WaitGroup
	wg.Go(func() { discardUntilClosed(nc) }) // ends with the connection
	for sleep(ctx, interval) && writeAll(nc, wire.AppendPing(nil, 1)) {
	}
	nc.Close()
	wg.Wait()
}

func writeAll(nc net.Conn, b []byte) bool {
	_, err := nc.Write(b)
	return err == nil
}

// discardUntilClosed reads until the connection ends.
func discardUntilClosed(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
