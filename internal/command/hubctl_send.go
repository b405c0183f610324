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

// defaultSendTimeout is the default of hubctl send -timeout. A hub that does not know how long the report
// may wait reports after a time of its own, and it is the fates that are known by then which
// the user wants.
const defaultSendTimeout = hub.DefaultReportTimeout + maxReportMargin

// maxReportMargin bounds how long before -timeout the hub is to report, so that the report arrives
// in time.
const maxReportMargin = 10 * time.Second

// maxTTL is the longest time to live that is told in full days; the wire can say a
// little more.
const maxTTL = 49 * 24 * time.Hour

var (
	levels           = map[string]wire.Level{"written": wire.LevelWritten, "received": wire.LevelReceived, "processed": wire.LevelProcessed}
	overflowPolicies = map[string]wire.Overflow{"wait": wire.OverflowBlock, "fail": wire.OverflowReject, "drop": wire.OverflowDropOldest}
)

// sendCommand is the configuration of hubctl send.
type sendCommand struct {
	*hubCommand
	receivers []uint64
	file      string
	level     string
	overflow  string
	ttl       time.Duration
}

func newSendCommand() (*settings, func(Process) int) {
	c := &sendCommand{hubCommand: newHubCommand("send",
		"hubctl send sends a message and prints what became of it for each receiver. Without a\n"+
			`text, or when that is "-", it sends what it reads from standard input until the end.`)}
	s := c.settings
	s.operandUsage = "[text]"
	addSetting(s, &c.receivers, "to", nil, clientIDs(wire.MaxReceivers), "ids of the receivers, such as 2,3")
	addSetting(s, &c.file, "file", "", filePath(), "file to send instead of a text")
	addSetting(s, &c.level, "level", "received", oneOf("written", "received", "processed"),
		"how far the message must come for each receiver: written to\nits connection, received by its application, or processed\nby it")
	addSetting(s, &c.overflow, "overload", "wait", oneOf("wait", "fail", "drop"),
		"what to do when a receiver's queue is full: wait, fail, or\ndrop the oldest that was sent to it with drop")
	addSetting(s, &c.ttl, "ttl", 0, duration(0, maxTTL),
		"after what time the message is not worth sending on;\n0s: it always is")
	addSetting(s, &c.maxBody, "max-body", wire.DefaultMaxBody, size(1, wire.MaxBodyLimit), "largest body to send, as the hub's -max-body")
	c.addCommonFlags(defaultSendTimeout,
		"how long to wait for the fates; the hub tells what it knows\na tenth of it and at most "+formatDuration(maxReportMargin)+" before, or after -ttl. The\nhub's -max-report-timeout bounds it")
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
func (c *sendCommand) start(p Process) int {
	if len(c.receivers) == 0 {
		return c.settings.printUsageError(p, errors.New("-to is missing: it names the receivers, such as -to=2,3"))
	}
	if c.file != "" && len(c.settings.operands) > 0 {
		return c.settings.printUsageError(p, fmt.Errorf("there is a text, and -file=%s: one of them is enough", quoted(c.file)))
	}
	return c.run(p, func(stopCtx context.Context) (int, error) { return c.send(stopCtx, p) })
}

// send sends the message and prints the report.
func (c *sendCommand) send(stopCtx context.Context, p Process) (int, error) {
	message, err := c.readMessage(stopCtx, p.Stdin)
	if err != nil {
		return ExitFailure, err
	}
	conn, err := c.dial(stopCtx, min(c.timeout, connectTimeout), client.Options{NoReconnect: true, OnMessage: rejectAll})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(stopCtx, c.timeout)
	defer cancel()
	report, err := conn.SendReport(ctx, c.receivers, message, &client.SendOptions{
		Level: levels[c.level], Overflow: overflowPolicies[c.overflow], TTL: c.ttl, ReportTimeout: c.reportTimeout(),
	})
	if err != nil {
		return ExitFailure, c.explainSendError(stopCtx, err)
	}
	return c.printReport(p.Stdout, report)
}

// reportTimeout is how long the hub may wait before it reports.
func (c *sendCommand) reportTimeout() time.Duration {
	return c.timeout - min(c.timeout/10, maxReportMargin)
}

// printReport prints the report and returns the exit code that says it in short.
func (c *sendCommand) printReport(w io.Writer, report *client.Report) (int, error) {
	level := levels[c.level]
	for i, fate := range report.Fates {
		if err := c.printResult(w, receiverFate{c.receivers[i], fate.String(), fate.Reaches(level)}); err != nil {
			return ExitFailure, err
		}
	}
	reached, total := report.Reached(level), len(report.Fates)
	if reached == total {
		return ExitOK, nil
	}
	code := ExitPartial
	if reached == 0 {
		code = ExitUndelivered
	}
	return code, fmt.Errorf("%d of %s got the message as far as -level=%s", reached, pluralize(total, "receiver"), c.level)
}

// receiverFate is what became of the message for one receiver.
type receiverFate struct {
	Receiver uint64 `json:"receiver,string"`
	Fate     string `json:"fate"`
	Reached  bool   `json:"reached"`
}

// String returns it as one line.
func (f receiverFate) String() string { return formatID(f.Receiver) + "  " + f.Fate }

// explainSendError says why there is no report.
func (c *sendCommand) explainSendError(stopCtx context.Context, err error) error {
	const unknown = "what became of the message is not known"
	var tooLarge *client.BodyTooLargeError
	var refused *client.RefusedError
	var timeout *client.ReportTimeoutTooLongError
	switch {
	case stopCtx.Err() != nil:
		return fmt.Errorf("%w before the hub reported; %s", errInterrupted, unknown)
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the message has %d bytes, and the hub at %s takes at most %d; nothing was sent", tooLarge.Size, c.hubAddr(), tooLarge.Limit)
	case errors.As(err, &timeout):
		return fmt.Errorf("-timeout=%s: the hub at %s waits %s at most before it reports (its -max-report-timeout), and %s are asked of it; nothing was sent",
			formatDuration(c.timeout), c.hubAddr(), formatDuration(timeout.Limit), formatDuration(timeout.Timeout))
	case errors.As(err, &refused):
		return fmt.Errorf("the hub at %s did not take the message: %s", c.hubAddr(), refused.Reason)
	case errors.Is(err, client.ErrVersion):
		return fmt.Errorf("the hub at %s speaks version 1 of the protocol, and fates need version 2; nothing was sent", c.hubAddr())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no report for %s; %s; -timeout waits longer, and -ttl has the hub report earlier", formatDuration(c.timeout), unknown)
	}
	return fmt.Errorf("%w; %s", c.explainError(stopCtx, err), unknown)
}

// readMessage returns what is to be sent.
func (c *sendCommand) readMessage(stopCtx context.Context, stdin io.Reader) ([]byte, error) {
	switch operands := c.settings.operands; {
	case c.file != "":
		return c.readInput(stopCtx, c.file, func() (io.ReadCloser, error) { return os.Open(c.file) })
	case len(operands) > 0 && operands[0] != "-":
		return c.readInput(stopCtx, "the text", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(operands[0])), nil })
	case stdin == nil:
		return nil, nil
	}
	return c.readInput(stopCtx, "standard input", func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil })
}

// readInput reads a message to its end, which must come before the largest body's.
func (c *sendCommand) readInput(stopCtx context.Context, name string, open func() (io.ReadCloser, error)) ([]byte, error) {
	type outcome struct {
		message []byte
		err     error
	}
	outcomes := make(chan outcome, 1)
	// Ends with the input. After a signal nobody waits for that, because a terminal
	// may say nothing for ever: the process is about to end.
	go func() {
		source, err := open()
		if err != nil {
			outcomes <- outcome{nil, err}
			return
		}
		defer source.Close()
		message, err := io.ReadAll(io.LimitReader(source, c.maxBody+1))
		outcomes <- outcome{message, err}
	}()
	select {
	case o := <-outcomes:
		switch {
		case o.err != nil:
			return nil, fmt.Errorf("cannot read the message: %w", o.err)
		case int64(len(o.message)) > c.maxBody:
			return nil, fmt.Errorf("%s is larger than %s, the most that a message may have (-max-body); nothing was sent",
				name, formatSize(c.maxBody))
		}
		return o.message, nil
	case <-stopCtx.Done():
		return nil, fmt.Errorf("%w before the message was read; nothing was sent", errInterrupted)
	}
}
