package client_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// A report has one fate per receiver, in the order of the receivers.
func ExampleClient_SendReport() {
	addr, stop := startHub()
	defer stop()

	// Receives and drops messages.
	bob := mustDial(addr, &client.Options{OnMessage: func(client.Message) {}})
	defer bob.Close()
	alice := mustDial(addr, nil)
	defer alice.Close()

	names := []string{"bob", "a client that is not there"}
	to := []uint64{bob.ID(), 99}
	report, err := alice.SendReport(context.Background(), to, []byte("hello"), nil)
	if err != nil {
		log.Fatal(err)
	}
	for i, fate := range report.Fates {
		fmt.Printf("%s: %v\n", names[i], fate)
	}
	// Output:
	// bob: received
	// a client that is not there: unknown
}

// With SendFunc, many messages can be in flight, and each has its own report.
func ExampleClient_SendFunc() {
	addr, stop := startHub()
	defer stop()

	bob := mustDial(addr, &client.Options{OnMessage: func(client.Message) {}})
	defer bob.Close()
	alice := mustDial(addr, nil)
	defer alice.Close()

	fates := make([]wire.Fate, 3)
	var reported sync.WaitGroup
	for i := range fates {
		reported.Add(1)
		done := func(r *client.Report, err error) {
			defer reported.Done()
			if err != nil {
				log.Fatal(err)
			}
			fates[i] = r.Fates[0]
		}
		if err := alice.SendFunc(context.Background(), []uint64{bob.ID()}, []byte("hello"), nil, done); err != nil {
			log.Fatal(err)
		}
	}
	reported.Wait()
	fmt.Println(fates)
	// Output: [received received received]
}

// Reached counts the receivers that a message has reached.
func ExampleReport_Reached() {
	addr, stop := startHub()
	defer stop()

	var to []uint64
	for range 3 {
		c := mustDial(addr, &client.Options{OnMessage: func(client.Message) {}})
		defer c.Close()
		to = append(to, c.ID())
	}
	alice := mustDial(addr, nil)
	defer alice.Close()
	to = append(to, 99) // no client has this id

	report, err := alice.SendReport(context.Background(), to, []byte("hello, all"), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Reached(wire.LevelReceived), "of", len(to), "have got it")
	// Output: 3 of 4 have got it
}

// Ack is the verdict of the application. It can be given long after the message, by any
// goroutine.
func ExampleMessage_Ack() {
	addr, stop := startHub()
	defer stop()

	worker := mustDial(addr, &client.Options{OnMessage: func(m client.Message) {
		fmt.Printf("working on %s\n", m.Body)
		m.Ack()
	}})
	defer worker.Close()
	boss := mustDial(addr, nil)
	defer boss.Close()

	report, err := boss.SendReport(context.Background(), []uint64{worker.ID()}, []byte("the roof"),
		&client.SendOptions{Level: wire.LevelProcessed})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Fates[0])
	// Output:
	// working on the roof
	// processed
}

func ExampleMessage_Nak() {
	addr, stop := startHub()
	defer stop()

	worker := mustDial(addr, &client.Options{OnMessage: client.Message.Nak}) // rejects all messages
	defer worker.Close()
	boss := mustDial(addr, nil)
	defer boss.Close()

	report, err := boss.SendReport(context.Background(), []uint64{worker.ID()}, []byte("the roof"),
		&client.SendOptions{Level: wire.LevelProcessed})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Fates[0])
	// Output: rejected
}

// Time is the time at which the hub received the message, by the clock of the hub.
func ExampleMessage_Time() {
	addr, stop := startHub()
	defer stop()
	ctx := context.Background()

	c := mustDial(addr, nil)
	defer c.Close()
	if err := c.Send(ctx, []uint64{c.ID()}, []byte("hello")); err != nil {
		log.Fatal(err)
	}
	m, err := c.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("less than a minute ago:", time.Since(m.Time()) < time.Minute)
	// Output: less than a minute ago: true
}

// With a TTL, the report comes when TTL ends at the latest. Here the message waits in the inbox
// of Bob, because the application of Bob does not receive it.
func ExampleSendOptions() {
	addr, stop := startHub()
	defer stop()

	bob := mustDial(addr, nil)
	defer bob.Close()
	alice := mustDial(addr, nil)
	defer alice.Close()

	report, err := alice.SendReport(context.Background(), []uint64{bob.ID()}, []byte("do you have a minute?"),
		&client.SendOptions{Level: wire.LevelReceived, TTL: 200 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Fates[0])
	// Output: written
}

// With OverflowReject, messages do not wait for a slow receiver. Here one receiver does not
// read at all.
func ExampleSendOptions_overflow() {
	addr, stop := startHub()
	defer stop()

	// Client 1: sends a v1 identity request and then does not read.
	sleeper, err := net.Dial("tcp", addr)
	if err != nil {
		log.Fatal(err)
	}
	defer sleeper.Close()
	if _, err := sleeper.Write(wire.AppendIdentityRequest(nil)); err != nil {
		log.Fatal(err)
	}
	if _, err := io.ReadFull(sleeper, make([]byte, wire.IdentityLen)); err != nil {
		log.Fatal(err)
	}
	alice := mustDial(addr, nil)
	defer alice.Close()

	options := client.SendOptions{Level: wire.LevelWritten, Overflow: wire.OverflowReject, TTL: 100 * time.Millisecond}
	full := make(chan bool, 32)
	for range cap(full) { // 32 MiB, more than the kernel and the queue hold
		done := func(r *client.Report, err error) { full <- err == nil && r.Fates[0] == wire.FateFull }
		if err := alice.SendFunc(context.Background(), []uint64{1}, make([]byte, 1<<20), &options, done); err != nil {
			log.Fatal(err)
		}
	}
	refused := 0
	for range cap(full) {
		if <-full {
			refused++
		}
	}
	fmt.Println("the queue was full:", refused > 0)
	// Output: the queue was full: true
}
