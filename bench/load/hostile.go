package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
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

// runHostile keeps connections of one kind open to a hub and replaces those that the hub ends,
// at the configured rate. It prints the line "moving" when all are connected, or when that has
// taken half as long again as expected.
func runHostile(ctx context.Context, t target, c hostileConfig) (*hostileResult, error) {
	behavior := attacks[c.kind]
	if behavior == nil {
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
				attackOnce(ctx, &c, t.addr, i, behavior, &made, &held)
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

// attackOnce opens a connection and runs an attack on it.
func attackOnce(ctx context.Context, c *hostileConfig, addr string, i int, behavior attack, made, held *atomic.Int64) {
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
	behavior(ctx, conn, c.token)
}
