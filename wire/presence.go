package wire

import (
	"encoding/binary"
	"fmt"
)

// MaxPageIDs is the largest number of ids in one LIST_PAGE or PRESENCE.
const MaxPageIDs = 8192

// ListRange asks for a page of the list: the ids above After, at most Limit of
// them and never more than MaxPageIDs.
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
// ErrMalformed unless it has its exact length.
func ParseListRange(payload []byte) (r ListRange, err error) {
	if len(payload) != ListRangeLen-HeaderSize {
		return r, fmt.Errorf("%w: LIST_RANGE of %d bytes", ErrMalformed, len(payload))
	}
	return ListRange{binary.BigEndian.Uint64(payload), binary.BigEndian.Uint32(payload[8:])}, nil
}

// ListPage is the answer to a ListRange. IDs is a view of the payload that it was
// parsed from.
type ListPage struct {
	Total uint64 // clients connected, the one who asked included
	More  bool   // there are larger ids
	IDs   IDs    // ascending, the one who asked included
}

const listPageFixed = HeaderSize + 8 + 1

// ListPageLen returns the size of a LIST_PAGE of n ids on the wire, in bytes.
func ListPageLen(n int) int { return listPageFixed + n*IDSize }

// AppendListPage appends a LIST_PAGE.
func AppendListPage(b []byte, total uint64, more bool, ids []uint64) []byte {
	b = appendHeader(b, TypeListPage, ListPageLen(len(ids))-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, total)
	return appendIDs(append(b, boolToByte(more)), ids)
}

// ParseListPage reads the payload of a LIST_PAGE. It returns an error that wraps
// ErrMalformed when that is too short or ends within an id.
func ParseListPage(payload []byte) (p ListPage, err error) {
	const fixed = listPageFixed - HeaderSize
	if len(payload) < fixed || (len(payload)-fixed)%IDSize != 0 || payload[8] > 1 {
		return p, fmt.Errorf("%w: LIST_PAGE of %d bytes", ErrMalformed, len(payload))
	}
	return ListPage{binary.BigEndian.Uint64(payload), payload[8] == 1, IDs(payload[fixed:])}, nil
}

// Watch asks to be told who comes and goes, or to be told no more.
type Watch struct {
	On    bool
	Since uint64 // the revision of the last PRESENCE; 0: begin with everybody
}

// WatchLen is the size of a WATCH on the wire, in bytes.
const WatchLen = HeaderSize + 1 + 8

// AppendWatch appends a WATCH.
func AppendWatch(b []byte, w Watch) []byte {
	b = append(appendHeader(b, TypeWatch, WatchLen-HeaderSize), boolToByte(w.On))
	return binary.BigEndian.AppendUint64(b, w.Since)
}

// ParseWatch reads the payload of a WATCH. It returns an error that wraps
// ErrMalformed unless it has its exact length.
func ParseWatch(payload []byte) (w Watch, err error) {
	if len(payload) != WatchLen-HeaderSize || payload[0] > 1 {
		return w, fmt.Errorf("%w: WATCH of %d bytes", ErrMalformed, len(payload))
	}
	return Watch{payload[0] == 1, binary.BigEndian.Uint64(payload[1:])}, nil
}

// PresenceFlags say how a PRESENCE is to be read.
type PresenceFlags uint8

// The flags of PRESENCE.
const (
	PresenceSnapshot PresenceFlags = 1 << 0 // forget what you know: this is who is there
	PresenceMore     PresenceFlags = 1 << 1 // the next PRESENCE belongs to the same change
)

// Presence tells who came and who went. Joined and Left are views of the payload
// that it was parsed from.
type Presence struct {
	Revision uint64 // what WATCH may name after this one
	Flags    PresenceFlags
	Joined   IDs
	Left     IDs
}

const presenceFixed = HeaderSize + 8 + 1 + 4

// PresenceLen returns the size of a PRESENCE on the wire, in bytes.
func PresenceLen(joined, left int) int { return presenceFixed + (joined+left)*IDSize }

// AppendPresence appends a PRESENCE.
func AppendPresence(b []byte, revision uint64, flags PresenceFlags, joined, left []uint64) []byte {
	b = appendHeader(b, TypePresence, PresenceLen(len(joined), len(left))-HeaderSize)
	b = binary.BigEndian.AppendUint64(b, revision)
	b = append(b, byte(flags))
	b = binary.BigEndian.AppendUint32(b, uint32(len(joined)))
	return appendIDs(appendIDs(b, joined), left)
}

// ParsePresence reads the payload of a PRESENCE. It returns an error that wraps
// ErrMalformed when that is too short, ends within an id, or has fewer ids than it
// announces.
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
