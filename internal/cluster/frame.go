package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
)

// A frame between hubs begins with
//
//	0  1  version of this header: 1
//	1  1  kind
//	2  4  Node of the hub that sends it, big-endian
const framePrefixSize = 6

const frameVersion = 1

// frameKind is the kind of a frame.
type frameKind uint8

const (
	frameHeartbeat frameKind = 1 // a heartbeat in JSON, and its code
	frameLink      frameKind = 2 // a frame of package link
	frameLeave     frameKind = 3 // the hub ends: a heartbeat in JSON, and its code
)

// appendFramePrefix appends the start of a frame.
func appendFramePrefix(b []byte, kind frameKind, from Node) []byte {
	return binary.BigEndian.AppendUint32(append(b, frameVersion, byte(kind)), uint32(from))
}

// parseFramePrefix parses the start of a frame.
func parseFramePrefix(frame []byte) (kind frameKind, from Node, rest []byte, ok bool) {
	if len(frame) < framePrefixSize || frame[0] != frameVersion {
		return 0, 0, nil, false
	}
	from = Node(binary.BigEndian.Uint32(frame[2:]))
	return frameKind(frame[1]), from, frame[framePrefixSize:], from > 0 && from <= MaxNode
}

// The versions of the records that this hub can speak. Two hubs speak the highest that both can.
const (
	minVersion = 1
	maxVersion = 1
)

// heartbeat is what a hub says of itself once per second.
type heartbeat struct {
	MinVersion int `json:"min"`
	MaxVersion int `json:"max"`

	Name     string `json:"name"`
	Instance string `json:"instance"` // random, of this start
	Address  string `json:"address,omitempty"`
	Software string `json:"software,omitempty"`
	Started  int64  `json:"started"` // in s since 1970
	Now      int64  `json:"now"`     // in µs since 1970
	Clients  int    `json:"clients"`
	Revision uint64 `json:"revision"` // of its clients
	Window   int    `json:"window"`   // bytes that can be under way to the hub
}

// codeSize is the size of the code behind a heartbeat, in bytes.
const codeSize = sha256.Size

// code returns the code of a frame, by which hubs with the same key know each other.
func code(key, frame []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(frame)
	return mac.Sum(nil)
}

// encodeHeartbeat returns a frame with h.
func encodeHeartbeat(kind frameKind, from Node, key []byte, h *heartbeat) []byte {
	b := appendFramePrefix(nil, kind, from)
	text, err := json.Marshal(h)
	if err != nil {
		panic(err) // only strings and integers
	}
	b = append(b, text...)
	return append(b, code(key, b)...)
}

// parseHeartbeat parses a whole frame. authentic is false if its code is of another key.
func parseHeartbeat(frame, key []byte) (h heartbeat, authentic bool, err error) {
	if len(frame) < framePrefixSize+codeSize {
		return h, false, fmt.Errorf("heartbeat of %d bytes", len(frame))
	}
	content, sum := frame[:len(frame)-codeSize], frame[len(frame)-codeSize:]
	if !hmac.Equal(sum, code(key, content)) {
		return h, false, nil
	}
	if err := json.Unmarshal(content[framePrefixSize:], &h); err != nil {
		return h, true, fmt.Errorf("heartbeat: %w", err)
	}
	return h, true, nil
}
