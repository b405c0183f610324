package relay

import (
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/wire"
)

// TestOptions_Tracked_Unbatchable checks which options need a Tracker, and which a batch of their
// own.
func TestOptions_Tracked_Unbatchable(t *testing.T) {
	expiring := Options{IsSend: true, Expires: 1}
	for name, tt := range map[string]struct {
		opts                 Options
		tracked, unbatchable bool
		flags                wire.DeliverFlags
	}{
		"version 1":   {},
		"no option":   {opts: levelOptions(wire.LevelNone)},
		"expires":     {opts: expiring, tracked: true},
		"written":     {opts: levelOptions(wire.LevelWritten), tracked: true},
		"received":    {opts: levelOptions(wire.LevelReceived), tracked: true, flags: wire.DeliverWantAck},
		"processed":   {levelOptions(wire.LevelProcessed), true, true, wire.DeliverWantAck | wire.DeliverWantVerdict},
		"reject":      {opts: sendOptions(wire.LevelNone, wire.OverflowReject), tracked: true},
		"drop oldest": {opts: sendOptions(wire.LevelNone, wire.OverflowDropOldest), tracked: true, unbatchable: true},
	} {
		o := tt.opts
		if o.Tracked() != tt.tracked || o.Unbatchable() != tt.unbatchable || o.DeliverFlags() != tt.flags {
			t.Errorf("%s: tracked %t, unbatchable %t, flags %b", name, o.Tracked(), o.Unbatchable(), o.DeliverFlags())
		}
	}
}

// TestOptions_reportTimeout_IsLimited checks the report timeout that a message names against the
// settings and its time to live.
func TestOptions_reportTimeout_IsLimited(t *testing.T) {
	config := &Config{ReportTimeout: time.Minute, MaxReportTimeout: time.Hour}
	for name, tt := range map[string]struct{ named, ttl, want time.Duration }{
		"none":                        {0, 0, time.Minute},
		"less":                        {time.Second, 0, time.Second},
		"more":                        {30 * time.Minute, 0, 30 * time.Minute},
		"more than the maximum":       {2 * time.Hour, 0, time.Hour},
		"a shorter time to live":      {30 * time.Minute, 10 * time.Second, 10 * time.Second},
		"a longer time to live":       {time.Second, 10 * time.Second, time.Second},
		"a time to live of the past":  {0, -time.Second, -time.Second},
		"none, a longer time to live": {0, time.Hour, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := Options{Wire: wire.Options(0).WithReportTimeout(tt.named)}
			if tt.ttl != 0 {
				o.Expires = time.Now().Add(tt.ttl).UnixNano()
			}
			if got := o.reportTimeout(config); got != tt.want {
				t.Errorf("%s: a report timeout of %v, want %v", name, got, tt.want)
			}
		})
	}
}

// TestRelay_Fates_WithoutZeros counts every fate a different number of times, but for one.
func TestRelay_Fates_WithoutZeros(t *testing.T) {
	tr := newTestRelay(t, nil)
	want := map[wire.Fate]uint64{}
	for i, fate := range wire.Fates() {
		if fate != wire.FateStored {
			want[fate] = uint64(i + 1)
			tr.countFate(fate, i)
			tr.countFate(fate, 1)
		}
	}
	if got := tr.Fates(); !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}
