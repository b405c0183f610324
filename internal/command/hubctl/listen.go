package hubctl

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/settings"
	"github.com/sechlol/go-message-hub/wire"
)

// listenCommand is the configuration of hubctl listen.
type listenCommand struct {
	*hubCommand
	maxMessages int
}

func newListenCommand() (*settings.Settings, func(command.Process) int) {
	l := &listenCommand{hubCommand: newHubCommand("listen",
		"hubctl listen prints each message that it receives, with the id of the sender, until it is interrupted.\n"+
			"The first line on standard error contains its own id, to which others send.")}
	settings.Add(l.settings, &l.maxMessages, "n", settings.Unlimited, settings.Count(), "exit after this many messages")
	settings.Add(l.settings, &l.maxBody, "max-body", 0, settings.Size(0, wire.MaxBodyLimit),
		"maximum body size to receive; the fate of a larger message\nis \"too large\"; 0: the -max-body of the hub")
	l.addCommonFlags(connectTimeout, "time limit for the connection")
	l.settings.Notes = `Each line is the id of the sender and the body. A body that is not plain text is
quoted, or replaced by its length; an unknown sender is "?". With -json each object
has sender (0: unknown), seq and time (omitted if unknown), and body, or body_base64
if the body is not UTF-8.` + idNotes + `

It reconnects by itself when the connection is lost. Errors of reconnecting are
logged on standard error: at once, when the error changes, and at growing intervals.
The exit code is 0 after an interrupt or -n messages, 1 on failure, and 2 for an
invalid command line.`
	return l.settings, func(p command.Process) int {
		return l.run(p, func(stopCtx context.Context) (int, error) { return l.listen(stopCtx, p) })
	}
}

// listen prints messages until it has printed maxMessages, or until stopCtx ends.
func (l *listenCommand) listen(stopCtx context.Context, p command.Process) (int, error) {
	events := newEventLog(l.hubCommand, p)
	conn, err := l.dial(stopCtx, l.timeout, client.Options{OnEvent: events.handleEvent})
	if err != nil {
		return command.ExitFailure, err
	}
	defer conn.Close()
	events.logConnected(conn)
	remaining := l.maxMessages
	for m, err := range conn.Messages(stopCtx) {
		switch {
		case stopCtx.Err() != nil:
			return command.ExitOK, nil
		case err != nil:
			return command.ExitFailure, l.explainError(stopCtx, err)
		}
		if err := l.printResult(p.Stdout, newReceivedMessage(m)); err != nil {
			return command.ExitFailure, err
		}
		m.Ack() // only after printing: a message that was not printed is not processed
		if remaining--; remaining == 0 {
			break
		}
	}
	return command.ExitOK, nil
}

// receivedMessage is one line of hubctl listen.
type receivedMessage struct {
	Sender uint64    `json:"sender,string"`
	Seq    uint64    `json:"seq,string,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	Body   *string   `json:"body,omitempty"` // nil: the body is not UTF-8
	Bytes  []byte    `json:"body_base64,omitempty"`
}

func newReceivedMessage(m client.Message) receivedMessage {
	received := receivedMessage{Sender: m.From, Seq: m.Seq, Time: m.Time().UTC()}
	if utf8.Valid(m.Body) {
		body := string(m.Body)
		received.Body = &body
	} else {
		received.Bytes = m.Body
	}
	return received
}

// String returns the sender and the body as one line.
func (m receivedMessage) String() string {
	sender := "?"
	if m.Sender != 0 {
		sender = formatID(m.Sender)
	}
	if m.Body == nil {
		return fmt.Sprintf("%s  (%d bytes)", sender, len(m.Bytes))
	}
	return sender + "  " + formatText(*m.Body)
}

// formatText returns text without a final newline, which many tools append, if that is a
// single line that is unambiguous and has no effect on a terminal. Otherwise it returns text
// quoted.
func formatText(text string) string {
	line := strings.TrimSuffix(text, "\n")
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "(") ||
		strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return line
}
