package wire

import (
	"encoding/binary"
	"fmt"
)

// MaxPageIDs is the maximum number of ids in one LIST_PAGE or PRESENCE.
const MaxPageIDs = 8192

// ListRange asks for one page of the list of clients: the smallest ids above After, at most
// Limit and at most MaxPageIDs.
type ListRange struct {
	After uint64
	Limit uint32 // 0: MaxPageIDs
}

// ListRangeLen is the size of a LIST_RANGE on the wire, in bytes.
const ListRangeLen = HeaderSize + 8 + 4

// AppendListRange appends a LIST_RANGE.
func AppendListRange(b []byte, r ListRange) []byte {
	b = appendHeader(b, TypeListRange, ListRangeLen-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, r.After)
	return binary.BigEndian.AppendUint32(b, r.Limit)
}

// ParseListRange reads the payload of a LIST_RANGE. It returns an error that wraps
// ErrMalformed unless the payload has exactly 12 bytes.
func ParseListRange(payload []byte) (r ListRange, err error) {
	if len(payload) != ListRangeLen-HeaderSize {
		return r, fmt.Errorf("%w: LIST_RANGE of %d bytes", ErrMalformed, len(payload))
	}
	return ListRange{binary.BigEndian.Uint64(payload), binary.BigEndian.Uint32(payload[8:])}, nil
}

// ListPage is the answer to a ListRange. IDs is a view of the payload that the ListPage was
// parsed from.
type ListPage struct {
	Total uint64 // number of clients, the requesting one included
	More  bool   // clients with larger ids exist
	IDs   IDs    // ascending, the requesting client included
}

const listPageFixed = HeaderSize + 8 + 1

// ListPageLen returns the size of a LIST_PAGE with n ids on the wire, in bytes.
func ListPageLen(n int) int { return listPageFixed + n*IDSize }

// AppendListPage appends a LIST_PAGE.
func AppendListPage(b []byte, total uint64, more bool, ids []uint64) []byte {
	b = appendHeader(b, TypeListPage, ListPageLen(len(ids))-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, total)
	return AppendIDs(append(b, boolToByte(more)), ids)
}

// ParseListPage reads the payload of a LIST_PAGE. It returns an error that wraps ErrMalformed
// if the payload is too short or ends within an id, or if its byte "more" is above 1.
func ParseListPage(payload []byte) (p ListPage, err error) {
	const fixed = listPageFixed - HeaderSize
	if len(payload) < fixed || (len(payload)-fixed)%IDSize != 0 || payload[8] > 1 {
		return p, fmt.Errorf("%w: LIST_PAGE of %d bytes", ErrMalformed, len(payload))
	}
	return ListPage{binary.BigEndian.Uint64(payload), payload[8] == 1, IDs(payload[fixed:])}, nil
}

// Watch starts or stops a presence watch. The hub sends PRESENCE to a watcher until the watch is
// stopped or the connection ends.
type Watch struct {
	On    bool
	Since uint64 // revision of the last PRESENCE that the client has; 0: begin with a snapshot
}

// WatchLen is the size of a WATCH on the wire, in bytes.
const WatchLen = HeaderSize + 1 + 8

// AppendWatch appends a WATCH.
func AppendWatch(b []byte, w Watch) []byte {
	b = append(appendHeader(b, TypeWatch, WatchLen-HeaderSize), boolToByte(w.On))
	return binary.BigEndian.AppendUint64(b, w.Since)
}

// ParseWatch reads the payload of a WATCH. It returns an error that wraps ErrMalformed unless the
// payload has exactly 9 bytes, of which the first is 0 or 1.
func ParseWatch(payload []byte) (w Watch, err error) {
	if len(payload) != WatchLen-HeaderSize || payload[0] > 1 {
		return w, fmt.Errorf("%w: WATCH of %d bytes", ErrMalformed, len(payload))
	}
	return Watch{payload[0] == 1, binary.BigEndian.Uint64(payload[1:])}, nil
}

// PresenceFlags say how a watcher applies a PRESENCE.
type PresenceFlags uint8

// Flags of PRESENCE.
const (
	PresenceSnapshot PresenceFlags = 1 << 0 // the ids replace all that the watcher knows
	PresenceMore     PresenceFlags = 1 << 1 // the next PRESENCE belongs to the same change
)

// Presence lists the clients that joined and left. Joined and Left are views of the payload
// that the Presence was parsed from.
type Presence struct {
	Revision uint64 // value for Watch.Since after this PRESENCE
	Flags    PresenceFlags
	Joined   IDs
	Left     IDs
}

const presenceFixed = HeaderSize + 8 + 1 + 4

// PresenceLen returns the size of a PRESENCE with joined and left ids on the wire, in bytes.
func PresenceLen(joined, left int) int { return presenceFixed + (joined+left)*IDSize }

// AppendPresence appends a PRESENCE.
func AppendPresence(b []byte, revision uint64, flags PresenceFlags, joined, left []uint64) []byte {
	b = appendHeader(b, TypePresence, PresenceLen(len(joined), len(left))-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, revision)
	b = append(b, byte(flags))
	b = binary.BigEndian.AppendUint32(b, uint32(len(joined)))
	return AppendIDs(AppendIDs(b, joined), left)
}

// ParsePresence reads the payload of a PRESENCE. It returns an error that wraps ErrMalformed
// if the payload is too short, ends within an id, or has fewer ids than its count of joined
// clients.
func ParsePresence(payload []byte) (p Presence, err error) {
	const fixed = presenceFixed - HeaderSize
	if len(payload) < fixed || (len(payload)-fixed)%IDSize != 0 {
		return p, fmt.Errorf("%w: PRESENCE of %d bytes", ErrMalformed, len(payload))
	}
	ids := IDs(payload[fixed:])
	joined := uint64(binary.BigEndian.Uint32(payload[9:]))
	if joined > uint64(ids.Len()) {
		return p, fmt.Errorf("%w: PRESENCE of %d ids announces %d", ErrMalformed, ids.Len(), joined)
	}
	split := int(joined) * IDSize
	return Presence{
		Revision: binary.BigEndian.Uint64(payload),
		Flags:    PresenceFlags(payload[8]),
		Joined:   ids[:split:split],
		Left:     ids[split:],
	}, nil
}

func boolToByte(on bool) byte {
	if on {
		return 1
	}
	return 0
}
