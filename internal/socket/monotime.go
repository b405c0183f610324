package socket

import "time"

// monotime is a point of time in ns since the program's start, by the clock that no one sets: a third
// of a time.Time, of which an idle connection would hold several. 0 is none.
type monotime int64

var programStart = time.Now()

// now returns the present moment. It is never 0 again.
func now() monotime { return monotime(time.Since(programStart)) }

// add returns the moment that comes d later.
func (m monotime) add(d time.Duration) monotime { return m + monotime(d) }

// until returns how long it takes until m.
func (m monotime) until() time.Duration { return time.Duration(m - now()) }
