package simulation

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/sechlol/go-message-hub/client"
)

// breakPollInterval is the interval at which a breaker checks whether the next break is due.
const breakPollInterval = 5 * time.Millisecond

// breaker breaks the connection of one client at random points of the client's messages.
type breaker struct {
	client *client.Client
	sender *sender      // of the client
	dialer *proxyDialer // of the client
	breaks int          // number of breaks
}

// breakConns breaks the connection, each time when the client is connected. It returns when the
// client has reconnected after the last break, or with an error when ctx ends before that.
func (b *breaker) breakConns(ctx context.Context) error {
	ticker := time.NewTicker(breakPollInterval)
	defer ticker.Stop()
	for n := range b.breaks {
		// At a random point in the n-th of as many equal parts of the client's messages.
		due := (float64(n) + rand.Float64()) / float64(b.breaks) * float64(b.sender.messages)
		for {
			if float64(b.sender.accepted.Load()) >= due {
				if _, err := b.client.Ping(ctx); err != nil {
					return err
				}
				if b.dialer.breakConn(rand.IntN(2) == 0) {
					break
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return errors.New("run ended before all connections were broken")
			}
		}
	}
	_, err := b.client.Ping(ctx) // the client has reconnected
	return err
}
