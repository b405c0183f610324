package hub_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gobwas/ws"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// This example runs a hub inside a program, on a free port of the loopback interface, with two
// clients.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h, err := hub.New(hub.Config{MaxClients: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(ctx, ln) }()

	alice, err := client.Dial(ctx, ln.Addr().String(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer alice.Close()
	bob, err := client.Dial(ctx, ln.Addr().String(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer bob.Close()

	if err := alice.Send(ctx, []uint64{bob.ID()}, []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	m, err := bob.Receive(ctx)
	fmt.Printf("bob got %q from alice: %t, %v\n", m.Body, m.From == alice.ID(), err)

	fmt.Println(h.Shutdown(ctx), <-served)
	fmt.Println("delivered:", h.Stats().Delivered)
	// Output:
	// bob got "hello" from alice: true, <nil>
	// <nil> hub closed
	// delivered: 1
}

// This example sends a message from the program that embeds the hub to a Subscription and to an id
// that no client has, and prints what happened to it. A client in place of the Subscription would
// make no difference.
func ExampleHub_Send() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h, err := hub.New(hub.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Shutdown(ctx)
	s, err := h.Subscribe(7)
	if err != nil {
		fmt.Println(err)
		return
	}
	go s.Receive(ctx)

	const from = 1000
	report, err := h.Send(ctx, from, []uint64{7, 8}, []byte("hello"), &hub.SendOptions{Level: wire.LevelReceived})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(report.Fates)
	// Output: [received unknown]
}

// This example answers a client from the program that embeds the hub. The client sends to the
// Subscription as to any other client.
func ExampleHub_Subscribe() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	h, err := hub.New(hub.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Shutdown(ctx)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	go h.Serve(ctx, ln)

	const echo = 7
	s, err := h.Subscribe(echo)
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		for m, err := range s.Messages(ctx) {
			if err != nil {
				return // the hub is shut down
			}
			m.Ack()
			h.Send(ctx, echo, []uint64{m.From}, m.Body, nil)
		}
	}()

	c, err := client.Dial(ctx, ln.Addr().String(), nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	if err := c.Send(ctx, []uint64{echo}, []byte("hello")); err != nil {
		fmt.Println(err)
		return
	}
	m, err := c.Receive(ctx)
	fmt.Printf("%d says %s: %v\n", m.From, m.Body, err)
	// Output: 7 says hello: <nil>
}

// ExampleWebHandler mounts a hub in the HTTP server of a program, and connects a WebSocket.
func ExampleWebHandler() {
	h, err := hub.New(hub.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Shutdown(context.Background())
	handler, err := hub.NewWebHandler(h, hub.WebConfig{AllowedOrigins: []string{"https://example.com"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle(wire.WebPath, handler)
	server := httptest.NewServer(mux)
	defer server.Close()

	url := strings.Replace(server.URL, "http", "ws", 1) + wire.WebPath
	nc, _, handshake, err := ws.Dialer{Protocols: []string{wire.Subprotocol}}.Dial(context.Background(), url)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer nc.Close()
	fmt.Println(handshake.Protocol)
	// Output: message-hub.v2
}
