package hub_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
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
