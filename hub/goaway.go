package hub

import (
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// goAwayTimeout is how long a client has to receive its GOAWAY.
const goAwayTimeout = time.Second

// goAway is an error that ends a connection, and whose text is sent to the client in GOAWAY.
type goAway struct {
	code           wire.GoAwayCode
	reason         CloseReason
	reconnect      bool          // the client should reconnect
	reconnectDelay time.Duration // not before this delay
	resumable      bool          // its session waits to be resumed, as after a loss
	err            error
}

func (g *goAway) Error() string { return g.err.Error() }
func (g *goAway) Unwrap() error { return g.err }

func (g *goAway) encode() []byte {
	return wire.AppendGoAway(nil, &wire.GoAway{Code: g.code, Reason: g.err.Error(), Reconnect: g.reconnect, After: int(g.reconnectDelay.Milliseconds())})
}
