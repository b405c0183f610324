package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
)

func ExampleClient_ID() {
	addr, stop := startHub()
	defer stop()
	alice, bob := mustDial(addr, nil), mustDial(addr, nil)
	defer alice.Close()
	defer bob.Close()
	others, err := bob.List(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the other one is alice:", len(others) == 1 && others[0] == alice.ID())
	// Output: the other one is alice: true
}

// A client of several hubs connects to one that it reaches.
func ExampleDial_severalAddresses() {
	addr, stop := startHub()
	defer stop()
	c, err := client.Dial(context.Background(), "127.0.0.1:1,"+addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Addr() == addr)
	// Output: true
}

func ExampleClient_Version() {
	addr, stop := startHub()
	defer stop()
	v2 := mustDial(addr, nil)
	defer v2.Close()
	v1 := mustDial(addr, &client.Options{Version: 1})
	defer v1.Close()

	fmt.Println(v2.Version(), v1.Version())
	_, err := v1.Ping(context.Background())
	fmt.Println(err)
	// Output:
	// 2 1
	// requires version 2 of the protocol
}

func ExampleClient_Ping() {
	addr, stop := startHub()
	defer stop()
	c := mustDial(addr, nil)
	defer c.Close()

	took, err := c.Ping(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("it took time:", took > 0)
	// Output: it took time: true
}

// Each page begins after the last id of the page before.
func ExampleClient_ListPage() {
	addr, stop := startHub()
	defer stop()
	var c *client.Client
	for range 5 {
		c = mustDial(addr, nil)
		defer c.Close()
	}

	after := uint64(0)
	for more := true; more; {
		page, err := c.ListPage(context.Background(), after, 2)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(page.IDs), "of", page.Total)
		after, more = page.IDs[len(page.IDs)-1], page.More
	}
	// Output:
	// 2 of 5
	// 2 of 5
	// 1 of 5
}

// A Watch first yields all connected clients.
func ExampleClient_Watch() {
	addr, stop := startHub()
	defer stop()
	watcher := mustDial(addr, nil)
	defer watcher.Close()

	var visitor *client.Client
	for p, err := range watcher.Watch(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(p.Joined), "joined,", len(p.Left), "left")
		switch {
		case visitor == nil:
			visitor = mustDial(addr, nil)
		case len(p.Left) == 0:
			visitor.Close()
		default:
			return
		}
	}
	// Output:
	// 1 joined, 0 left
	// 1 joined, 0 left
	// 0 joined, 1 left
}

// Close waits until queued messages are sent.
func ExampleClient_Close() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()
	bob := mustDial(addr, nil)
	defer bob.Close()

	alice := mustDial(addr, nil)
	if err := alice.Send(ctx, []uint64{bob.ID()}, []byte("farewell")); err != nil {
		log.Fatal(err)
	}
	if err := alice.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(alice.Send(ctx, []uint64{bob.ID()}, []byte("one more thing")))

	m, err := bob.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", m.Body)
	// Output:
	// client closed
	// farewell
}

// Done is closed when the hub ends the connection. Without NoReconnect the client would
// reconnect.
func ExampleClient_Done() {
	addr, stop := startHub()
	c := mustDial(addr, &client.Options{NoReconnect: true})
	defer c.Close()

	stop()
	<-c.Done()
	fmt.Println(c.Err())
	// Output: hub sent GOAWAY (shutdown): the hub is shutting down
}

func ExampleClient_Err() {
	addr, stop := startHub()
	defer stop()
	c := mustDial(addr, nil)
	fmt.Println(c.Err())
	c.Close()
	fmt.Println(c.Err())
	// Output:
	// <nil>
	// client closed
}

// The counters stay readable after Close.
func ExampleClient_Stats() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()
	c := mustDial(addr, &client.Options{Version: 1}) // a v1 client sends only its identity request
	if err := c.Send(ctx, []uint64{c.ID()}, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	if _, err := c.Receive(ctx); err != nil {
		log.Fatal(err)
	}
	c.Close()

	s := c.Stats()
	fmt.Println("out:", s.MessagesOut, "messages,", s.BytesOut, "bytes")
	fmt.Println("in:", s.MessagesIn, "messages,", s.BytesIn, "bytes")
	// Output:
	// out: 2 messages, 24 bytes
	// in: 2 messages, 23 bytes
}

// A GoAwayError says why the hub has closed the connection, and whether a client may reconnect.
func ExampleGoAwayError() {
	addr, stop := startHub()
	c := mustDial(addr, &client.Options{NoReconnect: true})
	defer c.Close()
	stop()

	<-c.Done()
	var away *client.GoAwayError
	if errors.As(c.Err(), &away) {
		fmt.Println(away.Code, away.Reconnect, errors.Is(away, client.ErrHubClosed))
	}
	// Output: shutdown true true
}

// scriptedDialer dials the addresses of a list, one after the other. The test can cut each
// connection.
type scriptedDialer struct {
	next chan string
	last net.Conn
}

func (s *scriptedDialer) dial(ctx context.Context) (nc net.Conn, err error) {
	select {
	case addr := <-s.next:
		s.last, err = net.Dial("tcp", addr)
		return s.last, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Only OnEvent shows that a connection was lost. Messages that were sent meanwhile arrive.
func ExampleOptions_onEvent() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	dialer := &scriptedDialer{next: make(chan string, 1)}
	dialer.next <- addr
	events := make(chan client.Event, 10)
	c := mustDial("", &client.Options{Dial: dialer.dial, OnEvent: func(e client.Event) { events <- e }})
	id := c.ID()
	dialer.last.Close() // the connection breaks
	fmt.Println((<-events).Kind)

	if err := c.Send(ctx, []uint64{c.ID()}, []byte("still here")); err != nil {
		log.Fatal(err)
	}
	dialer.next <- addr
	fmt.Println((<-events).Kind, "with its id:", c.ID() == id)
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", m.Body)

	c.Close()
	fmt.Println((<-events).Kind)
	// Output:
	// disconnected
	// resumed with its id: true
	// still here
	// closed
}

// A hub that has restarted does not know its old sessions, and cannot say whether a message was
// received. With Options.Resend the client would send the message again.
func ExampleOptions_resend() {
	before, stop := startHub()
	defer stop()
	after, stopAfter := startHub()
	defer stopAfter()

	dialer := &scriptedDialer{next: make(chan string, 1)}
	dialer.next <- before
	events := make(chan client.Event, 10)
	c := mustDial("", &client.Options{Dial: dialer.dial, OnEvent: func(e client.Event) { events <- e }})
	defer c.Close()
	outcome := make(chan error, 1)
	err := c.SendFunc(context.Background(), []uint64{c.ID()}, []byte("hello"), nil,
		func(_ *client.Report, err error) { outcome <- err })
	if err != nil {
		log.Fatal(err)
	}

	dialer.last.Close()
	fmt.Println((<-events).Kind)
	dialer.next <- after
	fmt.Println((<-events).Kind)
	fmt.Println(<-outcome)
	// Output:
	// disconnected
	// new id
	// session lost: the fate of the message is uncertain
}

// A message that was queued while the client was disconnected can be too large for the next
// hub. The hub refuses the message, and the connection stays.
func ExampleRefusedError() {
	before, stop := startHub()
	defer stop()
	after, stopAfter := startHubWith(hub.Config{MaxBody: 1000})
	defer stopAfter()

	dialer := &scriptedDialer{next: make(chan string, 1)}
	dialer.next <- before
	events := make(chan client.Event, 10)
	c := mustDial("", &client.Options{Dial: dialer.dial, OnEvent: func(e client.Event) { events <- e }})
	defer c.Close()
	dialer.last.Close()
	<-events // EventDisconnected

	// Without receivers: a message to ids of the old hub would not be sent to the new one.
	if err := c.Send(context.Background(), nil, make([]byte, 2000)); err != nil {
		log.Fatal(err)
	}
	dialer.next <- after
	<-events // EventNewID
	e := <-events
	var refused *client.RefusedError
	if errors.As(e.Err, &refused) {
		fmt.Println(e.Kind, "message", refused.Seq, "for", refused.Reason)
	}
	// Output: refused message 1 for body of 2000 bytes exceeds the limit of 1000
}
