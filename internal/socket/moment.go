package socket

import "time"

// moment is a point of time in ns since the program's start, by the clock that no one sets: a third
// of a time.Time, of which an idle connection would hold several. 0 is none.
type moment int64

var programStart = time.Now()

// now returns the present moment. It is never 0 again.
func now() moment { return moment(time.Since(programStart)) }

// after returns the moment that comes d later.
func (m moment) after(d time.Duration) moment { return m + moment(d) }

// until returns how long it takes until m.
func (m moment) until() time.Duration { return time.Duration(m - now()) }
