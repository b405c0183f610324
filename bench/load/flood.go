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
	// floodAtOnce is how many connections are tried at the same time.
	floodAtOnce = 64

	// floodHold is how long one that the hub does not end is kept.
	floodHold = time.Second

	// floodBytes is how large the messages are.
	floodBytes = 128
)

// floodConfig is what one address does to a hub that bounds what an address may do.
type floodConfig struct {
	kind, from    string
	clients       int
	rate, seconds float64
}

func (c *floodConfig) addFlags(flags *flag.FlagSet) {
	flags.StringVar(&c.kind, "kind", "connects", "what to do: "+strings.Join(floodKinds, ", "))
	flags.StringVar(&c.from, "from", "127.0.0.2", "address to come from")
	flags.IntVar(&c.clients, "clients", 20, "clients that send messages")
	flags.Float64Var(&c.rate, "rate", 2000, "connections to try in a second; they share the processors with the hub")
	flags.Float64Var(&c.seconds, "seconds", 10, "for how long")
}

// floodKinds are connections that say nothing, connections that say what means nothing or show
// a token that is not good, in turn, and clients that send to each other as fast as they can.
var floodKinds = []string{"connects", "strangers", "messages"}

// flooded is the result.
type flooded struct {
	Seconds float64 `json:"seconds"`
	Tries   uint64  `json:"tries"`   // connections, or messages that the client library has taken
	Refused uint64  `json:"refused"` // connections that were not made, or that the hub has ended
}

// flood is one at work.
type flood struct {
	target target
	config floodConfig
	dialer net.Dialer
	end    time.Time

	tries, refused atomic.Uint64
}

// floodHub floods a hub until its time is over.
func floodHub(ctx context.Context, t target, c floodConfig) (*flooded, error) {
	from := net.ParseIP(c.from)
	if t.system != "hub" || from == nil || c.clients < 2 || c.rate <= 0 || c.seconds <= 0 {
		return nil, fmt.Errorf("no flood of %d clients, %v a second for %v s, from %q on %s", c.clients, c.rate, c.seconds, c.from, t.system)
	}
	begin := time.Now()
	f := &flood{
		target: t, config: c, end: begin.Add(time.Duration(c.seconds * float64(time.Second))),
		dialer: net.Dialer{Timeout: floodHold, LocalAddr: &net.TCPAddr{IP: from}},
	}
	ctx, stop := context.WithDeadline(ctx, f.end)
	defer stop()
	var err error
	switch c.kind {
	case "connects":
		f.connect(ctx, begin, func(int64) []byte { return nil })
	case "strangers":
		stranger := wire.AppendHello(nil, &wire.Hello{Version: wire.Version2, Token: t.token})
		f.connect(ctx, begin, func(i int64) []byte {
			if i%2 == 0 {
				return stranger
			}
			return []byte("GET / HTTP/1.1\r\nHost: hub.example\r\n\r\n")
		})
	case "messages":
		err = f.send(ctx)
	default:
		err = fmt.Errorf("no flood of %q", c.kind)
	}
	return &flooded{time.Since(begin).Seconds(), f.tries.Load(), f.refused.Load()}, err
}

// connect tries connections at the rate asked for, each of which says first what word gives for
// its number, and returns when ctx is over.
func (f *flood) connect(ctx context.Context, begin time.Time, word func(int64) []byte) {
	fmt.Println("moving")
	var next atomic.Int64
	var visitors sync.WaitGroup
	for range floodAtOnce {
		visitors.Go(func() { // ends with ctx
			for ctx.Err() == nil {
				i := next.Add(1)
				time.Sleep(time.Until(begin.Add(time.Duration(float64(i) / f.config.rate * float64(time.Second)))))
				f.visit(ctx, word(i))
			}
		})
	}
	visitors.Wait()
}

// visit is one connection, which is kept until the hub ends it.
func (f *flood) visit(ctx context.Context, word []byte) {
	if ctx.Err() != nil {
		return
	}
	f.tries.Add(1)
	c, err := f.dialer.DialContext(ctx, "tcp", f.target.addr)
	if err != nil {
		f.refused.Add(1)
		return
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // or the ports would run out
	if err := c.SetDeadline(time.Now().Add(floodHold)); err != nil {
		return
	}
	if _, err := c.Write(word); err == nil {
		_, err = io.Copy(io.Discard, c)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return
		}
	}
	f.refused.Add(1)
}

// send has admitted clients send to each other, in a ring, until ctx is over.
func (f *flood) send(ctx context.Context) error {
	all := make([]*client.Client, f.config.clients)
	defer func() {
		for _, c := range all {
			if c != nil {
				c.Close()
			}
		}
	}()
	tokens := strings.Split(f.target.token, ",") // of several subjects: each may send so much
	options := client.Options{
		OnMessage:    func(client.Message) {},
		CloseTimeout: leaveTime,
		Dial:         func(ctx context.Context) (net.Conn, error) { return f.dialer.DialContext(ctx, "tcp", f.target.addr) },
	}
	for i := range all {
		options.Token = func(context.Context) (string, error) { return tokens[i%len(tokens)], nil }
		var err error
		if all[i], err = client.Dial(ctx, f.target.addr, &options); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	fmt.Println("moving")
	var senders sync.WaitGroup
	for i, c := range all {
		senders.Go(func() { // ends with ctx
			to, body := []uint64{all[(i+1)%len(all)].ID()}, make([]byte, floodBytes)
			for c.Send(ctx, to, body) == nil {
				f.tries.Add(1)
			}
		})
	}
	senders.Wait()
	if ctx.Err() == nil {
		return errors.New("a client could send no more")
	}
	return nil
}
