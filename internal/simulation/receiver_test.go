package simulation

import (
	"fmt"
	"testing"
	"time"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// BenchmarkReceiver_CheckBody measures the work of a receiver for each message in order,
// including the clock and the latency.
func BenchmarkReceiver_CheckBody(b *testing.B) {
	for _, oneIn := range []int{1, sampleOneIn} {
		for _, verify := range []VerifyMode{VerifyOff, VerifyHeader, VerifyFull} {
			for _, size := range []int{128, 10240} {
				b.Run(fmt.Sprintf("%v/size=%d/one-in=%d", verify, size, oneIn), func(b *testing.B) {
					benchmarkCheckBody(b, verify, size, oneIn)
				})
			}
		}
	}
}

func benchmarkCheckBody(b *testing.B, verify VerifyMode, size, oneIn int) {
	const clients, messages = 100, 16
	plan := Config{Size: size, Clients: clients, Messages: messages}.Plan()
	pattern := newPattern(size)
	r := &receiver{
		epoch: time.Now().Add(-time.Second), oneIn: oneIn,
		checker: newChecker(plan, pattern, verify, 0), latency: stats.NewLatency(),
	}
	var bodies [][]byte
	for number := range uint32(messages) {
		for sender := 1; sender < clients; sender++ {
			body := make([]byte, size)
			pattern.fill(body, newHeader(sender, number, time.Duration(number)))
			bodies = append(bodies, body)
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == len(bodies) {
			i = 0
			clear(r.checker.next)
		}
		r.checkBody(bodies[i])
		i++
	}
	if p := r.checker.problems(nil, plan.deliveriesPerReceiver()); verify != VerifyOff && p[2].Count+p[3].Count > 0 {
		b.Errorf("found %v", p)
	}
}
