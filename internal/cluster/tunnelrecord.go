package cluster

import "encoding/binary"

// The records of tunnels. A tunnel has a number of the hub that has opened it. Both hubs number
// their tunnels from 1, so that each record says which of them has opened the tunnel.
const (
	// recordTunnelOpen: a client of the sending hub wants to resume a session of the other hub.
	//
	//	0  8  number of the tunnel; numbers increase
	//	body  a TunnelRequest in JSON
	recordTunnelOpen recordType = 6

	// recordTunnelData: bytes of the client, or for it.
	//
	//	0  8  number of the tunnel
	//	8  1  flags: tunnelFromOpener
	//	body  the bytes, at most maxTunnelData
	recordTunnelData recordType = 7

	// recordTunnelCredit: how many bytes the other end can send in all.
	//
	//	0  8  number of the tunnel
	//	8  1  flags: tunnelFromOpener
	//	9  8  number of bytes since the tunnel was opened; it increases
	recordTunnelCredit recordType = 8

	// recordTunnelClose: the end is closed. It is the last record of this end.
	//
	//	0  8  number of the tunnel
	//	8  1  flags: tunnelFromOpener
	//	9  2  status of the close frame, if the client has a WebSocket; 0: none
	recordTunnelClose recordType = 9

	// recordTunnelReceived: how many bytes of all tunnels have arrived since the streams began.
	//
	//	0  8  number of bytes; it increases
	recordTunnelReceived recordType = 10
)

const tunnelFromOpener = 1 << 0 // the sending hub has opened the tunnel

const (
	tunnelOpenHeadSize     = 8
	tunnelDataHeadSize     = 9
	tunnelCreditHeadSize   = 17
	tunnelCloseHeadSize    = 11
	tunnelReceivedHeadSize = 8

	// maxTunnelData is the maximum number of bytes in a recordTunnelData. Messages between the hubs
	// wait for no more than that.
	maxTunnelData = 16 << 10
)

// tunnelKey names a tunnel of a link.
type tunnelKey struct {
	number uint64
	opened bool // this hub has opened it
}

// flags returns the flags of the records that this hub sends.
func (k tunnelKey) flags() byte {
	if k.opened {
		return tunnelFromOpener
	}
	return 0
}

// parseTunnelKey parses the start of the head of a record that the other hub has sent.
func parseTunnelKey(t recordType, head []byte, size int) (tunnelKey, error) {
	if len(head) < size {
		return tunnelKey{}, nonsense("record of type %d with a head of %d bytes", t, len(head))
	}
	return tunnelKey{number: binary.BigEndian.Uint64(head), opened: head[8]&tunnelFromOpener == 0}, nil
}

// appendTunnelOpen appends a recordTunnelOpen.
func appendTunnelOpen(b []byte, number uint64, request []byte) []byte {
	b = appendRecordHeader(b, recordTunnelOpen, tunnelOpenHeadSize, len(request))
	return append(binary.BigEndian.AppendUint64(b, number), request...)
}

// appendTunnelData appends a recordTunnelData without its body.
func appendTunnelData(b []byte, key tunnelKey, body int) []byte {
	b = appendRecordHeader(b, recordTunnelData, tunnelDataHeadSize, body)
	return append(binary.BigEndian.AppendUint64(b, key.number), key.flags())
}

// appendTunnelCredit appends a recordTunnelCredit.
func appendTunnelCredit(b []byte, key tunnelKey, upTo uint64) []byte {
	b = appendRecordHeader(b, recordTunnelCredit, tunnelCreditHeadSize, 0)
	b = append(binary.BigEndian.AppendUint64(b, key.number), key.flags())
	return binary.BigEndian.AppendUint64(b, upTo)
}

// appendTunnelClose appends a recordTunnelClose.
func appendTunnelClose(b []byte, key tunnelKey, status uint16) []byte {
	b = appendRecordHeader(b, recordTunnelClose, tunnelCloseHeadSize, 0)
	b = append(binary.BigEndian.AppendUint64(b, key.number), key.flags())
	return binary.BigEndian.AppendUint16(b, status)
}

// appendTunnelReceived appends a recordTunnelReceived.
func appendTunnelReceived(b []byte, total uint64) []byte {
	b = appendRecordHeader(b, recordTunnelReceived, tunnelReceivedHeadSize, 0)
	return binary.BigEndian.AppendUint64(b, total)
}
