package simulation

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// endedRun returns a run of two clients that was due to start at 1 s and whose last message
// arrived at 3 s. Its last progress was at 5 s.
func endedRun(cause error) *run {
	r := newRun(Config{Size: 200, Clients: 2, Messages: 3})
	r.senders = []*sender{{started: true, firstDue: 2 * time.Second}, {started: true, firstDue: time.Second}}
	r.receivers[0].lastArrival, r.receivers[1].lastArrival = 3*time.Second, 2*time.Second
	r.lastProgress.at = r.epoch.Add(5 * time.Second)
	r.outcome.cause = cause
	return r
}

func TestRun_TransferTime(t *testing.T) {
	if got := endedRun(nil).transferTime(); got != 2*time.Second {
		t.Errorf("complete: %v, want 2s, from the first due message to the last arrival", got)
	}
	if got := endedRun(errors.New("stalled")).transferTime(); got != 4*time.Second {
		t.Errorf("incomplete: %v, want 4s, until the last progress", got)
	}
	r := endedRun(nil)
	r.senders[0].started, r.senders[1].started = false, false
	if got := r.transferTime(); got != 0 {
		t.Errorf("nothing sent: %v, want 0", got)
	}
}

func TestRun_Notes(t *testing.T) {
	for _, test := range []struct {
		config Config
		want   string // "" for no note
	}{
		{Config{Size: 200, Clients: 1, Messages: 1, Verify: VerifyOff}, ""}, // nothing to deliver
		{Config{Size: 200, Clients: 2, Messages: 1}, ""},
		{Config{Size: 200, Clients: 2, Messages: 1, Verify: VerifyOff}, "verification was off"},
		{Config{Size: headerSize - 1, Clients: 2, Messages: 1}, "have no header"},
		{Config{Size: 200, Clients: 100, Messages: 100}, "one delivery in 8"},
	} {
		notes := strings.Join(newRun(test.config).notes(), "; ")
		if test.want == "" && notes != "" || !strings.Contains(notes, test.want) {
			t.Errorf("%+v: %q, want %q", test.config, notes, test.want)
		}
	}
}
