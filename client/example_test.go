package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// startHub runs a hub for an example and returns its address.
func startHub() (addr string, stop func()) { return startHubWith(hub.Config{}) }

func startHubWith(config hub.Config) (addr string, stop func()) {
	h, err := hub.New(config)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go h.Serve(context.Background(), ln) // ends with Shutdown
	return ln.Addr().String(), func() { h.Shutdown(context.Background()) }
}

// mustDial connects a client for an example.
func mustDial(addr string, options *client.Options) *client.Client {
	c, err := client.Dial(context.Background(), addr, options)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// Bob receives messages and acknowledges them as processed; Alice sends them and gets the
// reports.
func Example() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	bob, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	var reading sync.WaitGroup
	defer reading.Wait()
	defer bob.Close()
	reading.Go(func() { // ends with bob
		for m, err := range bob.Messages(ctx) {
			if err != nil {
				return
			}
			fmt.Printf("received: %s\n", m.Body) // m.From is the sender
			m.Ack()
		}
	})

	alice, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	others, err := alice.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	report, err := alice.SendReport(ctx, others, []byte("hello"), &client.SendOptions{Level: wire.LevelProcessed})
	if err != nil {
		log.Fatal(err)
	}
	for _, fate := range report.Fates { // one per receiver
		fmt.Println(fate)
	}
	// Output:
	// received: hello
	// processed
}

func ExampleDial() {
	addr, stop := startHub()
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	fmt.Println("connected, in version", c.Version()) // its id is c.ID()
	// Output: connected, in version 2
}

// NewConn takes an existing connection. When the connection is lost, the client ends, unless
// Options.Dial is set.
func ExampleNewConn() {
	addr, stop := startHub()
	defer stop()

	nc, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.NewConn(context.Background(), nc, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println("connected, in version", c.Version()) // its id is c.ID()
	// Output: connected, in version 2
}

func ExampleClient_List() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	var last *client.Client
	for range 3 {
		c, err := client.Dial(ctx, addr, nil)
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		last = c
	}

	others, err := last.List(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the last one sees", len(others), "others")
	// Output: the last one sees 2 others
}

func ExampleClient_Send() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	alice, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	bob, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	if err := alice.Send(ctx, []uint64{bob.ID()}, []byte("hello, Bob")); err != nil {
		log.Fatal(err)
	}
	m, err := bob.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", m.Body)
	// Output: hello, Bob
}

// A message that exceeds a limit returns a typed error, and nothing is sent.
func ExampleClient_Send_tooLarge() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	c, err := client.Dial(ctx, addr, &client.Options{MaxBody: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	err = c.Send(ctx, []uint64{2}, make([]byte, 5000))
	var tooLarge *client.BodyTooLargeError
	if errors.As(err, &tooLarge) {
		fmt.Println("split it into pieces of", tooLarge.Limit, "bytes")
	}
	// Output: split it into pieces of 1000 bytes
}

// A message has at most 255 receivers.
func ExampleTooManyReceiversError() {
	addr, stop := startHub()
	defer stop()
	c := mustDial(addr, nil)
	defer c.Close()

	err := c.Send(context.Background(), make([]uint64, 300), []byte("hello"))
	var tooMany *client.TooManyReceiversError
	if errors.As(err, &tooMany) {
		fmt.Println("take several messages for", tooMany.Receivers, "receivers")
	}
	// Output: take several messages for 300 receivers
}

// A message has the id of its sender and a sequence number of that sender. Receive waits until
// ctx ends; messages that have arrived are returned even then.
func ExampleClient_Receive() {
	addr, stop := startHub()
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())

	c := mustDial(addr, nil)
	defer c.Close()
	if err := c.Send(ctx, []uint64{c.ID()}, []byte("note to self")); err != nil {
		log.Fatal(err)
	}
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s, message %d, from itself: %t\n", m.Body, m.Seq, m.From == c.ID())

	cancel()
	_, err = c.Receive(ctx)
	fmt.Println(err)
	// Output:
	// note to self, message 1, from itself: true
	// context canceled
}

// Messages ends with one error. Breaking out of the loop loses no message: the next receiver
// gets the messages that were not yielded.
func ExampleClient_Messages() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	c, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		if err := c.Send(ctx, []uint64{c.ID()}, []byte(text)); err != nil { // to itself
			log.Fatal(err)
		}
	}

	for m, err := range c.Messages(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", m.Body)
		if string(m.Body) == "two" {
			break
		}
	}
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("and %s\n", m.Body)

	c.Close()
	for _, err := range c.Messages(ctx) {
		fmt.Println(errors.Is(err, client.ErrClosed))
	}
	// Output:
	// one
	// two
	// and three
	// true
}

// Release returns the memory of a message, which saves garbage collector work for many
// messages.
func ExampleMessage_Release() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	c, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	for range 1000 {
		if err := c.Send(ctx, []uint64{c.ID()}, make([]byte, 100)); err != nil {
			log.Fatal(err)
		}
	}

	messages, bytes := 0, 0
	for m, err := range c.Messages(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		bytes += len(m.Body)
		m.Release() // m.Body must not be used from here on
		if messages++; messages == 1000 {
			break
		}
	}
	fmt.Println(bytes, "bytes")
	// Output: 100000 bytes
}

// The read goroutine calls Options.OnMessage for each message.
func ExampleOptions_onMessage() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	heard := make(chan string)
	listener, err := client.Dial(ctx, addr, &client.Options{
		// String copies: Body is valid only during the call.
		OnMessage: func(m client.Message) { heard <- string(m.Body) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	speaker, err := client.Dial(ctx, addr, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer speaker.Close()

	if err := speaker.Send(ctx, []uint64{listener.ID()}, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-heard)
	// Output: hello
}
