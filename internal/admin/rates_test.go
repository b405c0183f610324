package admin

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// TestRateSampler checks rates in virtual time, and that sampling stops without requests.
func TestRateSampler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		advance := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		f := &fakeHub{clients: []hub.ClientInfo{{ID: 1, Since: time.Now()}, {ID: 2, Since: time.Now()}}}
		r := newRateSampler(f.ClientsAfter, 5*time.Second)
		defer r.close()
		advance(time.Hour)
		if f.calls != 0 {
			t.Fatalf("%d samples before the first request", f.calls)
		}
		r.requestSampling()
		synctest.Wait()
		if got, ok := r.rateOf(&f.clients[0]); ok {
			t.Errorf("after one sample: %+v", got)
		}
		for range 3 {
			f.update(0, func(c *hub.ClientInfo) {
				c.MessagesIn += 50
				c.MessagesOut += 5
				c.BytesIn += 5000
				c.BytesOut += 500
			})
			advance(5 * time.Second)
			if got, ok := r.rateOf(&f.clients[0]); !ok || got != (rate{10, 1, 1000, 100}) {
				t.Errorf("got %+v, %t", got, ok)
			}
			if got, ok := r.rateOf(&f.clients[1]); !ok || got != (rate{}) {
				t.Errorf("idle client: %+v, %t", got, ok)
			}
		}

		// The client resumes on a new connection, whose counters begin at 0.
		f.update(0, func(c *hub.ClientInfo) { *c = hub.ClientInfo{ID: 1, Since: time.Now()} })
		if got, ok := r.rateOf(&f.clients[0]); ok {
			t.Errorf("connection that is in no sample: %+v", got)
		}
		advance(5 * time.Second)
		if got, ok := r.rateOf(&f.clients[0]); ok {
			t.Errorf("connection that is in one sample: %+v", got)
		}

		advance(time.Hour)
		calls := f.calls
		advance(time.Hour)
		if f.calls != calls || len(r.latest.clients) != 0 {
			t.Errorf("%d samples and %d clients in memory without requests", f.calls-calls, len(r.latest.clients))
		}
		r.requestSampling()
		advance(11 * time.Second)
		if _, ok := r.rateOf(&f.clients[0]); !ok {
			t.Error("no rates after another request")
		}
		r.close()
		r.requestSampling()
		advance(time.Hour)
	})
}
