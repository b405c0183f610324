package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

const (
	// maxFloodConns is the maximum number of concurrent connections.
	maxFloodConns = 64

	// floodHoldTime is how long a connection is kept that the hub does not end.
	floodHoldTime = time.Second

	// floodBodySize is the body size of the messages, in bytes.
	floodBodySize = 128
)

// floodConfig configures a flood from one address against a hub that limits addresses.
type floodConfig struct {
	kind, fromAddr string
	clients        int
	rate, seconds  float64
}

func (c *floodConfig) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "kind", "connects", "kind of flood: "+strings.Join(floodKinds, ", "))
	flags.StringVar(&c.fromAddr, "from", "127.0.0.2", "source address")
	flags.IntVar(&c.clients, "clients", 20, "clients that send messages")
	flags.Float64Var(&c.rate, "rate", 2000, "connection attempts a second")
	flags.Float64Var(&c.seconds, "seconds", 10, "duration")
}

// floodKinds are the kinds of floods: connections that send nothing; connections that send, in
// turn, invalid bytes and a HELLO with an invalid token; and clients that send to each other
// as fast as they can.
var floodKinds = []string{"connects", "strangers", "messages"}

// floodResult is the result of a flood.
type floodResult struct {
	Seconds  float64 `json:"seconds"`
	Attempts uint64  `json:"tries"`   // connections, or messages that the client library accepted
	Rejected uint64  `json:"refused"` // connections that failed or that the hub ended
}

// flood is a running flood.
type flood struct {
	target target
	config floodConfig
	dialer net.Dialer
	end    time.Time

	attempts, rejected atomic.Uint64
}

// runFlood floods a hub for the configured time.
func runFlood(ctx context.Context, t target, c floodConfig) (*floodResult, error) {
	from := net.ParseIP(c.fromAddr)
	if t.system != "hub" || from == nil || c.clients < 2 || c.rate <= 0 || c.seconds <= 0 {
		return nil, fmt.Errorf("invalid flood: %d clients, %v a second for %v s, from %q on %s", c.clients, c.rate, c.seconds, c.fromAddr, t.system)
	}
	begin := time.Now()
	f := &flood{
		target: t, config: c, end: begin.Add(time.Duration(c.seconds * float64(time.Second))),
		dialer: net.Dialer{Timeout: floodHoldTime, LocalAddr: &net.TCPAddr{IP: from}},
	}
	ctx, stop := context.WithDeadline(ctx, f.end)
	defer stop()
	var err error
	switch c.kind {
	case "connects":
		f.openConns(ctx, begin, func(int64) []byte { return nil })
	case "strangers":
		badHello := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: t.token})
		f.openConns(ctx, begin, func(i int64) []byte {
			if i%2 == 0 {
				return badHello
			}
			return []byte("GET / HTTP/1.1\r\nHost: hub.example\r\n\r\n")
		})
	case "messages":
		err = f.sendMessages(ctx)
	default:
		err = fmt.Errorf("unknown kind %q", c.kind)
	}
	return &floodResult{time.Since(begin).Seconds(), f.attempts.Load(), f.rejected.Load()}, err
}

// openConns opens connections at the configured rate until ctx ends. Connection i first sends
// firstBytes(i).
func (f *flood) openConns(ctx context.Context, begin time.Time, firstBytes func(int64) []byte) {
	fmt.Println("moving")
	var next atomic.Int64
	var wg sync.WaitGroup
	for range maxFloodConns {
		wg.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				i := next.Add(1)
				time.Sleep(time.Until(begin.Add(time.Duration(float64(i) / f.config.rate * float64(time.Second)))))
				f.tryConn(ctx, firstBytes(i))
			}
		})
	}
	wg.Wait()
}

// tryConn opens one connection and keeps it until the hub ends it, at most for floodHoldTime.
func (f *flood) tryConn(ctx context.Context, firstBytes []byte) {
	if ctx.Err() != nil {
		return
	}
	f.attempts.Add(1)
	c, err := f.dialer.DialContext(ctx, "tcp", f.target.addr)
	if err != nil {
		f.rejected.Add(1)
		return
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // otherwise the ports would run out
	if err := c.SetDeadline(time.Now().Add(floodHoldTime)); err != nil {
		return
	}
	if _, err := c.Write(firstBytes); err == nil {
		_, err = io.Copy(io.Discard, c)
		var netErr net.Error
		if errors.As(err, &netErr) && netErr.Timeout() {
			return
		}
	}
	f.rejected.Add(1)
}

// sendMessages lets authenticated clients send to each other, in a ring, until ctx ends.
func (f *flood) sendMessages(ctx context.Context) error {
	clients := make([]*client.Client, f.config.clients)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
	}()
	tokens := strings.Split(f.target.token, ",") // of several subjects, because rates are per subject
	options := client.Options{
		OnMessage:    func(client.Message) {},
		CloseTimeout: closeTimeout,
		Dial:         func(ctx context.Context) (net.Conn, error) { return f.dialer.DialContext(ctx, "tcp", f.target.addr) },
	}
	for i := range clients {
		options.GetToken = func(context.Context) (string, error) { return tokens[i%len(tokens)], nil }
		var err error
		if clients[i], err = client.Dial(ctx, f.target.addr, &options); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	fmt.Println("moving")
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() { // ends with ctx
			to, body := []uint64{clients[(i+1)%len(clients)].ID()}, make([]byte, floodBodySize)
			for c.Send(ctx, to, body) == nil {
				f.attempts.Add(1)
			}
		})
	}
	wg.Wait()
	if ctx.Err() == nil {
		return errors.New("a client failed to send")
	}
	return nil
}
