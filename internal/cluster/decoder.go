package cluster

import "encoding/binary"

// decoder cuts the stream of another hub into records. The callbacks of the link own it.
type decoder struct {
	handler recordHandler

	partial []byte // the start of a record without its body, while it has not come whole
	body    []byte // where the body of the current record goes; nil: between two records
	filled  int    // bytes of body that have come
	current recordType
	head    []byte // of the current record, in partial
}

// recordHandler handles the records of a stream, in order. An error says that the stream makes no
// sense.
type recordHandler interface {
	// beginRecord is called when the head of a record has come. It returns where its body goes,
	// of that length. head is valid until endRecord has returned.
	beginRecord(t recordType, head []byte, body int) ([]byte, error)

	// endRecord is called when the body has come as well.
	endRecord(t recordType, head, body []byte) error
}

// write handles the next bytes of the stream.
func (d *decoder) write(p []byte) error {
	for len(p) > 0 || d.body != nil && d.filled == len(d.body) {
		if d.body == nil {
			n, err := d.readHead(p)
			if err != nil {
				return err
			}
			p = p[n:]
			continue
		}
		n := copy(d.body[d.filled:], p)
		d.filled += n
		p = p[n:]
		if d.filled < len(d.body) {
			return nil
		}
		body := d.body
		d.body = nil
		if err := d.handler.endRecord(d.current, d.head, body); err != nil {
			return err
		}
		d.partial = d.partial[:0]
	}
	return nil
}

// readHead takes bytes of the header and head of the next record from p, and returns their number.
// When all have come, it sets body.
func (d *decoder) readHead(p []byte) (n int, err error) {
	need := recordHeaderSize
	if len(d.partial) >= recordHeaderSize {
		need = d.headEnd()
	}
	n = min(need-len(d.partial), len(p))
	d.partial = append(d.partial, p[:n]...)
	if len(d.partial) < need {
		return n, nil
	}
	end := d.headEnd()
	if end-recordHeaderSize > maxHead {
		return n, nonsense("record of type %d with a head of %d bytes", d.partial[0], end-recordHeaderSize)
	}
	if len(d.partial) < end {
		return n, nil
	}
	d.current, d.head, d.filled = recordType(d.partial[0]), d.partial[recordHeaderSize:end], 0
	size := binary.BigEndian.Uint32(d.partial[3:])
	if size > maxRecordBody {
		return n, nonsense("record of type %d with a body of %d bytes", d.current, size)
	}
	d.body, err = d.handler.beginRecord(d.current, d.head, int(size))
	if d.body == nil {
		d.body = []byte{}
	}
	return n, err
}

// headEnd returns where the head of the record in partial ends.
func (d *decoder) headEnd() int {
	return recordHeaderSize + int(binary.BigEndian.Uint16(d.partial[1:]))
}

// reset forgets a partial record.
func (d *decoder) reset() { d.partial, d.body = d.partial[:0], nil }
