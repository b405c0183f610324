package main

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// onOneProcessor returns measure with all processes that it starts on one processor. Between the
// virtual processors of a machine a wake-up can take five times as long as on one of them, and
// the scheduler chooses anew in each round: without this, a ratio of two round trips tells where
// the processes ran.
func onOneProcessor(measure func(context.Context, *programs) (*measurement, error)) func(context.Context, *programs) (*measurement, error) {
	return func(ctx context.Context, p *programs) (*measurement, error) {
		// A process inherits the processors of the thread that starts it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var all, one unix.CPUSet
		if err := unix.SchedGetaffinity(0, &all); err != nil {
			return nil, fmt.Errorf("get processor affinity: %w", err)
		}
		for cpu := 0; one.Count() == 0; cpu++ {
			if all.IsSet(cpu) {
				one.Set(cpu)
			}
		}
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			return nil, fmt.Errorf("set processor affinity: %w", err)
		}
		m, err := measure(ctx, p)
		if resetErr := unix.SchedSetaffinity(0, &all); err == nil && resetErr != nil {
			err = fmt.Errorf("reset processor affinity: %w", resetErr)
		}
		return m, err
	}
}
