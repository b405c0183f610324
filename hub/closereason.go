package hub

import "fmt"

// CloseReason is the reason why a client was disconnected. Its text is a label value of
// metrics and appears in the log.
type CloseReason uint8

// The reasons for which a connection ends.
const (
	CloseLeft         CloseReason = iota // the client closed its side between two frames
	CloseHalfFrame                       // the client closed its side within a frame
	CloseLost                            // the connection failed
	CloseMalformed                       // a frame did not have the layout of its type
	CloseTooLong                         // a frame or a body exceeded the limit
	CloseFrameTimeout                    // the rest of a frame did not arrive in time
	CloseStalled                         // the client blocked senders and read nothing
	CloseSlow                            // the client was too slow for the memory that it held
	CloseShutdown                        // the hub was shut down
	CloseTimeout                         // the client sent nothing for two keep-alive intervals
	CloseTakenOver                       // another connection has taken over the client's id
	CloseVersion                         // the client uses an unsupported protocol version
	CloseHandshake                       // the TLS handshake failed, or no first frame came in time
	CloseRefused                         // not authenticated, or over a limit without a resume
	CloseExpired                         // the client's credentials have expired
	CloseDisconnected                    // Hub.Disconnect was called
	CloseWebSocket                       // the client broke a rule of WebSocket
	CloseText                            // the client sent a text message over WebSocket
	numCloseReasons
)

var closeReasonTexts = [numCloseReasons]string{
	CloseLeft:         "left",
	CloseHalfFrame:    "half a frame",
	CloseLost:         "connection lost",
	CloseMalformed:    "malformed frame",
	CloseTooLong:      "frame too long",
	CloseFrameTimeout: "frame timeout",
	CloseStalled:      "stalled",
	CloseSlow:         "too slow for the memory it held",
	CloseShutdown:     "shutdown",
	CloseTimeout:      "keep-alive timeout",
	CloseTakenOver:    "taken over",
	CloseVersion:      "unknown version",
	CloseHandshake:    "no handshake",
	CloseRefused:      "refused",
	CloseExpired:      "permission over",
	CloseDisconnected: "disconnected by the operator",
	CloseWebSocket:    "WebSocket error",
	CloseText:         "text message",
}

// String returns the text of the reason for metrics and the log.
func (r CloseReason) String() string {
	if r < numCloseReasons {
		return closeReasonTexts[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// CloseReasons returns all close reasons.
func CloseReasons() []CloseReason { return valuesBelow(numCloseReasons) }
