package wire

// SkipLen is the size of a SKIP on the wire, in bytes.
const SkipLen = HeaderSize

// AppendSkip appends a SKIP: a counted frame that stands for one that was sent before, and is not
// sent again: its time is up, the client has it, or it is given up. It has no payload, and whatever
// comes in it is ignored.
func AppendSkip(b []byte) []byte { return appendHeader(b, TypeSkip, 0) }
