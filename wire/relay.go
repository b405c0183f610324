package wire

import (
	"encoding/binary"
	"fmt"
)

// Relay is a request of a version 1 client to deliver Body to the clients in To. Both fields
// are views of the payload that the Relay was parsed from.
type Relay struct {
	To   IDs    // at most MaxReceivers; the same id can occur more than once
	Body []byte // can be empty
}

// RelayLen returns the size of a RELAY with a body of body bytes on the wire, in bytes.
func RelayLen(receivers, body int) int { return relayFixed + receivers*IDSize + body }

// AppendRelayHeader appends the part of a RELAY before its body of bodyLen bytes. len(to) must
// not be above MaxReceivers.
func AppendRelayHeader(b []byte, to []uint64, bodyLen int) []byte {
	b = appendHeader(b, TypeRelay, RelayLen(len(to), bodyLen)-HeaderSize)
	b = append(b, byte(len(to)))
	return AppendIDs(b, to)
}

// AppendRelay appends a RELAY. len(to) must not be above MaxReceivers.
func AppendRelay(b []byte, to []uint64, body []byte) []byte {
	return append(AppendRelayHeader(b, to, len(body)), body...)
}

// ParseRelay reads the payload of a RELAY. It returns an error that wraps ErrMalformed if the
// payload has fewer ids than its count announces.
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

// RelayDeliveryLen returns the size of a delivery of version 1 on the wire, in bytes.
func RelayDeliveryLen(body int) int { return HeaderSize + body }

// AppendRelayDelivery appends a delivery of version 1, which the hub sends to each version 1
// client among the receivers of a message. The payload of a delivery is the body.
func AppendRelayDelivery(b []byte, body []byte) []byte {
	return append(appendHeader(b, TypeRelay, len(body)), body...)
}

// PutRelayDeliveryHeader writes the header of a delivery of version 1 into the first
// HeaderSize bytes of b, in front of a body of bodyLen bytes that is already in place.
func PutRelayDeliveryHeader(b []byte, bodyLen int) {
	binary.BigEndian.PutUint32(b, uint32(1+bodyLen))
	b[LengthSize] = byte(TypeRelay)
}
