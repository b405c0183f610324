// Bench measures the hub, other systems and the limits of the machine, alternating in one run,
// and prints tables. On a shared machine absolute times mean little; the ratios between
// systems are comparable.
//
//	go run . [-scenario all] [-systems hub,nats] [-pairs 5] [-json FILE] [-docs FILE]
//	go run . -scenario smoke
//	go run . -scenario cluster-kill [-kills 100] [-seed N]
//
// Bench builds the programs of this checkout and the other systems that are Go modules. It
// starts each server as a separate process on the loopback interface and on its own port,
// drives it with bench/load or start_simulation, and stops it. A run in which the hub lost a
// message is an error, not a measurement; losses of another system are reported beside its
// figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
