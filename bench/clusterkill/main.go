// Clusterkill runs a cluster of three hubs and three NATS servers, each in a network namespace of
// its own, breaks it at random while clients send, and checks every message, every fate and every
// list against what the receivers really got.
//
//	clusterkill -programs FOLDER [-kills 100] [-seed 1]
//
// FOLDER has start_server and nats-server. The program must run in a new network namespace, as
// bench starts it, and may then change the network as it likes: it needs ip (iproute2), iptables
// and nsenter. Each fault is a line on standard error. The result is one JSON object on standard
// output, with the seed, which chooses the same faults again. The exit code is 1 if anything was
// wrong. The program ends, and all its servers with it, when its standard input does.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// The main goroutine stays on the main thread, because the servers end with the thread that has
// started them.
func init() { runtime.LockOSThread() }

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() { // ends with the program, or ends it
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "clusterkill:", err)
		os.Exit(1)
	}
}
