package wire

import (
	"encoding/binary"
	"fmt"
)

// Relay is a request to hand one body to the clients in To, as a client sent
// it. Both fields are views of the payload that it was parsed from.
type Relay struct {
	To   IDs    // at most MaxReceivers; the same id may stand there twice
	Body []byte // may be empty
}

// RelayLen returns the size of a relay on the wire, in bytes.
func RelayLen(receivers, body int) int { return relayFixed + receivers*IDSize + body }

// AppendRelayHeader appends everything of a relay that stands before its body
// of bodyLen bytes. to must not name more than MaxReceivers.
func AppendRelayHeader(b []byte, to []uint64, bodyLen int) []byte {
	b = appendHeader(b, TypeRelay, RelayLen(len(to), bodyLen)-HeaderSize)
	b = append(b, byte(len(to)))
	return appendIDs(b, to)
}

// AppendRelay appends a whole relay. to must not name more than MaxReceivers.
func AppendRelay(b []byte, to []uint64, body []byte) []byte {
	return append(AppendRelayHeader(b, to, len(body)), body...)
}

// ParseRelay reads the payload of a relay. It returns an error that wraps
// ErrMalformed when the payload ends before the ids that its count announces.
func ParseRelay(payload []byte) (Relay, error) {
	if len(payload) == 0 {
		return Relay{}, fmt.Errorf("%w: relay without a count", ErrMalformed)
	}
	end := 1 + int(payload[0])*IDSize
	if len(payload) < end {
		return Relay{}, fmt.Errorf("%w: relay of %d bytes announces %d receivers", ErrMalformed, len(payload), payload[0])
	}
	return Relay{To: IDs(payload[1:end:end]), Body: payload[end:]}, nil
}

// RelayDeliveryLen returns the size of a delivery on the wire, in bytes.
func RelayDeliveryLen(body int) int { return HeaderSize + body }

// AppendRelayDelivery appends what the hub sends to each receiver of a relay. The
// payload of a delivery is the body, so it needs no Parse.
func AppendRelayDelivery(b []byte, body []byte) []byte {
	return append(appendHeader(b, TypeRelay, len(body)), body...)
}

// PutRelayDeliveryHeader writes the header of a delivery of bodyLen bytes into the
// first HeaderSize bytes of b, for a body that already stands behind them.
func PutRelayDeliveryHeader(b []byte, bodyLen int) {
	binary.BigEndian.PutUint32(b, uint32(1+bodyLen))
	b[LengthSize] = byte(TypeRelay)
}
