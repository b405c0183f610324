package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sechlol/go-message-hub/wire"
)

// hostileConfig is how many clients do what to a hub.
type hostileConfig struct {
	kind      string
	conns     int
	addresses int
	rate      float64
	seconds   float64
	lifetime  time.Duration
	secure    bool
	token     string // that they show who come in
}

func (c *hostileConfig) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "kind", "silent", fmt.Sprint("what they do: ", slices.Sorted(maps.Keys(attacks))))
	flags.IntVar(&c.conns, "conns", 10_000, "connections at once")
	flags.IntVar(&c.addresses, "addresses", 32, "from so many of 127/8; one has ports for 28,000")
	flags.DurationVar(&c.lifetime, "stay", 0, "how long each connection lasts at most, before it comes again; 0 is until the hub ends it")
	flags.Float64Var(&c.rate, "rate", 2000, "new ones in a second, at most")
	flags.Float64Var(&c.seconds, "seconds", 10, "how long to go on when all are there")
	flags.BoolVar(&c.secure, "secure", false, "agree on TLS before that, whoever the hub is")
}

// hostileResult is what they have done.
type hostileResult struct {
	HeldConns uint64 `json:"held"` // connections at the same time, when all were there
	MadeConns uint64 `json:"made"` // in all
}

// The questions are without end for one who does not hear the answers: short ones, and long ones.
var (
	identityRequests = slices.Repeat(wire.AppendIdentityRequest(nil), 20_000)
	listRequests     = slices.Repeat(wire.AppendListRequest(nil), 20_000)
)

// largeRelay is a message of 1 MiB.
var largeRelay = wire.AppendRelay(nil, []uint64{1}, make([]byte, 1<<20))

// attacks is what a client does with a connection. It returns when there is nothing more to
// do with that; then the connection is reset.
var attacks = map[string]func(ctx context.Context, c *hostileConfig, nc net.Conn){
	"silent": func(_ context.Context, _ *hostileConfig, nc net.Conn) { discardUntilClosed(nc) },
	"header": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, []byte{0, 0, 1})
		discardUntilClosed(nc)
	},
	"client hello": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}) // of 512 bytes
		discardUntilClosed(nc)
	},
	"body": sendSlowBody,
	"half": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, largeRelay[:len(largeRelay)/2])
		discardUntilClosed(nc)
	},
	"but a byte": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, largeRelay[:len(largeRelay)-1])
		discardUntilClosed(nc)
	},
	"read": func(ctx context.Context, _ *hostileConfig, nc net.Conn) {
		requestWithoutReading(ctx, nc, identityRequests)
	},
	"read lists": func(ctx context.Context, _ *hostileConfig, nc net.Conn) { requestWithoutReading(ctx, nc, listRequests) },
	"half-open": func(ctx context.Context, c *hostileConfig, nc net.Conn) { // come in, and vanish
		writeAll(nc, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: c.token}))
		discardUntilClosed(nc)
	},
	"pings": func(ctx context.Context, c *hostileConfig, nc net.Conn) { pingPeriodically(ctx, c, nc, time.Second) },
	"idle":  func(ctx context.Context, c *hostileConfig, nc net.Conn) { pingPeriodically(ctx, c, nc, 10*time.Second) },
	"garbage": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, slices.Repeat([]byte{0xfe, 0xca}, 500))
		discardUntilClosed(nc)
	},
	"resets": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, wire.AppendRelay(nil, []uint64{1, 2, 3}, make([]byte, 5000))[:3000])
	},
}

// requestWithoutReading asks, and does not listen.
func requestWithoutReading(ctx context.Context, nc net.Conn, requests []byte) {
	_ = nc.(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
	for ok := writeAll(nc, requests); ok && sleep(ctx, time.Second); ok = writeAll(nc, requests[:wire.HeaderSize]) {
	}
}

// sendSlowBody announces a large message, and brings a byte of it in a second.
func sendSlowBody(ctx context.Context, _ *hostileConfig, nc net.Conn) {
	frame := wire.AppendRelay(nil, []uint64{1}, nil)
	binary.BigEndian.PutUint32(frame, 1<<20)
	ok := writeAll(nc, append(frame, make([]byte, 1000)...))
	for ok && sleep(ctx, time.Second) {
		ok = writeAll(nc, []byte{0})
	}
}

// pingPeriodically comes in, and asks for a sign of life as often as that.
func pingPeriodically(ctx context.Context, c *hostileConfig, nc net.Conn, interval time.Duration) {
	writeAll(nc, wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: c.token}))
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

// discardUntilClosed waits until the hub has had enough.
func discardUntilClosed(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// runHostile keeps up connections of one kind to a hub, makes new ones of those that it ends, no
// faster than it may, and says when all are there, or as many as there will be.
func runHostile(ctx context.Context, t target, c hostileConfig) (*hostileResult, error) {
	attack := attacks[c.kind]
	if attack == nil {
		return nil, fmt.Errorf("no kind %q", c.kind)
	}
	c.token = t.token
	if c.addresses < 1 || c.addresses > 250 {
		return nil, fmt.Errorf("%d addresses, must be from 1 to 250", c.addresses)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var made, held atomic.Int64
	limiter := rate.NewLimiter(rate.Limit(c.rate), max(1, int(c.rate/100)))
	var wg sync.WaitGroup
	for i := range c.conns {
		// Ends with ctx.
		wg.Go(func() {
			for limiter.Wait(ctx) == nil {
				attackOnce(ctx, &c, t.addr, i, attack, &made, &held)
			}
		})
	}
	ready := time.Now().Add(time.Duration(1.5 * float64(c.conns) / c.rate * float64(time.Second)))
	for time.Now().Before(ready) && held.Load() < int64(c.conns) && sleep(ctx, 50*time.Millisecond) {
	}
	fmt.Println("moving")
	for end := time.Now().Add(time.Duration(c.seconds / 2 * float64(time.Second))); time.Now().Before(end) && sleep(ctx, 50*time.Millisecond); {
	}
	h := &hostileResult{HeldConns: uint64(held.Load())}
	for end := time.Now().Add(time.Duration(c.seconds / 2 * float64(time.Second))); time.Now().Before(end) && sleep(ctx, 50*time.Millisecond); {
	}
	h.MadeConns = uint64(made.Load())
	cancel()
	wg.Wait()
	return h, nil
}

// attackOnce makes a connection and does harm with it.
func attackOnce(ctx context.Context, c *hostileConfig, addr string, i int, attack func(context.Context, *hostileConfig, net.Conn), made, held *atomic.Int64) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%c.addresses))}, Timeout: 5 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return // the hub does not have to take it
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	made.Add(1)
	held.Add(1)
	defer held.Add(-1)
	_ = nc.(*net.TCPConn).SetLinger(0) // fails only on a closed connection
	defer nc.Close()
	conn := nc
	if c.secure {
		tlsConn := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // who means harm does not mind
		if tlsConn.HandshakeContext(ctx) != nil {
			return
		}
		conn = tlsConn
	}
	if c.lifetime > 0 {
		_ = nc.SetDeadline(time.Now().Add(c.lifetime)) // likewise
	}
	attack(ctx, c, conn)
}
