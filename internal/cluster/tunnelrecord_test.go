package cluster

import (
	"encoding/binary"
	"testing"
)

// TestTunnelRecord_KeyTurnsAround parses the key of a record as the other hub does.
func TestTunnelRecord_KeyTurnsAround(t *testing.T) {
	for _, key := range []tunnelKey{{1, true}, {1 << 60, false}} {
		for kind, record := range map[recordType][]byte{
			recordTunnelData:   appendTunnelData(nil, key, 0),
			recordTunnelCredit: appendTunnelCredit(nil, key, 5),
			recordTunnelClose:  appendTunnelClose(nil, key, 5),
		} {
			head := record[recordHeaderSize:]
			if recordType(record[0]) != kind || int(binary.BigEndian.Uint16(record[1:])) != len(head) {
				t.Errorf("record of type %d has the header %x", kind, record[:recordHeaderSize])
			}
			got, err := parseTunnelKey(kind, head, len(head))
			if want := (tunnelKey{key.number, !key.opened}); got != want || err != nil {
				t.Errorf("type %d: key %+v, want %+v: %v", kind, got, want, err)
			}
			for n := range head { // truncated
				if _, err := parseTunnelKey(kind, head[:n], len(head)); err == nil {
					t.Errorf("type %d: a head of %d bytes is accepted", kind, n)
				}
			}
		}
	}
}
