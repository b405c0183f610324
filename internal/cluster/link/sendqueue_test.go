package link

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/sechlol/go-message-hub/internal/body"
)

// queueModel is a sendQueue, and the same as one slice.
type queueModel struct {
	q       sendQueue
	stream  []byte
	acked   int
	next    int
	maxSent int
	buffers []*body.Buffer
}

func (m *queueModel) appendCopy(t *rapid.T) {
	p := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "p")
	for range rapid.IntRange(1, 100).Draw(t, "times") {
		m.q.appendCopy(p, 1)
		m.stream = append(m.stream, p...)
	}
}

func (m *queueModel) appendBuffer(t *rapid.T) {
	size := rapid.SampledFrom([]int{1, maxCopy, maxCopy + 1, 5000, 70_000}).Draw(t, "size")
	buffer := body.Get(size)
	m.buffers = append(m.buffers, buffer)
	for i := range buffer.Bytes() {
		buffer.Bytes()[i] = byte(len(m.stream) + i*i)
	}
	from := rapid.IntRange(0, size).Draw(t, "from")
	m.q.appendBuffer(buffer, from, size, 1)
	m.stream = append(m.stream, buffer.Bytes()[from:size]...)
}

func (m *queueModel) send(t *rapid.T) {
	n := min(rapid.SampledFrom([]int{1, 100, blockSize, 64 << 10}).Draw(t, "n"), len(m.stream)-m.next)
	if got, want := m.q.send(nil, n), m.stream[m.next:m.next+n]; !bytes.Equal(got, want) {
		t.Fatalf("%d bytes from %d differ", n, m.next)
	}
	m.next += n
	m.maxSent = max(m.maxSent, m.next)
}

func (m *queueModel) unsend(t *rapid.T) {
	next, maxSent := m.next, m.maxSent
	m.send(t)
	m.q.unsend(uint64(next), uint64(maxSent))
	m.next, m.maxSent = next, maxSent
}

func (m *queueModel) ack(t *rapid.T) {
	m.acked = rapid.IntRange(m.acked, m.maxSent).Draw(t, "ack")
	m.next = max(m.next, m.acked)
	m.q.ack(uint64(m.acked))
}

func (m *queueModel) seek(t *rapid.T) {
	m.next = rapid.IntRange(m.acked, m.maxSent).Draw(t, "seek")
	m.q.seek(uint64(m.next))
}

func (m *queueModel) clear(t *rapid.T) {
	block := m.q.block
	if block != nil {
		block.Retain()
		defer block.Release()
	}
	m.q.clear()
	m.stream, m.acked, m.next, m.maxSent = nil, 0, 0, 0
	if block != nil && block.Shared() {
		t.Error("a block is still retained")
	}
}

func (m *queueModel) check(t *rapid.T) {
	q := &m.q
	if q.acked != uint64(m.acked) || q.next != uint64(m.next) || q.maxSent != uint64(m.maxSent) || q.end != uint64(len(m.stream)) {
		t.Fatalf("offsets are %d, %d, %d, %d, want %d, %d, %d, %d", q.acked, q.next, q.maxSent, q.end, m.acked, m.next, m.maxSent, len(m.stream))
	}
	if q.outstanding() != (m.acked < m.maxSent) {
		t.Fatalf("outstanding is %v", q.outstanding())
	}
	if empty := m.acked == len(m.stream); empty && q.first != q.last || q.lag(3) != 0 == empty {
		t.Fatalf("of %d bytes, %d are acknowledged: %d segments, lag %d", len(m.stream), m.acked, q.last-q.first, q.lag(3))
	}
}

func TestSendQueue_MatchesModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m queueModel
		t.Repeat(map[string]func(*rapid.T){
			"appendCopy":   m.appendCopy,
			"appendBuffer": m.appendBuffer,
			"send":         m.send,
			"send2":        m.send,
			"unsend":       m.unsend,
			"ack":          m.ack,
			"seek":         m.seek,
			"clear":        m.clear,
			"":             m.check,
		})
		m.clear(t)
		for _, buffer := range m.buffers {
			if buffer.Shared() {
				t.Error("a buffer is still retained")
			}
			buffer.Release()
		}
	})
}

// TestSendQueue_Heads_ShareBlocks appends small heads between large buffers.
func TestSendQueue_Heads_ShareBlocks(t *testing.T) {
	var q sendQueue
	large := body.Get(2 * maxCopy)
	defer large.Release()
	blocks := make(map[*body.Buffer]bool)
	const records, head = 100, blockSize / 50
	for range records {
		q.appendCopy(make([]byte, head), 1)
		q.appendBuffer(large, 0, 2*maxCopy, 1)
		blocks[q.at(q.last-2).buffer] = true
	}
	if len(blocks) != 2 && len(blocks) != 3 {
		t.Errorf("%d heads of %d bytes are in %d blocks", records, head, len(blocks))
	}
	q.send(nil, int(q.end))
	q.ack(q.end)
	if q.block != nil || large.Shared() {
		t.Errorf("an empty queue holds a block: %v, a buffer: %v", q.block != nil, large.Shared())
	}
}
