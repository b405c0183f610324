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

// listen is the configuration of hubctl listen.
type listen struct {
	*control
	messages int
}

func newListen() (*settings, func(Process) int) {
	l := &listen{control: newControl("listen",
		"hubctl listen prints each message that comes, with the id of its sender, until it is interrupted.\n"+
			"Its own id, by which others reach it, stands in its first line on standard error.")}
	add(l.settings, &l.messages, "n", endless, count(), "after how many messages to end")
	add(l.settings, &l.maxBody, "max-body", 0, size(0, wire.BodyMost),
		"largest body to receive; a sender learns that a larger one\nis too large. 0: what the hub's -max-body allows")
	l.addCommon(connectTimeout, "how long the hub may take for the connection")
	l.settings.notes = `A line is the id of the sender and the body. A body that is not plain text is
quoted, or told by its length; a sender that the hub does not name is a "?". With
-json an object has sender (0: not named), seq and time (left out if unknown), and
body, or body_base64 if it is not UTF-8.` + idNotes + `

It comes back by itself when its connection is lost. While it cannot, it says why on
standard error: at once, when that changes, and at growing intervals. It ends with 0 after an
interrupt or -n messages, with 1 when something did not go well, and with 2 when
the command line was wrong.`
	return l.settings, func(p Process) int {
		return l.run(p, func(stop context.Context) (int, error) { return l.listen(stop, p) })
	}
}

// listen prints messages until there were enough, or stop ends.
func (l *listen) listen(stop context.Context, p Process) (int, error) {
	events := l.newEventLog(p)
	conn, err := l.dial(stop, l.timeout, client.Options{OnEvent: events.event})
	if err != nil {
		return ExitFailure, err
	}
	defer conn.Close()
	events.connected(conn)
	left := l.messages
	for m, err := range conn.Messages(stop) {
		switch {
		case stop.Err() != nil:
			return ExitOK, nil
		case err != nil:
			return ExitFailure, l.problem(stop, err)
		}
		if err := l.print(p.Stdout, newHeard(m)); err != nil {
			return ExitFailure, err
		}
		m.Done() // only now: what could not be printed has not been processed
		if left--; left == 0 {
			break
		}
	}
	return ExitOK, nil
}

// heard is a message that has come.
type heard struct {
	Sender uint64    `json:"sender,string"`
	Seq    uint64    `json:"seq,string,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	Body   *string   `json:"body,omitempty"` // nil: it is no text
	Bytes  []byte    `json:"body_base64,omitempty"`
}

func newHeard(m client.Message) heard {
	h := heard{Sender: m.From, Seq: m.Seq, Time: m.Time().UTC()}
	if utf8.Valid(m.Body) {
		body := string(m.Body)
		h.Body = &body
	} else {
		h.Bytes = m.Body
	}
	return h
}

// String returns it as one line.
func (h heard) String() string {
	sender := "?"
	if h.Sender != 0 {
		sender = decimal(h.Sender)
	}
	if h.Body == nil {
		return fmt.Sprintf("%s  (%d bytes)", sender, len(h.Bytes))
	}
	return sender + "  " + plain(*h.Body)
}

// plain returns text as it is, without the end of line that tools leave behind it, if
// that makes one line that says what it is and does nothing else to a terminal.
func plain(text string) string {
	line := strings.TrimSuffix(text, "\n")
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "(") ||
		strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(text)
	}
	return line
}
