package socket

import "time"

// monotime is a point in time, in nanoseconds since the start of the program, by the monotonic
// clock. It has a third of the size of a time.Time, of which an idle connection would hold
// several. 0 means no time.
type monotime int64

var programStart = time.Now()

// now returns the current time, which is above 0.
func now() monotime { return monotime(time.Since(programStart)) }

// add returns the time m + d.
func (m monotime) add(d time.Duration) monotime { return m + monotime(d) }

// until returns the duration until m.
func (m monotime) until() time.Duration { return time.Duration(m - now()) }
