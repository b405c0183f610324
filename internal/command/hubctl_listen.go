package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/wire"
)

// listenCommand is the configuration of hubctl listen.
type listenCommand struct {
	*hubCommand
	maxMessages int
}

func newListenCommand() (*settings, func(Process) int) {
	l := &listenCommand{hubCommand: newHubCommand("listen",
		"hubctl listen prints each message that comes, with the id of its sender, until it is interrupted.\n"+
			"Its own id, by which others reach it, stands in its first line on standard error.")}
	addSetting(l.settings, &l.maxMessages, "n", unlimited, count(), "after how many messages to end")
	addSetting(l.settings, &l.maxBody, "max-body", 0, size(0, wire.MaxBodyLimit),
		"largest body to receive; a sender learns that a larger one\nis too large. 0: what the hub's -max-body allows")
	l.addCommonFlags(connectTimeout, "how long the hub may take for the connection")
	l.settings.notes = `A line is the id of the sender and the body. A body that is not plain text is
quoted, or told by its length; a sender that the hub does not name is a "?". With
-json an object has sender (0: not named), seq and time (left out if unknown), and
body, or body_base64 if it is not UTF-8.` + idNotes + `

It comes back by itself when its connection is lost. While it cannot, it says why on
standard error: at once, when that changes, and at growing intervals. It ends with 0 after an
interrupt or -n messages, with 1 when something did not go well, and with 2 when
the command line was wrong.`
	return l.settings, func(p Process) int {
		return l.run(p, func(stopCtx context.Context) (int, error) { return l.listen(stopCtx, p) })
	}
}

// listen prints messages until there were enough, or stop ends.
func (l *listenCommand) listen(stopCtx context.Context, p Process) (int, error) {
	events := l.newEventLog(p)
	conn, err := l.dial(stopCtx, l.timeout, client.Options{OnEvent: events.handleEvent})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	events.logConnected(conn)
	remaining := l.maxMessages
	for m, err := range conn.Messages(stopCtx) {
		switch {
		case stopCtx.Err() != nil:
			return ExitOK, nil
		case err != nil:
			return ExitFailure, l.explainError(stopCtx, err)
		}
		if err := l.printResult(p.Stdout, newReceivedMessage(m)); err != nil {
			return ExitFailure, err
		}
		m.Ack() // only now: what could not be printed has not been processed
		if remaining--; remaining == 0 {
			break
		}
	}
	return ExitOK, nil
}

// receivedMessage is a message that has come.
type receivedMessage struct {
	Sender uint64    `json:"sender,string"`
	Seq    uint64    `json:"seq,string,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	Body   *string   `json:"body,omitempty"` // nil: it is no text
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

// String returns it as one line.
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

// formatText returns text as it is, without the end of line that tools leave behind it, if
// that makes one line that says what it is and does nothing else to a terminal.
func formatText(text string) string {
	line := strings.TrimSuffix(text, "\n")
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "(") ||
		strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return line
}
