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

// Each page begins behind the last id of the one before.
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

// A watch begins with all who are there.
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

// Close sees to it that what was sent arrives.
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

// Done tells that there is no hub any more: without NoReconnect the client would try to
// come back.
func ExampleClient_Done() {
	addr, stop := startHub()
	c := mustDial(addr, &client.Options{NoReconnect: true})
	defer c.Close()

	stop()
	<-c.Done()
	fmt.Println(c.Err())
	// Output: hub sent GOAWAY (shutdown): the hub ends
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

// What was counted remains after the end.
func ExampleClient_Stats() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()
	c := mustDial(addr, &client.Options{Version: 1}) // asks for its id, and says nothing by itself
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

// A client that must not come back by itself learns why it was sent away.
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

// scriptedDialer makes the connections of an example: each leads to the address that
// comes next, and can be cut.
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

// A connection that breaks is noticed by OnEvent and by nobody else. What was sent
// meanwhile arrives.
func ExampleOptions_onEvent() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	dialer := &scriptedDialer{next: make(chan string, 1)}
	dialer.next <- addr
	events := make(chan client.Event, 10)
	c := mustDial("", &client.Options{Dial: dialer.dial, OnEvent: func(e client.Event) { events <- e }})
	id := c.ID()
	dialer.last.Close() // as a line that is cut
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

// A hub that has started anew knows nothing of what was before: here nobody can say
// any more whether the message was received. With Options.Resend the client would
// send it again.
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

// A message that was sent while there was no connection may be too large for the hub
// that comes next. It is refused alone, and the connection lives.
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
	<-events // it is disconnected

	// To nobody: what names an id of the hub before is not sent to the next.
	if err := c.Send(context.Background(), nil, make([]byte, 2000)); err != nil {
		log.Fatal(err)
	}
	dialer.next <- after
	<-events // it has a new id
	e := <-events
	var refused *client.RefusedError
	if errors.As(e.Err, &refused) {
		fmt.Println(e.Kind, "message", refused.Seq, "for", refused.Reason)
	}
	// Output: refused message 1 for body of 2000 bytes, 1000 allowed
}
