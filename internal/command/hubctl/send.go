package hubctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

// The exit codes of hubctl send, in addition to those of all executables.
const (
	ExitPartial     = 3 // only some receivers got the message
	ExitUndelivered = 4 // no receiver got the message
)

// defaultSendTimeout is the default of hubctl send -timeout. It leaves time for the report of
// a hub that uses its own default report timeout: the user wants the fates that are known by
// then.
const defaultSendTimeout = hubReportTimeout + maxReportMargin

// hubReportTimeout is hub.DefaultReportTimeout. It is repeated here because hubctl does not
// import the hub.
const hubReportTimeout = time.Minute

// maxReportMargin is the maximum time between the report of the hub and -timeout, in which the
// report must arrive.
const maxReportMargin = 10 * time.Second

// maxTTL is the maximum time to live, in whole days. The wire format allows a little more.
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

func newSendCommand() (*settings.Settings, func(command.Process) int) {
	c := &sendCommand{hubCommand: newHubCommand("send",
		"hubctl send sends a message and prints its fate for each receiver. Without a text, or if\n"+
			`the text is "-", it sends standard input up to its end.`)}
	s := c.settings
	s.OperandUsage = "[text]"
	settings.Add(s, &c.receivers, "to", nil, clientIDs(wire.MaxReceivers), "ids of the receivers, such as 2,3")
	settings.Add(s, &c.file, "file", "", settings.FilePath(), "file to send instead of a text")
	settings.Add(s, &c.level, "level", "received", settings.OneOf("written", "received", "processed"),
		"delivery level required of each receiver: written to its\nconnection, received by its application, or processed by\nits application")
	settings.Add(s, &c.overflow, "overload", "wait", settings.OneOf("wait", "fail", "drop"),
		"overflow policy for a receiver with a full queue: wait, fail,\nor drop the oldest message queued with drop")
	settings.Add(s, &c.ttl, "ttl", 0, settings.Duration(0, maxTTL),
		"time to live: a message not written by then expires;\n0s: no limit")
	settings.Add(s, &c.maxBody, "max-body", wire.DefaultMaxBody, settings.Size(1, wire.MaxBodyLimit), "maximum body size to send, as -max-body of the hub")
	c.addCommonFlags(defaultSendTimeout,
		"time limit for the report; the hub reports the known fates a\ntenth of it, at most "+settings.FormatDuration(maxReportMargin)+", before, or after -ttl; limited by\nthe -max-report-timeout of the hub")
	s.Notes = sendNotes
	return s, c.start
}

const sendNotes = `Each line is the id of a receiver and the fate of the message for this receiver, in
the order of -to. With -json each object has receiver, fate, and reached: whether the
message has reached -level.` + idNotes + `

pending, queued  the message still waits in the hub for the receiver
written          it was written to the connection of the receiver; a version 1 receiver
                 cannot acknowledge it, and never reaches a higher level
received         the application of the receiver has received it
processed        the application has processed it
rejected         the application has rejected it
refused          the sender is not permitted to send to the receiver
unknown          there is no such client
gone             the receiver left before the message was written
uncertain        the receiver left later, and did not acknowledge the message, or the hub
                 of the receiver was lost
unreachable      its connections were lost repeatedly before the message was complete,
                 or the hub of the receiver cannot be reached
too large        the receiver accepts only smaller messages, by its -max-body or program
full             the queue of the receiver was full
expired          the time of -ttl was over before the message was written

Exit codes:
0  the message has reached -level for all receivers
1  failure, and the fates are unknown: no hub, the connection was lost, an interrupt,
   or no report in time
2  the command line was invalid; nothing was sent
3  the message has reached -level for some receivers, as far as the hub knows
4  no receiver got it, as far as the hub knows`

// start checks the settings and sends the message.
func (c *sendCommand) start(p command.Process) int {
	if len(c.receivers) == 0 {
		return p.UsageError(c.settings, errors.New("-to is missing: name the receivers, such as -to=2,3"))
	}
	if c.file != "" && len(c.settings.Operands) > 0 {
		return p.UsageError(c.settings, fmt.Errorf("a text and -file=%s exclude each other: remove one", settings.Quote(c.file)))
	}
	return c.run(p, func(stopCtx context.Context) (int, error) { return c.send(stopCtx, p) })
}

// send sends the message and prints the report.
func (c *sendCommand) send(stopCtx context.Context, p command.Process) (int, error) {
	message, err := c.readMessage(stopCtx, p.Stdin)
	if err != nil {
		return command.ExitFailure, err
	}
	conn, err := c.dial(stopCtx, min(c.timeout, connectTimeout), client.Options{NoReconnect: true, OnMessage: rejectAll})
	if err != nil {
		return command.ExitFailure, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(stopCtx, c.timeout)
	defer cancel()
	report, err := conn.SendReport(ctx, c.receivers, message, &client.SendOptions{
		Level: levels[c.level], Overflow: overflowPolicies[c.overflow], TTL: c.ttl, ReportTimeout: c.reportTimeout(),
	})
	if err != nil {
		return command.ExitFailure, c.explainSendError(stopCtx, err)
	}
	return c.printReport(p.Stdout, report)
}

// reportTimeout returns the time after which the hub must report.
func (c *sendCommand) reportTimeout() time.Duration {
	return c.timeout - min(c.timeout/10, maxReportMargin)
}

// printReport prints the report and returns the exit code that summarizes it.
func (c *sendCommand) printReport(w io.Writer, report *client.Report) (int, error) {
	level := levels[c.level]
	for i, fate := range report.Fates {
		if err := c.printResult(w, receiverFate{c.receivers[i], fate.String(), fate.Reaches(level)}); err != nil {
			return command.ExitFailure, err
		}
	}
	reached, total := report.Reached(level), len(report.Fates)
	if reached == total {
		return command.ExitOK, nil
	}
	code := ExitPartial
	if reached == 0 {
		code = ExitUndelivered
	}
	return code, fmt.Errorf("%d of %s reached -level=%s", reached, pluralize(total, "receiver"), c.level)
}

// receiverFate is the fate of the message for one receiver.
type receiverFate struct {
	Receiver uint64 `json:"receiver,string"`
	Fate     string `json:"fate"`
	Reached  bool   `json:"reached"`
}

// String returns the receiver and the fate as one line.
func (f receiverFate) String() string { return formatID(f.Receiver) + "  " + f.Fate }

// explainSendError returns an error that says why there is no report.
func (c *sendCommand) explainSendError(stopCtx context.Context, err error) error {
	const unknown = "the fate of the message is unknown"
	var tooLarge *client.BodyTooLargeError
	var refused *client.RefusedError
	var timeout *client.ReportTimeoutTooLongError
	switch {
	case stopCtx.Err() != nil:
		return fmt.Errorf("%w before the hub reported; %s", errInterrupted, unknown)
	case errors.As(err, &tooLarge):
		return fmt.Errorf("the message has %d bytes, and the hub at %s accepts at most %d; nothing was sent",
			tooLarge.Size, c.hubAddr(), tooLarge.Limit)
	case errors.As(err, &timeout):
		return fmt.Errorf("-timeout=%s: the hub at %s reports after at most %s (its -max-report-timeout), but %s was requested; nothing was sent",
			settings.FormatDuration(c.timeout), c.hubAddr(), settings.FormatDuration(timeout.Limit), settings.FormatDuration(timeout.Timeout))
	case errors.As(err, &refused):
		return fmt.Errorf("the hub at %s rejected the message: %s", c.hubAddr(), refused.Reason)
	case errors.Is(err, client.ErrVersion):
		return fmt.Errorf("the hub at %s speaks version 1 of the protocol, and fates need version 2; nothing was sent", c.hubAddr())
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no report for %s; %s; increase -timeout, or set -ttl for an earlier report", settings.FormatDuration(c.timeout), unknown)
	}
	return fmt.Errorf("%w; %s", c.explainError(stopCtx, err), unknown)
}

// readMessage returns the message from -file, from the operand, or from standard input.
func (c *sendCommand) readMessage(stopCtx context.Context, stdin io.Reader) ([]byte, error) {
	switch operands := c.settings.Operands; {
	case c.file != "":
		return c.readInput(stopCtx, c.file, func() (io.ReadCloser, error) { return os.Open(c.file) })
	case len(operands) > 0 && operands[0] != "-":
		return c.readInput(stopCtx, "the text", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(operands[0])), nil })
	case stdin == nil:
		return nil, nil
	}
	return c.readInput(stopCtx, "standard input", func() (io.ReadCloser, error) { return io.NopCloser(stdin), nil })
}

// readInput reads a message up to the end of the input. It returns an error if the message is
// larger than maxBody, or when stopCtx ends.
func (c *sendCommand) readInput(stopCtx context.Context, name string, open func() (io.ReadCloser, error)) ([]byte, error) {
	type outcome struct {
		message []byte
		err     error
	}
	outcomes := make(chan outcome, 1)
	// The goroutine ends with the input. After a signal readInput does not wait for the
	// goroutine, because a terminal can block forever and the process is about to exit.
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
			return nil, fmt.Errorf("%s is larger than %s, the maximum of a message (-max-body); nothing was sent",
				name, settings.FormatSize(c.maxBody))
		}
		return o.message, nil
	case <-stopCtx.Done():
		return nil, fmt.Errorf("%w before the message was read; nothing was sent", errInterrupted)
	}
}

// clientIDs is a list of 1 to maxIDs client ids.
func clientIDs(maxIDs int) settings.Type[[]uint64] {
	return settings.Type[[]uint64]{
		Parse: func(text string) (list []uint64, err error) {
			for part := range strings.SplitSeq(text, ",") {
				id, err := strconv.ParseUint(strings.TrimSpace(part), 10, 64)
				if err != nil {
					return nil, settings.InvalidPartError(fmt.Sprintf("%q is not an id", part))
				}
				list = append(list, id)
			}
			if len(list) > maxIDs {
				return nil, settings.InvalidPartError(fmt.Sprintf("the number of entries is %d", len(list)))
			}
			return list, nil
		},
		Format: func(list []uint64) string {
			texts := make([]string, len(list))
			for i, id := range list {
				texts[i] = strconv.FormatUint(id, 10)
			}
			return strings.Join(texts, ",")
		},
		Allowed: fmt.Sprintf("1 to %d ids, in decimal and separated by commas", maxIDs),
	}
}
