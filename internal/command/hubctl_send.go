package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// sendTimeout is the default of hubctl send -timeout. A hub that does not know how long the report
// may wait reports after a time of its own, and it is the fates that are known by then which
// the user wants.
const sendTimeout = hub.DefaultReportTimeout + maxReportMargin

// maxReportMargin bounds how long before -timeout the hub is to report, so that the report arrives
// in time.
const maxReportMargin = 10 * time.Second

// longestTTL is the longest time to live that is told in full days; the wire can say a
// little more.
const longestTTL = 49 * 24 * time.Hour

var (
	levels    = map[string]wire.Level{"written": wire.LevelWritten, "received": wire.LevelReceived, "processed": wire.LevelProcessed}
	overloads = map[string]wire.Overload{"wait": wire.OverloadWait, "fail": wire.OverloadFail, "drop": wire.OverloadDrop}
)

// send is the configuration of hubctl send.
type send struct {
	*control
	to       []uint64
	file     string
	level    string
	overload string
	ttl      time.Duration
}

func newSend() (*settings, func(Process) int) {
	c := &send{control: newControl("send",
		"hubctl send sends a message and prints what became of it for each receiver. Without a\n"+
			`text, or when that is "-", it sends what it reads from standard input until the end.`)}
	s := c.settings
	s.operand = "[text]"
	add(s, &c.to, "to", nil, ids(wire.MaxReceivers), "ids of the receivers, such as 2,3")
	add(s, &c.file, "file", "", path(), "file to send instead of a text")
	add(s, &c.level, "level", "received", oneOf("written", "received", "processed"),
		"how far the message must come for each receiver: written to\nits connection, received by its application, or processed\nby it")
	add(s, &c.overload, "overload", "wait", oneOf("wait", "fail", "drop"),
		"what to do when a receiver's queue is full: wait, fail, or\ndrop the oldest that was sent to it with drop")
	add(s, &c.ttl, "ttl", 0, span(0, longestTTL),
		"after what time the message is not worth sending on;\n0s: it always is")
	add(s, &c.maxBody, "max-body", wire.DefaultMaxBody, size(1, wire.BodyMost), "largest body to send, as the hub's -max-body")
	c.addCommon(sendTimeout,
		"how long to wait for the fates; the hub tells what it knows\na tenth of it and at most "+formatSpan(maxReportMargin)+" before, or after -ttl. The\nhub's -max-report-timeout bounds it")
	s.notes = sendNotes
	return s, c.start
}

const sendNotes = `A line is the id of a receiver and the fate of the message there, in the order of
-to. With -json an object has receiver, fate, and reached: whether it came as far as
-level says.` + idNotes + `

pending, queued  it still waits in the hub for the receiver
written          it was written to its connection; a receiver that speaks version 1 of
                 the protocol cannot say more, so it never counts as received
received         its application has got it
processed        its application is done with it
rejected         its application does not want it
unknown          there is no such client
gone             it left before the message was written
uncertain        it left after that, and did not say whether it got it
unreachable      its connection was lost again and again before it had all of the message
too large        it takes only smaller messages, by its -max-body or its program
full             its queue was full
expired          the time of -ttl was over before the message was written

Exit codes:
0  all receivers got the message: it came as far as -level says, and the hub knows it
1  something did not go well, and it is not known who got it: no hub, the connection
   was lost, an interrupt, no report in time
2  the command line was wrong; nothing was sent
3  some receivers got it, as far as the hub knows
4  no receiver got it, as far as the hub knows`

// start sends what the settings say, once they are found to make sense.
func (c *send) start(p Process) int {
	if len(c.to) == 0 {
		return c.settings.complain(p, errors.New("-to is missing: it names the receivers, such as -to=2,3"))
	}
	if c.file != "" && len(c.settings.operands) > 0 {
		return c.settings.complain(p, fmt.Errorf("there is a text, and -file=%s: one of them is enough", shown(c.file)))
	}
	return c.run(p, func(stop context.Context) (int, error) { return c.send(stop, p) })
}

// send sends the message and prints the report.
func (c *send) send(stop context.Context, p Process) (int, error) {
	message, err := c.message(stop, p.Stdin)
	if err != nil {
		return ExitFailure, err
	}
	conn, err := c.dial(stop, min(c.timeout, connectTimeout), client.Options{NoReconnect: true, OnMessage: turnDown})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(stop, c.timeout)
	defer cancel()
	report, err := conn.SendReport(ctx, c.to, message, &client.SendOptions{
		Level: levels[c.level], Overload: overloads[c.overload], TTL: c.ttl, ReportTimeout: c.reportTimeout(),
	})
	if err != nil {
		return ExitFailure, c.notReported(stop, err)
	}
	return c.tell(p.Stdout, report)
}

// reportTimeout is how long the hub may wait before it reports.
func (c *send) reportTimeout() time.Duration { return c.timeout - min(c.timeout/10, maxReportMargin) }

// tell prints the report and returns the exit code that says it in short.
func (c *send) tell(w io.Writer, report *client.Report) (int, error) {
	level := levels[c.level]
	for i, fate := range report.Fates {
		if err := c.print(w, fateOf{c.to[i], fate.String(), fate.Reaches(level)}); err != nil {
			return ExitFailure, err
		}
	}
	reached, all := report.Reached(level), len(report.Fates)
	if reached == all {
		return ExitOK, nil
	}
	code := ExitSome
	if reached == 0 {
		code = ExitNone
	}
	return code, fmt.Errorf("%d of %s got the message as far as -level=%s", reached, counted(all, "receiver"), c.level)
}

// fateOf is what became of the message for one receiver.
type fateOf struct {
	Receiver uint64 `json:"receiver,string"`
	Fate     string `json:"fate"`
	Reached  bool   `json:"reached"`
}

// String returns it as one line.
func (f fateOf) String() string { return decimal(f.Receiver) + "  " + f.Fate }

// notReported says why there is no report.
func (c *send) notReported(stop context.Context, err error) error {
	const unknown = "what became of the message is not known"
	var large *client.BodyTooLargeError
	var refused *client.RefusedError
	var timeout *client.ReportTimeoutError
	switch {
	case stop.Err() != nil:
		return fmt.Errorf("%w before the hub reported; %s", errInterrupted, unknown)
	case errors.As(err, &large):
		return fmt.Errorf("the message has %d bytes, and the hub at %s takes at most %d; nothing was sent", large.Size, c.hub(), large.Limit)
	case errors.As(err, &timeout):
		return fmt.Errorf("-timeout=%s: the hub at %s waits %s at most before it reports (its -max-report-timeout), and %s are asked of it; nothing was sent",
			formatSpan(c.timeout), c.hub(), formatSpan(timeout.Limit), formatSpan(timeout.Timeout))
	case errors.As(err, &refused):
		return fmt.Errorf("the hub at %s did not take the message: %s", c.hub(), refused.Reason)
	case errors.Is(err, client.ErrVersion):
		return fmt.Errorf("the hub at %s speaks version 1 of the protocol, and fates need version 2; nothing was sent", c.hub())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no report for %s; %s; -timeout waits longer, and -ttl has the hub report earlier", formatSpan(c.timeout), unknown)
	}
	return fmt.Errorf("%w; %s", c.problem(stop, err), unknown)
}

// message returns what is to be sent.
func (c *send) message(stop context.Context, stdin io.Reader) ([]byte, error) {
	switch text := c.settings.operands; {
	case c.file != "":
		return c.read(stop, c.file, func() (io.ReadCloser, error) { return os.Open(c.file) })
	case len(text) > 0 && text[0] != "-":
		return c.read(stop, "the text", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text[0])), nil })
	case stdin == nil:
		return nil, nil
	}
	return c.read(stop, "standard input", func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil })
}

// read reads a message to its end, which must come before the largest body's.
func (c *send) read(stop context.Context, name string, open func() (io.ReadCloser, error)) ([]byte, error) {
	type outcome struct {
		message []byte
		err     error
	}
	read := make(chan outcome, 1)
	// Ends with the input. After a signal nobody waits for that, because a terminal
	// may say nothing for ever: the process is about to end.
	go func() {
		source, err := open()
		if err != nil {
			read <- outcome{nil, err}
			return
		}
		defer source.Close()
		message, err := io.ReadAll(io.LimitReader(source, c.maxBody+1))
		read <- outcome{message, err}
	}()
	select {
	case o := <-read:
		switch {
		case o.err != nil:
			return nil, fmt.Errorf("cannot read the message: %w", o.err)
		case int64(len(o.message)) > c.maxBody:
			return nil, fmt.Errorf("%s is larger than %s, the most that a message may have (-max-body); nothing was sent",
				name, formatSize(c.maxBody))
		}
		return o.message, nil
	case <-stop.Done():
		return nil, fmt.Errorf("%w before the message was read; nothing was sent", errInterrupted)
	}
}
