package wire

import (
	"encoding/json"
	"fmt"
)

// Version2 is the version that HELLO and WELCOME speak of.
const Version2 = 2

// MaxHelloLen is the largest payload of a HELLO, in bytes.
const MaxHelloLen = 16 << 10

// MaxGrantedID is the largest id that a hub that grants ids gives to a client by what that shows of
// itself. Such an id is the same client's when the hub has started anew.
const MaxGrantedID = 1<<63 - 1

// Hello is the first frame of a client that speaks version 2. Fields that are not
// known are ignored.
type Hello struct {
	Version int    `json:"version"`
	Name    string `json:"name,omitempty"`  // for people: logs and lists of the operator
	Token   string `json:"token,omitempty"` // who the client is

	// MaxBody is the largest body that the client takes, in bytes. 0: whatever the hub allows.
	MaxBody uint64 `json:"max_body,omitempty"`

	// Confirms says that the client says TAKEN as soon as it has had WELCOME. A connection that is
	// lost before the hub has heard that may be resumed for 5 seconds at most: most likely the
	// client does not know how.
	Confirms bool `json:"confirms,omitempty"`

	// The following three say that the client was connected before.
	ID       uint64 `json:"id,omitempty,string"`
	Resume   string `json:"resume,omitempty"`          // the secret of the last WELCOME
	Received uint64 `json:"received,omitempty,string"` // how many counted frames it has had, in all

	// Skip says that the client knows SKIP. It must be the same in each Hello of one client.
	Skip bool `json:"skip,omitempty"`

	// Read is how many counted frames have come whole, in all. They are not sent again, whether
	// they were received or not. nil: the client does not say, or had no WELCOME on the connection
	// before. It counts only with Skip.
	Read *uint64 `json:"read,omitempty,string"`
}

// Welcome is the hub's answer to a Hello. Fields that are not known are ignored.
type Welcome struct {
	Version int    `json:"version"`
	ID      uint64 `json:"id,string"`
	Resume  string `json:"resume,omitempty"`  // the secret to come back with; none: it cannot
	Resumed bool   `json:"resumed,omitempty"` // it is the id of before, and nothing is lost
	Again   int    `json:"again,omitempty"`   // so many counted frames from here on were sent before, and may have arrived
	Seq     uint64 `json:"seq,string"`        // of the last SEND that the hub has: those behind it are to be sent again
	Acked   uint64 `json:"taken,string"`      // seq up to which SENDs are taken, as in TAKEN

	Hub   string `json:"hub"`          // what runs there
	Epoch uint64 `json:"epoch,string"` // changes when the hub starts anew

	// GrantsIDs says that ids up to MaxGrantedID are granted to clients. Without it no id means the
	// same client in another epoch.
	GrantsIDs bool `json:"grants_ids,omitempty"`

	MaxBody      int `json:"max_body"`              // bytes of a body that the client sends
	MaxDeliver   int `json:"max_deliver,omitempty"` // bytes of a body that it is sent; 0: the hub does not say
	MaxReceivers int `json:"max_receivers"`
	MaxReports   int `json:"max_reports"`             // SENDs that may wait for their report
	Credit       int `json:"credit"`                  // what SENDs that are not taken may cost together: see SendCost
	ReceiverCost int `json:"receiver_cost,omitempty"` // what each receiver of a SEND counts for that, at most DefaultReceiverCost; 0: that
	Window       int `json:"window"`                  // bytes that the hub sends beyond what was received
	Keepalive    int `json:"keepalive_ms"`            // the hub sends something at least as often

	// Expires is after how many milliseconds what the client has shown is good no longer; 0: never.
	Expires int64 `json:"expires_ms,omitempty"`

	// MaxReportTimeout is the longest report timeout that counts, in milliseconds; 0: the hub
	// knows none in a SEND, and its bits there must be 0.
	MaxReportTimeout int64 `json:"max_report_timeout_ms,omitempty"`
}

// GoAwayCode says why a connection ends.
type GoAwayCode string

// The codes of GOAWAY. They are append-only; one that is not known means what its
// Reconnect says.
const (
	GoAwayShutdown  GoAwayCode = "shutdown"   // the hub ends
	GoAwayTakenOver GoAwayCode = "taken_over" // another connection has resumed this id
	GoAwayProtocol  GoAwayCode = "protocol"   // the client said what cannot be understood
	GoAwayVersion   GoAwayCode = "version"    // the hub does not speak that version
	GoAwaySlow      GoAwayCode = "slow"       // the client did not take what others wait to send it
	GoAwayTimeout   GoAwayCode = "timeout"    // nothing was heard from the client
	GoAwayRefused   GoAwayCode = "refused"    // the client may not come in
	GoAwayExpired   GoAwayCode = "expired"    // what the client has shown is good no longer

	// GoAwayBusy says that there is no room for another connection, or none from this address, now.
	GoAwayBusy GoAwayCode = "busy"

	// GoAwayDisconnected says that the operator of the hub wants the client to go.
	GoAwayDisconnected GoAwayCode = "disconnected"
)

// GoAway is the hub's last frame.
type GoAway struct {
	Code      GoAwayCode `json:"code"`
	Reason    string     `json:"reason,omitempty"` // for people
	Reconnect bool       `json:"reconnect"`        // whether it makes sense to come back
	After     int        `json:"after_ms,omitempty"`
}

// AppendHello appends a HELLO.
func AppendHello(b []byte, h *Hello) []byte { return appendJSON(b, TypeHello, h) }

// ParseHello reads the payload of a HELLO. It returns an error that wraps
// ErrMalformed when that is no JSON object of such fields, or too long.
func ParseHello(payload []byte) (h Hello, err error) {
	if len(payload) > MaxHelloLen {
		return h, fmt.Errorf("%w: HELLO of %d bytes, %d allowed", ErrMalformed, len(payload), MaxHelloLen)
	}
	return h, parseJSON(payload, "HELLO", &h)
}

// AppendWelcome appends a WELCOME.
func AppendWelcome(b []byte, w *Welcome) []byte { return appendJSON(b, TypeWelcome, w) }

// ParseWelcome reads the payload of a WELCOME. It returns an error that wraps
// ErrMalformed when that is no JSON object of such fields.
func ParseWelcome(payload []byte) (w Welcome, err error) {
	return w, parseJSON(payload, "WELCOME", &w)
}

// AppendGoAway appends a GOAWAY.
func AppendGoAway(b []byte, g *GoAway) []byte { return appendJSON(b, TypeGoAway, g) }

// ParseGoAway reads the payload of a GOAWAY. It returns an error that wraps
// ErrMalformed when that is no JSON object of such fields.
func ParseGoAway(payload []byte) (g GoAway, err error) {
	return g, parseJSON(payload, "GOAWAY", &g)
}

func appendJSON(b []byte, t Type, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only for types that have no JSON form
	}
	return append(appendHeader(b, t, len(text)), text...)
}

func parseJSON(payload []byte, name string, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	return nil
}
