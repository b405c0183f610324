// Package link makes a reliable stream of bytes in each direction between two hubs, from frames
// that can be lost, doubled, delayed and reordered. It knows neither NATS nor clients, and does not
// know what the bytes mean.
//
// On the path of a message, a link stands between two hubs: the hub of the sender appends records
// to the stream, and the hub of the receivers gets the same bytes in the same order, in other
// pieces.
//
// # Streams
//
// A frame carries the offset of its first byte. What is sent is kept by reference until it is
// acknowledged. The receiver takes only the next byte of the stream. After a gap it asks for what
// is missing, and the sender goes back to the first byte that is not acknowledged. This is TCP
// without a congestion window and without selective acknowledgements: the network between hubs
// keeps the order and loses frames only when it breaks. Nor is there a receive window: the caller
// bounds what is under way.
//
// # Generations
//
// Both streams have one generation number. They end together, and begin again at offset 0 in a
// higher generation. Each link has a random number, which tells it from an earlier link between
// the same hubs. It learns the number of the other link by the first frame of that link in the
// generation, and sends it in all frames from then on. The rules are
//
//   - Break begins the next generation.
//   - A frame of a higher generation that names no receiver comes from a link that has received
//     nothing in that generation. This link begins that generation, too.
//   - A frame for another link, of this generation or a higher one, is for a predecessor of this
//     link, whose state is lost. This link begins the generation after that of the frame.
//   - A frame of a lower generation, or of another link than the first in this generation, is
//     answered and otherwise ignored. The answer makes the other side follow, by the rules above.
//
// Generations only rise, and both sides follow the higher one, so that they meet after the last
// break. Bytes of one link and generation are never taken for those of another.
package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sechlol/go-message-hub/internal/body"
)

// Errors that OnBreak gets.
var (
	// ErrPeerRestarted says that the other hub has begun a new generation.
	ErrPeerRestarted = errors.New("the other hub has begun the link anew")

	// ErrStateLost says that the other hub goes on with an earlier link of this hub.
	ErrStateLost = errors.New("this hub has begun the link anew, and the other hub did not know")

	// ErrEnded says that Run has ended.
	ErrEnded = errors.New("the link has ended")
)

// Config is the configuration of a Link. The functions are required. They are called without a lock
// that a method of Link needs, except that none of them may call Handle, or wait until Run returns.
// They should not block; Send may, for a short time.
type Config struct {
	Prefix   []byte // begins each frame; the caller cuts it off before Handle
	MaxFrame int    // maximum size of a frame with Prefix, in bytes

	// Send sends a frame to the other hub. It does not keep frame. An error says that the frame
	// was certainly not sent. The goroutine of Run calls it.
	Send func(frame []byte) error

	// OnData gets the next bytes of the other hub's stream, in any pieces. p is valid during the
	// call. An error says that the bytes make no sense: the streams break with this error. The
	// goroutine of Handle calls it, never at the same time as OnBreak or OnEstablished.
	OnData func(p []byte) error

	// OnBreak says that the streams of a generation have ended, in both directions. What was
	// appended to this side's stream from offset sent on was certainly never sent. Bytes of later
	// calls of OnData belong to a later generation. Each generation has exactly one call.
	OnBreak func(generation, sent uint64, err error)

	// OnEstablished says that the first frame of the other hub in a generation has come. It comes
	// before the first OnData of the generation.
	OnEstablished func()

	// AckDelay is how long data can wait for its acknowledgement, unless more of it comes. The
	// default is 1 ms.
	AckDelay time.Duration

	// MinRetransmit and MaxRetransmit limit how long the link waits for an answer before it sends
	// again. Between them it waits for four round trips, and twice as long each time. The
	// defaults are 200 ms and 1 s.
	MinRetransmit, MaxRetransmit time.Duration

	// SendRetry is how long the link waits after an error of Send. The default is 50 ms.
	SendRetry time.Duration

	// KeepAlive is how long the link is silent. Then it sends a frame, which the other side
	// answers, so that round trip and clock stay known. The default is 5 s.
	KeepAlive time.Duration
}

// setDefaults replaces values that are not set.
func (c *Config) setDefaults() {
	for value, preset := range map[*time.Duration]time.Duration{
		&c.AckDelay:      time.Millisecond,
		&c.MinRetransmit: 200 * time.Millisecond,
		&c.MaxRetransmit: time.Second,
		&c.SendRetry:     50 * time.Millisecond,
		&c.KeepAlive:     5 * time.Second,
	} {
		if *value == 0 {
			*value = preset
		}
	}
}

// Link is one end of a pair of streams between two hubs. Run sends, Handle receives. All methods
// can be called concurrently, except that calls of Handle come one at a time, and that Run is
// called once.
type Link struct {
	// Static after construction.
	config     Config
	maxPayload int       // of a frame, in bytes
	id         uint32    // tells this link from a predecessor; not 0
	epoch      time.Time // when Now was 0
	wake       chan struct{}
	timer      *time.Timer // signals wake

	// callbacks serializes OnData, OnBreak and OnEstablished. It is locked before mu.
	callbacks sync.Mutex

	// Guarded by mu.
	mu     sync.Mutex
	ended  bool
	events []event // callbacks that are due
	stats  Stats   // only the counts

	generation uint64
	peer       uint32 // the other link; 0: no frame of this generation has come
	queue      sendQueue
	received   uint64 // all bytes of the other side's stream below were passed to OnData
	clock      peerClock
	rtt        roundTrip
	timing     timing
	pending    pending
}

// timing says when something is due, by Link.Now. 0: it is not.
type timing struct {
	timerAt    int64 // the timer signals
	retryAt    int64 // the other side has not answered
	retryAfter int64 // how long the link waits for an answer now, in µs
	ackAt      int64 // data is acknowledged
	sendAfter  int64 // nothing is sent before, because Send has failed
	answerAt   int64 // the next stale frame can be answered
	lastSentAt int64 // the last frame was sent
	wentBackAt int64 // the sender went back, for a gap or because no answer came
	gapAt      int64 // the receiver asks for missing bytes
	gapAskedAt int64 // the receiver has asked for missing bytes
	echoAt     int64 // when pending.echo arrived
}

// pending says what the next frame is to carry.
type pending struct {
	frame    bool   // a frame is due, even without payload
	ask      bool   // with flagAsk
	echo     int64  // the latest sentAt of the other side
	gapAsked uint64 // the offset that the receiver has asked for last

	unackedFrames int // with data, since the last acknowledgement

	// The other side has not answered in time: only one frame is sent.
	probing bool
}

// New returns a link that begins in a generation; 0: in the first. Run must be called.
// New panics if MaxFrame leaves no room for a payload.
func New(config Config, generation uint64) *Link {
	config.setDefaults()
	l := &Link{
		config:     config,
		maxPayload: config.MaxFrame - len(config.Prefix) - headerSize,
		id:         1 + rand.Uint32N(1<<32-1),
		epoch:      time.Now(),
		wake:       make(chan struct{}, 1),
		generation: max(generation, 1),
	}
	if l.maxPayload <= 0 {
		panic(fmt.Sprintf("link: frames of %d bytes have no room for a payload", config.MaxFrame))
	}
	l.timer = time.AfterFunc(time.Hour, l.signal)
	l.timer.Stop()
	l.pending.frame = true
	return l
}

// Append appends head and then buf.Bytes()[from:to] to this side's stream. It copies head, and
// retains buf for as long as it needs the bytes; buf can be nil. It does not block, and does not
// send: see Flush. It returns the generation of the stream, and the offset after the last appended
// byte. After the end of Run it appends nothing, and returns 0 as the generation.
func (l *Link) Append(head []byte, buf *body.Buffer, from, to int) (generation, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return 0, 0
	}
	before, now := l.queue.end, l.Now()
	l.queue.appendCopy(head, now)
	if buf != nil {
		l.queue.appendBuffer(buf, from, to, now)
	}
	l.stats.Appended += l.queue.end - before
	return l.generation, l.queue.end
}

// Flush has what was appended sent as soon as possible.
func (l *Link) Flush() { l.signal() }

// Break ends both streams, and begins the next generation. What is appended from now on belongs to
// that one. OnBreak follows, possibly when Break has returned.
func (l *Link) Break(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begin(l.generation+1, err)
}

// Generation returns the current generation.
func (l *Link) Generation() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.generation
}

// Established reports whether a frame of the other hub has come in this generation.
func (l *Link) Established() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.peer != 0
}

// Now returns the time in µs since New, plus one. Frames carry it, so that the other hub can
// estimate it by PeerNow.
func (l *Link) Now() int64 { return 1 + time.Since(l.epoch).Microseconds() }

// PeerNow estimates what Now returns at the other hub. It returns 0 before the first frame of a
// generation.
//
// The estimate is late by the time that the fastest frame of the last 30 to 60 s was on its way, in
// which nearly all of this time is the minimum that every frame needs. For a record that carries
// the time of its Append, PeerNow at its arrival minus that time is thus how long it has waited at
// the other hub, and was on its way beyond that minimum. The estimate steps forward when a faster
// frame comes. It steps back when the fastest frame is forgotten: by as much as the minimum has
// become longer, or the clocks have drifted.
func (l *Link) PeerNow() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock.now(l.Now())
}

// begin ends the streams of the current generation, and begins another one. It is called with mu
// held.
func (l *Link) begin(generation uint64, err error) {
	if l.ended {
		return
	}
	if l.peer != 0 {
		l.stats.Breaks++
	}
	l.events = append(l.events, event{broken: true, generation: l.generation, sent: l.queue.maxSent, err: err})
	l.generation, l.peer, l.received = generation, 0, 0
	l.queue.clear()
	l.clock, l.rtt = peerClock{}, roundTrip{}
	l.timing = timing{timerAt: l.timing.timerAt, sendAfter: l.timing.sendAfter, lastSentAt: l.timing.lastSentAt}
	l.pending = pending{frame: true}
	l.signal()
}

// event is a callback that is due.
type event struct {
	broken           bool // OnBreak; otherwise OnEstablished
	generation, sent uint64
	err              error
}

// dispatch calls what is due. It is called with callbacks held.
func (l *Link) dispatch() {
	for {
		l.mu.Lock()
		if len(l.events) == 0 {
			l.events = nil
			l.mu.Unlock()
			return
		}
		e := l.events[0]
		l.events = l.events[1:]
		l.mu.Unlock()
		if e.broken {
			l.config.OnBreak(e.generation, e.sent, e.err)
		} else {
			l.config.OnEstablished()
		}
	}
}

// signal wakes Run.
func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
