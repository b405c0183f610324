package hub_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

func TestDropReasons_EachHasItsText(t *testing.T) { checkTexts(t, hub.DropReasons(), "reason 200") }

// TestDropReasons_Labels_AreStable compares the texts with the label values that dashboards and
// alerts select.
func TestDropReasons_Labels_AreStable(t *testing.T) {
	const want = "[unknown forbidden gone too large unreachable]"
	if got := fmt.Sprint(hub.DropReasons()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestDropReasons_WriteTo_RowForEach checks the rows of the printed statistics: all of them if
// all reasons occurred, and those of unknown and gone if none did.
func TestDropReasons_WriteTo_RowForEach(t *testing.T) {
	all := make(map[hub.DropReason]uint64)
	for _, reason := range hub.DropReasons() {
		all[reason] = 10 + uint64(reason)
	}
	for _, test := range []struct {
		dropped map[hub.DropReason]uint64
		want    string
	}{
		{nil, `Not Delivered:                 0
  unknown receiver:            0
  receiver disconnected:       0
Frames Ignored:`},
		{all, `Not Delivered:                 60
  unknown receiver:            10
  forbidden:                   11
  receiver disconnected:       12
  too large for the receiver:  13
  hub unreachable:             14
Frames Ignored:`},
	} {
		var text strings.Builder
		if _, err := (hub.Stats{Dropped: test.dropped}).WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), test.want) {
			t.Errorf("got\n%s\nwant\n%s", &text, test.want)
		}
	}
}

// TestDropReasons_NotOffered_HaveTheirFate sends one message to a receiver that does not exist,
// one that is forbidden and one with a lower limit. Each is counted by its reason and reported
// by the fate of that reason.
func TestDropReasons_NotOffered_HaveTheirFate(t *testing.T) {
	const unknown, forbidden = 999, 777
	h := start(t, hub.Config{Authenticate: func(hub.AuthRequest) (*hub.Permissions, error) {
		return &hub.Permissions{CanSend: func(id uint64) bool { return id != forbidden }}, nil
	}})
	sender, small := h.connectV2(t), h.connectMaxBody(t, 10)
	seq := sender.sendMessage(make([]byte, 11), levelOptions(wire.LevelWritten), 0, unknown, forbidden, small.id)
	sender.expectReport(seq, wire.FateUnknown, wire.FateRefused, wire.FateTooLarge)
	want := map[hub.DropReason]uint64{hub.DropUnknown: 1, hub.DropForbidden: 1, hub.DropTooLarge: 1}
	eventually(t, "counted", func() bool { return fmt.Sprint(h.Stats().Dropped) == fmt.Sprint(want) })
}
