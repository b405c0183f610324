package client

import "context"

// signal wakes one goroutine that waits for c, which has capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// acquire sends to c, which is used as a semaphore, until ctx ends or stop is closed.
func acquire(ctx context.Context, stop <-chan struct{}, c chan<- struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-stop:
		return ErrClosed
	}
}
