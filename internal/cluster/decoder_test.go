package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// testStream returns the bytes of a few records, with and without heads and bodies.
func testStream() (data []byte, records []testRecord) {
	records = []testRecord{
		{recordBatch, bytes.Repeat([]byte{1}, batchHeadSize), []byte("body")},
		{recordQueued, make([]byte, queuedHeadSize), nil},
		{200, nil, nil}, // unknown
		{recordFates, bytes.Repeat([]byte{4}, 20), bytes.Repeat([]byte{5}, 300)},
		{recordClients, nil, []byte{6}},
	}
	for _, r := range records {
		data = appendRecordHeader(data, r.recordType, len(r.head), len(r.body))
		data = append(append(data, r.head...), r.body...)
	}
	return data, records
}

func wantRecords(t *testing.T, got, want []testRecord) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i, r := range got {
		if r.recordType != want[i].recordType || !bytes.Equal(r.head, want[i].head) || !bytes.Equal(r.body, want[i].body) {
			t.Errorf("record %d is %+v, want %+v", i, r, want[i])
		}
	}
}

// TestDecoder_AnyPieces cuts the stream at every place, and into single bytes.
func TestDecoder_AnyPieces(t *testing.T) {
	data, want := testStream()
	for cut := range len(data) + 1 {
		var l recordLog
		d := decoder{handler: &l}
		if err := errors.Join(d.write(data[:cut]), d.write(data[cut:])); err != nil {
			t.Fatal(err)
		}
		wantRecords(t, l.records, want)
	}
	var l recordLog
	d := decoder{handler: &l}
	for i := range data {
		if err := d.write(data[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	wantRecords(t, l.records, want)
}

// TestDecoder_Prefix has each prefix of the stream give the records that are in it whole, and no
// error.
func TestDecoder_Prefix(t *testing.T) {
	data, all := testStream()
	for n := range len(data) {
		var l recordLog
		d := decoder{handler: &l}
		if err := d.write(data[:n]); err != nil {
			t.Fatal(err)
		}
		whole, end := 0, 0
		for _, r := range all {
			if end += recordHeaderSize + len(r.head) + len(r.body); end <= n {
				whole++
			}
		}
		wantRecords(t, l.records, all[:whole])
		d.reset()
		l.records = nil
		if err := d.write(data); err != nil {
			t.Fatalf("after a reset at %d: %v", n, err)
		}
		wantRecords(t, l.records, all)
	}
}

// TestDecoder_LengthsAreNotBelieved checks the limits before any memory is drawn.
func TestDecoder_LengthsAreNotBelieved(t *testing.T) {
	for name, header := range map[string][]byte{
		"head": appendRecordHeader(nil, recordBatch, maxHead+1, 0),
		"body": appendRecordHeader(nil, recordBatch, 0, maxRecordBody+1),
		"both": binary.BigEndian.AppendUint32([]byte{1, 0xff, 0xff}, 0xffffffff),
	} {
		d := decoder{handler: new(recordLog)}
		if err := d.write(header); !errors.Is(err, errNonsense) {
			t.Errorf("%s: %v, want an error", name, err)
		}
	}
}

// failingHandler fails at the begin or the end of the second record.
type failingHandler struct {
	recordLog
	atBegin bool
}

var errTest = errors.New("test")

func (h *failingHandler) beginRecord(t recordType, head []byte, size int) ([]byte, error) {
	if h.atBegin && len(h.records) == 1 {
		return nil, errTest
	}
	return h.recordLog.beginRecord(t, head, size)
}

func (h *failingHandler) endRecord(t recordType, head, body []byte) error {
	if !h.atBegin && len(h.records) == 1 {
		return errTest
	}
	return h.recordLog.endRecord(t, head, body)
}

func TestDecoder_ErrorsOfTheHandler(t *testing.T) {
	data, want := testStream()
	for _, atBegin := range []bool{true, false} {
		h := &failingHandler{atBegin: atBegin}
		d := decoder{handler: h}
		if err := d.write(data); !errors.Is(err, errTest) {
			t.Errorf("%v, want the error of the handler", err)
		}
		wantRecords(t, h.records, want[:1])
		d.reset()
		d.handler = &h.recordLog
		if err := d.write(data); err != nil {
			t.Error(err)
		}
		wantRecords(t, h.records, append(want[:1:1], want...))
	}
}
