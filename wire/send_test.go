package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestOptions_ReportTimeout checks that a report timeout is rounded up and does not change the
// other options.
func TestOptions_ReportTimeout(t *testing.T) {
	for _, tt := range []struct{ d, want time.Duration }{
		{0, 0},
		{-time.Second, 0},
		{1, 100 * time.Millisecond},
		{100 * time.Millisecond, 100 * time.Millisecond},
		{101 * time.Millisecond, 200 * time.Millisecond},
		{75 * time.Second, 75 * time.Second},
		{24 * time.Hour, 24 * time.Hour},
		{wire.MaxReportTimeout, wire.MaxReportTimeout},
		{1<<63 - 1, wire.MaxReportTimeout},
	} {
		for _, before := range []wire.Options{0, wire.MakeOptions(0, 0).WithReportTimeout(time.Hour)} {
			o := before | wire.MakeOptions(wire.LevelProcessed, wire.OverflowDropOldest)
			o = o.WithReportTimeout(tt.d)
			if got := o.ReportTimeout(); got != tt.want || o.Level() != wire.LevelProcessed || o.Overflow() != wire.OverflowDropOldest {
				t.Errorf("%v: %#x has timeout %v, level %d, overflow %d, want timeout %v", tt.d, o, got, o.Level(), o.Overflow(), tt.want)
			}
		}
	}
}

// TestParseSend_UnknownOptions checks that ParseSend rejects each bit without a meaning, and a
// fourth overflow policy.
func TestParseSend_UnknownOptions(t *testing.T) {
	for bit := range 32 {
		_, payload := wire.Split(wire.AppendSend(nil, 1, wire.Options(1)<<bit, 0, []uint64{3}, nil))
		_, err := wire.ParseSend(payload)
		if known := bit < 4 || bit >= 12; (err == nil) != known || !known && !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	_, payload := wire.Split(wire.AppendSend(nil, 1, 0b1100, 0, nil, nil))
	if _, err := wire.ParseSend(payload); !errors.Is(err, wire.ErrMalformed) {
		t.Errorf("a fourth overflow policy: %v", err)
	}
}

func TestPutSendOptions(t *testing.T) {
	frame := wire.AppendSend(nil, 1, 0, 7, []uint64{3}, []byte("body"))
	o := wire.MakeOptions(wire.LevelProcessed, wire.OverflowReject).WithReportTimeout(time.Minute)
	wire.PutSendOptions(frame, o)
	if want := wire.AppendSend(nil, 1, o, 7, []uint64{3}, []byte("body")); !bytes.Equal(frame, want) {
		t.Errorf("%x, want %x", frame, want)
	}
	if got := binary.BigEndian.Uint32(frame[13:]); got != uint32(o) {
		t.Errorf("options on the wire are %#x, want %#x", got, o)
	}
}
