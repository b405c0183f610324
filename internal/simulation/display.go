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

// display shows the progress of a run. It is used by one goroutine.
type display interface {
	update(now progress)
	finish(last progress)
}

// newDisplay returns the display that c configures. Goroutines that newDisplay starts end
// before finish returns.
func newDisplay(c Config, plan Plan) display {
	switch {
	case !c.ShowStats || plan.Deliveries == 0:
		return noDisplay{}
	case c.IsTerminal:
		return newBarDisplay(c, plan)
	default:
		now := time.Now()
		return &logDisplay{logger: c.Logger, plan: plan, start: now, lastLogged: now}
	}
}

// noDisplay shows nothing.
type noDisplay struct{}

func (noDisplay) update(progress) {}
func (noDisplay) finish(progress) {}

// logInterval is the interval at which a run without a terminal logs its progress.
const logInterval = time.Second

// logDisplay logs one line a second.
type logDisplay struct {
	logger            *slog.Logger
	plan              Plan
	start, lastLogged time.Time
}

func (d *logDisplay) update(p progress) {
	if p.at.Sub(d.lastLogged) < logInterval {
		return
	}
	d.lastLogged = p.at
	elapsed := p.at.Sub(d.start)
	d.logger.Info("simulating",
		"sent", p.sent, "sends", d.plan.Sends,
		"received", p.received, "deliveries", d.plan.Deliveries,
		"per_second", int64(stats.Rate(p.received, elapsed)),
		"left", timeLeft(p.received, d.plan.Deliveries, elapsed))
}

func (d *logDisplay) finish(progress) {}

// barDisplay draws two progress bars on a terminal.
type barDisplay struct {
	container      *mpb.Progress
	sent, received *mpb.Bar
}

func newBarDisplay(c Config, plan Plan) *barDisplay {
	// The goroutines of mpb end in the call of Wait in finish. Auto refresh is set explicitly
	// because the caller has checked that Out is a terminal, and mpb cannot detect that if Out is
	// a wrapper.
	container := mpb.New(mpb.WithOutput(c.Out), mpb.WithAutoRefresh())
	start := time.Now()
	return &barDisplay{
		container: container,
		sent:      newBar(container, "Sent", plan.Sends, start),
		received:  newBar(container, "Received", plan.Deliveries, start),
	}
}

func newBar(container *mpb.Progress, name string, total uint64, start time.Time) *mpb.Bar {
	count := func(s decor.Statistics) string {
		return fmt.Sprintf("%s of %s", humanize.Comma(s.Current), humanize.Comma(s.Total))
	}
	speed := func(s decor.Statistics) string {
		elapsed := time.Since(start)
		rate := stats.Rate(uint64(s.Current), elapsed)
		return fmt.Sprintf(" %s/s, %s left", humanize.Comma(int64(rate)),
			timeLeft(uint64(s.Current), uint64(s.Total), elapsed))
	}
	return container.AddBar(int64(total),
		mpb.PrependDecorators(decor.Name(name, decor.WCSyncSpaceR), decor.Any(count, decor.WCSyncSpace)),
		mpb.AppendDecorators(decor.OnComplete(decor.Any(speed), " done")))
}

func (d *barDisplay) update(p progress) {
	d.sent.SetCurrent(int64(p.sent))
	d.received.SetCurrent(int64(p.received))
}

// finish draws the final state. A bar that is not full remains as it is.
func (d *barDisplay) finish(p progress) {
	d.update(p)
	for _, bar := range []*mpb.Bar{d.sent, d.received} {
		bar.Abort(false)
	}
	d.container.Wait()
}

// timeLeft estimates the remaining time from the average rate until now.
func timeLeft(done, total uint64, elapsed time.Duration) string {
	if done == 0 {
		return "unknown"
	}
	remaining := max(0, float64(total)/float64(done)-1) * float64(elapsed)
	if remaining > float64(maxTimeLeft) {
		return "more than a month"
	}
	return time.Duration(remaining).Round(time.Second).String()
}

// maxTimeLeft is the longest estimate that timeLeft returns as a number. It is far below the
// value at which a Duration overflows.
const maxTimeLeft = 31 * 24 * time.Hour
