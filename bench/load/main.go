// Load is the client side of every server that bench measures. It drives each system through
// the client library that users of that system use, and checks what arrives.
//
//	load move -system nats -addr HOST:PORT -clients 100 -messages 1000 -size 128
//	load latency -system nats -addr HOST:PORT -size 128 -rounds 20000
//	load storm -system nats -addr HOST:PORT -clients 15000
//	load flood -addr HOST:PORT -kind connects -rate 2000 -seconds 10
//	load hostile -addr HOST:PORT -kind silent -conns 10000
//
// Each mode prints one JSON object with its result. Before it, move, flood and hostile print
// the line "moving" when all clients are connected. A result can report lost messages; the
// exit code is 1 when there is no result.
//
// The server under measurement shares the machine with this program. Therefore the program
// adds as little work as possible to that of the library for each message: no clock, no
// allocation, one check of 16 bytes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}
