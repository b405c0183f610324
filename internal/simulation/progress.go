package simulation

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/sechlol/go-message-hub/internal/stats"
)

// display shows how far a run is. It is used by one goroutine.
type display interface {
	show(now sample)
	end(last sample)
}

// newDisplay returns the display that c asks for. What it started has ended when
// its end returns.
func newDisplay(c Config, plan Plan) display {
	switch {
	case !c.ShowStats || plan.Deliveries == 0:
		return silence{}
	case c.Terminal:
		return newBars(c, plan)
	default:
		now := time.Now()
		return &lines{logger: c.Logger, plan: plan, began: now, printed: now}
	}
}

// silence shows nothing.
type silence struct{}

func (silence) show(sample) {}
func (silence) end(sample)  {}

// lineEvery is how often a run that has no terminal says how far it is.
const lineEvery = time.Second

// lines logs one line a second.
type lines struct {
	logger         *slog.Logger
	plan           Plan
	began, printed time.Time
}

func (l *lines) show(now sample) {
	if now.at.Sub(l.printed) < lineEvery {
		return
	}
	l.printed = now.at
	elapsed := now.at.Sub(l.began)
	l.logger.Info("simulating",
		"sent", now.sent, "sends", l.plan.Sends,
		"received", now.received, "deliveries", l.plan.Deliveries,
		"per_second", int64(stats.Rate(now.received, elapsed)),
		"left", timeLeft(now.received, l.plan.Deliveries, elapsed))
}

func (l *lines) end(sample) {}

// bars draws two bars on a terminal.
type bars struct {
	container      *mpb.Progress
	sent, received *mpb.Bar
}

func newBars(c Config, plan Plan) *bars {
	// Its goroutines end in the Wait of end. The caller has looked whether it is a
	// terminal, and Out may be a wrapper in which mpb would not see that.
	container := mpb.New(mpb.WithOutput(c.Out), mpb.WithAutoRefresh())
	began := time.Now()
	return &bars{
		container: container,
		sent:      newBar(container, "Sent", plan.Sends, began),
		received:  newBar(container, "Received", plan.Deliveries, began),
	}
}

func newBar(container *mpb.Progress, name string, total uint64, began time.Time) *mpb.Bar {
	count := func(s decor.Statistics) string {
		return fmt.Sprintf("%s of %s", humanize.Comma(s.Current), humanize.Comma(s.Total))
	}
	pace := func(s decor.Statistics) string {
		elapsed := time.Since(began)
		rate := stats.Rate(uint64(s.Current), elapsed)
		return fmt.Sprintf(" %s/s, %s left", humanize.Comma(int64(rate)),
			timeLeft(uint64(s.Current), uint64(s.Total), elapsed))
	}
	return container.AddBar(int64(total),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.Any(count, decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.OnComplete(decor.Any(pace), " done")))
}

func (b *bars) show(now sample) {
	b.sent.SetCurrent(int64(now.sent))
	b.received.SetCurrent(int64(now.received))
}

// end draws the last state. A bar that is not full stays as it is.
func (b *bars) end(last sample) {
	b.show(last)
	for _, bar := range []*mpb.Bar{b.sent, b.received} {
		bar.Abort(false)
	}
	b.container.Wait()
}

// timeLeft says how long the rest takes at the pace so far.
func timeLeft(done, total uint64, elapsed time.Duration) string {
	if done == 0 {
		return "unknown"
	}
	left := max(0, float64(total)/float64(done)-1) * float64(elapsed)
	if left > float64(maxTimeLeft) {
		return "more than a month"
	}
	return time.Duration(left).Round(time.Second).String()
}

// maxTimeLeft is beyond what anybody waits for, and far from where a Duration
// overflows.
const maxTimeLeft = 31 * 24 * time.Hour
