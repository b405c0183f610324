package wire

import (
	"encoding/json"
	"fmt"
)

// Version2 is the protocol version in HELLO and WELCOME.
const Version2 = 2

// MaxHelloLen is the maximum payload of a HELLO, in bytes.
const MaxHelloLen = 16 << 10

// MaxGrantedID is the largest id that a hub can grant to a client by its credentials. A
// granted id means the same client after the hub has restarted. See Welcome.GrantsIDs.
const MaxGrantedID = 1<<63 - 1

// Hello is the first frame of a version 2 client. The hub ignores unknown fields.
type Hello struct {
	Version int    `json:"version"`
	Name    string `json:"name,omitempty"`  // shown to the operator, in logs and lists
	Token   string `json:"token,omitempty"` // credentials of the client

	// MaxBody is the maximum body that the client accepts, in bytes. 0: the limit of the hub.
	MaxBody uint64 `json:"max_body,omitempty"`

	// Confirms says that the client sends an ACK as soon as it has read a WELCOME of a new
	// session. If the connection is lost before the hub has read that ACK, the resume window is
	// at most 5 seconds, because the client most likely does not know its resume secret.
	Confirms bool `json:"confirms,omitempty"`

	// ID, Resume and Received ask the hub to resume a session. Set all three or none of them.
	ID       uint64 `json:"id,omitempty,string"`
	Resume   string `json:"resume,omitempty"`          // resume secret of the last WELCOME
	Received uint64 `json:"received,omitempty,string"` // count of reliable frames, as in an ACK

	// Skip says that the client knows SKIP. It must not change during a session.
	Skip bool `json:"skip,omitempty"`

	// Read is the number of reliable frames that the client has read whole since the session
	// began, those of Received included. The hub does not retransmit them. nil: the client does not
	// support this field, or read no WELCOME on the connection before. The hub ignores Read
	// unless Skip is set.
	Read *uint64 `json:"read,omitempty,string"`
}

// Welcome is the answer of the hub to a Hello that it accepts. The client ignores unknown fields.
type Welcome struct {
	Version int    `json:"version"`
	ID      uint64 `json:"id,string"`         // of the client
	Resume  string `json:"resume,omitempty"`  // resume secret; empty: the session cannot be resumed
	Resumed bool   `json:"resumed,omitempty"` // the session of Hello.ID goes on, and no frame is lost

	// KeptID says that this is a new session under Hello.ID: the hub that had the session of that id
	// is gone, and with it perhaps messages for the client.
	KeptID bool `json:"kept_id,omitempty"`

	// Cluster names the cluster of the hub. All ids of one cluster mean the same clients at each of
	// its hubs, and are never given to others. Empty: the hub is alone.
	Cluster string `json:"cluster,omitempty"`

	// Again is the number of reliable frames after this WELCOME that are retransmissions. The
	// client can have read them on an earlier connection.
	Again int `json:"again,omitempty"`

	// Seq is the seq of the last SEND that the hub has read. A client that resumes retransmits the
	// SENDs after it.
	Seq uint64 `json:"seq,string"`

	// Acked is the seq up to which all SENDs are acknowledged, as in an ACK.
	Acked uint64 `json:"taken,string"`

	Hub   string `json:"hub"`          // program and version of the hub
	Epoch uint64 `json:"epoch,string"` // changes when the hub restarts

	// GrantsIDs says that ids up to MaxGrantedID are granted to clients by their credentials, and
	// mean the same clients in every epoch. Without GrantsIDs no id keeps its meaning in
	// another epoch.
	GrantsIDs bool `json:"grants_ids,omitempty"`

	// MaxBody is the maximum body of a message that the client sends, in bytes.
	MaxBody int `json:"max_body"`

	// MaxDeliver is the maximum body of a message that the client receives, in bytes. 0: the hub
	// does not know this field.
	MaxDeliver int `json:"max_deliver,omitempty"`

	MaxReceivers int `json:"max_receivers"` // of a SEND
	MaxReports   int `json:"max_reports"`   // maximum number of SENDs that wait for their report

	// Credit is the send credit: the maximum total SendCost of unacknowledged SENDs, in bytes.
	Credit int `json:"credit"`

	// ReceiverCost is what each receiver of a SEND costs of the send credit, in bytes, at most
	// DefaultReceiverCost. 0: DefaultReceiverCost.
	ReceiverCost int `json:"receiver_cost,omitempty"`

	// Window is the maximum number of bytes of unacknowledged reliable frames that the hub sends.
	Window int `json:"window"`

	// Keepalive is the maximum time between two frames of the hub, in milliseconds.
	Keepalive int `json:"keepalive_ms"`

	// Expires is the time until the credentials of the client expire, in milliseconds; 0: they do
	// not expire.
	Expires int64 `json:"expires_ms,omitempty"`

	// MaxReportTimeout is the maximum report timeout, in milliseconds. The hub lowers a longer one
	// to it. 0: the hub knows no report timeout in a SEND, and its bits in Options must be 0.
	MaxReportTimeout int64 `json:"max_report_timeout_ms,omitempty"`

	// Renew says that the hub takes RENEW: the client can renew its token on the connection.
	Renew bool `json:"renew,omitempty"`
}

// GoAwayCode is the reason why the hub ends a connection.
type GoAwayCode string

// Codes of GOAWAY. They are append-only. For a code that it does not know, a client goes by
// GoAway.Reconnect.
const (
	GoAwayShutdown  GoAwayCode = "shutdown"   // the hub shuts down
	GoAwayTakenOver GoAwayCode = "taken_over" // another connection has resumed the session
	GoAwayProtocol  GoAwayCode = "protocol"   // the client sent a malformed frame
	GoAwayVersion   GoAwayCode = "version"    // the hub does not support the version in HELLO
	GoAwaySlow      GoAwayCode = "slow"       // reserved
	GoAwayTimeout   GoAwayCode = "timeout"    // reserved
	GoAwayRefused   GoAwayCode = "refused"    // the credentials of the client are missing or invalid
	GoAwayExpired   GoAwayCode = "expired"    // the credentials of the client have expired

	// GoAwayBusy says that the hub has its maximum number of connections, in all or from this
	// address, or that the connection whose session the client resumes was not closed in time.
	GoAwayBusy GoAwayCode = "busy"

	// GoAwayDisconnected says that the operator of the hub has disconnected the client.
	GoAwayDisconnected GoAwayCode = "disconnected"
)

// GoAway says why the hub ends the connection. Frames that are queued can follow it.
type GoAway struct {
	Code      GoAwayCode `json:"code"`
	Reason    string     `json:"reason,omitempty"`   // text for people
	Reconnect bool       `json:"reconnect"`          // whether the client should reconnect
	After     int        `json:"after_ms,omitempty"` // wait before reconnecting, in ms
}

// AppendHello appends a HELLO.
func AppendHello(b []byte, h *Hello) []byte { return appendJSON(b, TypeHello, h) }

// ParseHello reads the payload of a HELLO. It returns an error that wraps ErrMalformed if the
// payload is not a JSON object with such fields, or is longer than MaxHelloLen.
func ParseHello(payload []byte) (h Hello, err error) {
	if len(payload) > MaxHelloLen {
		return h, fmt.Errorf("%w: HELLO of %d bytes, %d allowed", ErrMalformed, len(payload), MaxHelloLen)
	}
	return h, parseJSON(payload, "HELLO", &h)
}

// AppendWelcome appends a WELCOME.
func AppendWelcome(b []byte, w *Welcome) []byte { return appendJSON(b, TypeWelcome, w) }

// ParseWelcome reads the payload of a WELCOME. It returns an error that wraps ErrMalformed if the
// payload is not a JSON object with such fields.
func ParseWelcome(payload []byte) (w Welcome, err error) {
	return w, parseJSON(payload, "WELCOME", &w)
}

// AppendGoAway appends a GOAWAY.
func AppendGoAway(b []byte, g *GoAway) []byte { return appendJSON(b, TypeGoAway, g) }

// ParseGoAway reads the payload of a GOAWAY. It returns an error that wraps ErrMalformed if the
// payload is not a JSON object with such fields.
func ParseGoAway(payload []byte) (g GoAway, err error) {
	return g, parseJSON(payload, "GOAWAY", &g)
}

func appendJSON(b []byte, t Type, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // cannot happen: all types have a JSON form
	}
	return append(appendHeader(b, t, len(text)), text...)
}

func parseJSON(payload []byte, name string, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	return nil
}
