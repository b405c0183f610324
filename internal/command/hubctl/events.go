package hubctl

import (
	"log/slog"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/command"
	"github.com/sechlol/go-message-hub/internal/limitlog"
)

// eventLog logs the events of a long-lived connection.
type eventLog struct {
	cmd             *hubCommand
	logger          *slog.Logger
	reconnectErrors limitlog.Limiter // failed attempts to reconnect
}

func newEventLog(c *hubCommand, p command.Process) *eventLog {
	return &eventLog{cmd: c, logger: c.settings.Logger(p.Stderr, slog.LevelDebug)}
}

// logConnected logs the address of the hub and the id of this client.
func (l *eventLog) logConnected(conn *client.Client) {
	l.logger.Info("connected", "hub", l.cmd.hubAddr(), "id", formatID(conn.ID()), "version", conn.Version())
}

// handleEvent is client.Options.OnEvent.
func (l *eventLog) handleEvent(e client.Event) {
	switch e.Kind {
	case client.EventDisconnected:
		l.logger.Warn("disconnected, reconnecting", "error", e.Err)
	case client.EventReconnectFailed:
		l.logReconnectFailed(e)
	case client.EventResumed:
		l.reconnectErrors.Reset()
		l.logger.Info("resumed, nothing was missed", l.attributes(e)...)
	case client.EventNewID:
		l.reconnectErrors.Reset()
		l.logger.Warn("new id: messages sent to the old id are lost", l.attributes(e)...)
	case client.EventKeptID:
		l.reconnectErrors.Reset()
		l.logger.Warn("hub lost: messages that it had for this client are lost", l.attributes(e)...)
	}
}

// attributes returns the id of this client, and the address of the hub if there are several.
func (l *eventLog) attributes(e client.Event) []any {
	attributes := []any{"id", formatID(e.ID)}
	if l.cmd.remote.HasSeveral() {
		attributes = append(attributes, "hub", e.Addr)
	}
	return attributes
}

// logReconnectFailed logs the cause of a failed attempt to reconnect, unless it has just
// logged the same cause.
func (l *eventLog) logReconnectFailed(e client.Event) {
	reason := l.cmd.explainDialError(e.Err, 0).Error()
	skipped, ok := l.reconnectErrors.Allow(reason)
	if !ok {
		return
	}
	attributes := []any{"attempt", e.Attempt, "error", reason}
	if skipped > 0 {
		attributes = append(attributes, "not_logged_before", skipped)
	}
	l.logger.Warn("cannot reconnect, trying again", attributes...)
}
