package wire

// SkipLen is the size of a SKIP on the wire, in bytes.
const SkipLen = HeaderSize

// AppendSkip appends a SKIP. A SKIP is a reliable frame that replaces a reliable frame of an
// earlier connection which the hub does not retransmit, and keeps the count of reliable frames
// in step. The hub does not retransmit a frame whose TTL has ended, that the client has read
// whole (Hello.Read), whose body the client no longer accepts, or that the hub has given up
// (FateUnreachable). A SKIP has no payload. The client ignores a payload.
func AppendSkip(b []byte) []byte { return appendHeader(b, TypeSkip, 0) }
