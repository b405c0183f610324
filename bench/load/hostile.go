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

// hostileConfig is the number of hostile clients and their behavior.
type hostileConfig struct {
	kind      string
	conns     int
	addresses int
	rate      float64
	seconds   float64
	lifetime  time.Duration
	secure    bool
	token     string // for clients that authenticate
}

func (c *hostileConfig) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "kind", "silent", fmt.Sprint("kind of clients: ", slices.Sorted(maps.Keys(attacks))))
	flags.IntVar(&c.conns, "conns", 10_000, "connections at once")
	flags.IntVar(&c.addresses, "addresses", 32, "number of source addresses in 127/8; one address has ports for 28,000 connections")
	flags.DurationVar(&c.lifetime, "stay", 0, "maximum time until a connection is replaced; 0: until the hub ends it")
	flags.Float64Var(&c.rate, "rate", 2000, "maximum number of new connections a second")
	flags.Float64Var(&c.seconds, "seconds", 10, "how long to continue when all are connected")
	flags.BoolVar(&c.secure, "secure", false, "use TLS, without verifying the hub")
}

// hostileResult is the result of the hostile clients.
type hostileResult struct {
	HeldConns uint64 `json:"held"` // concurrent connections, in the middle of the run
	MadeConns uint64 `json:"made"` // connections in total
}

// identityRequests and listRequests are long series of requests with short and with long
// replies, for clients that do not read the replies.
var (
	identityRequests = slices.Repeat(wire.AppendIdentityRequest(nil), 20_000)
	listRequests     = slices.Repeat(wire.AppendListRequest(nil), 20_000)
)

// largeRelay is a RELAY frame with a body of 1 MiB.
var largeRelay = wire.AppendRelay(nil, []uint64{1}, make([]byte, 1<<20))

// attacks are the behaviors of a client on one connection, by kind. A function returns when it
// has nothing more to do on the connection, which is then reset.
var attacks = map[string]func(ctx context.Context, c *hostileConfig, nc net.Conn){
	"silent": func(_ context.Context, _ *hostileConfig, nc net.Conn) { discardUntilClosed(nc) },
	"header": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, []byte{0, 0, 1})
		discardUntilClosed(nc)
	},
	"client hello": func(_ context.Context, _ *hostileConfig, nc net.Conn) {
		writeAll(nc, []byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}) // the beginning of 512 bytes
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
	// Authenticates, then is silent.
	"half-open": func(ctx context.Context, c *hostileConfig, nc net.Conn) {
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

// requestWithoutReading sends requests and does not read the replies.
func requestWithoutReading(ctx context.Context, nc net.Conn, requests []byte) {
	_ = nc.(interface{ SetReadBuffer(int) error }).SetReadBuffer(4 << 10)
	for ok := writeAll(nc, requests); ok && sleep(ctx, time.Second); ok = writeAll(nc, requests[:wire.HeaderSize]) {
	}
}

// sendSlowBody announces a frame of 1 MiB, and sends one byte of it a second.
func sendSlowBody(ctx context.Context, _ *hostileConfig, nc net.Conn) {
	frame := wire.AppendRelay(nil, []uint64{1}, nil)
	binary.BigEndian.PutUint32(frame, 1<<20)
	ok := writeAll(nc, append(frame, make([]byte, 1000)...))
	for ok && sleep(ctx, time.Second) {
		ok = writeAll(nc, []byte{0})
	}
}

// pingPeriodically authenticates and sends a PING at the interval.
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

// runHostile keeps connections of one kind open to a hub and replaces those that the hub ends,
// at the configured rate. It prints the line "moving" when all are connected, or when that has
// taken half as long again as expected.
func runHostile(ctx context.Context, t target, c hostileConfig) (*hostileResult, error) {
	attack := attacks[c.kind]
	if attack == nil {
		return nil, fmt.Errorf("unknown kind %q", c.kind)
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

// attackOnce opens a connection and runs attack on it.
func attackOnce(ctx context.Context, c *hostileConfig, addr string, i int, attack func(context.Context, *hostileConfig, net.Conn), made, held *atomic.Int64) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%c.addresses))}, Timeout: 5 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return // the hub can reject connections
	}
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	made.Add(1)
	held.Add(1)
	defer held.Add(-1)
	_ = nc.(*net.TCPConn).SetLinger(0) // fails only on a closed connection
	defer nc.Close()
	conn := nc
	if c.secure {
		tlsConn := tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // trusts any hub
		if tlsConn.HandshakeContext(ctx) != nil {
			return
		}
		conn = tlsConn
	}
	if c.lifetime > 0 {
		_ = nc.SetDeadline(time.Now().Add(c.lifetime)) // fails only on a closed connection
	}
	attack(ctx, c, conn)
}
