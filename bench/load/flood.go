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
	// maxFloodConns is how many connections are tried at the same time.
	maxFloodConns = 64

	// floodHoldTime is how long one that the hub does not end is kept.
	floodHoldTime = time.Second

	// floodBodySize is how large the messages are.
	floodBodySize = 128
)

// floodConfig is what one address does to a hub that bounds what an address may do.
type floodConfig struct {
	kind, fromAddr string
	clients        int
	rate, seconds  float64
}

func (c *floodConfig) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "kind", "connects", "what to do: "+strings.Join(floodKinds, ", "))
	flags.StringVar(&c.fromAddr, "from", "127.0.0.2", "address to come from")
	flags.IntVar(&c.clients, "clients", 20, "clients that send messages")
	flags.Float64Var(&c.rate, "rate", 2000, "connections to try in a second; they share the processors with the hub")
	flags.Float64Var(&c.seconds, "seconds", 10, "for how long")
}

// floodKinds are connections that say nothing, connections that say what means nothing or show
// a token that is not good, in turn, and clients that send to each other as fast as they can.
var floodKinds = []string{"connects", "strangers", "messages"}

// floodResult is the result.
type floodResult struct {
	Seconds  float64 `json:"seconds"`
	Attempts uint64  `json:"tries"`   // connections, or messages that the client library has taken
	Rejected uint64  `json:"refused"` // connections that were not made, or that the hub has ended
}

// flood is one at work.
type flood struct {
	target target
	config floodConfig
	dialer net.Dialer
	end    time.Time

	attempts, rejected atomic.Uint64
}

// runFlood floods a hub until its time is over.
func runFlood(ctx context.Context, t target, c floodConfig) (*floodResult, error) {
	from := net.ParseIP(c.fromAddr)
	if t.system != "hub" || from == nil || c.clients < 2 || c.rate <= 0 || c.seconds <= 0 {
		return nil, fmt.Errorf("no flood of %d clients, %v a second for %v s, from %q on %s", c.clients, c.rate, c.seconds, c.fromAddr, t.system)
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
		err = fmt.Errorf("no flood of %q", c.kind)
	}
	return &floodResult{time.Since(begin).Seconds(), f.attempts.Load(), f.rejected.Load()}, err
}

// openConns tries connections at the rate asked for, each of which says first what word gives for
// its number, and returns when ctx is over.
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

// tryConn is one connection, which is kept until the hub ends it.
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
	_ = c.(*net.TCPConn).SetLinger(0) // or the ports would run out
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

// sendMessages has admitted clients send to each other, in a ring, until ctx is over.
func (f *flood) sendMessages(ctx context.Context) error {
	clients := make([]*client.Client, f.config.clients)
	defer func() {
		for _, c := range clients {
			if c != nil {
				c.Close()
			}
		}
	}()
	tokens := strings.Split(f.target.token, ",") // of several subjects: each may send so much
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
		return errors.New("a client could send no more")
	}
	return nil
}
