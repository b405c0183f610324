package command

import (
	"log/slog"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/limitlog"
)

// eventLog logs what happens to a connection that is held for long.
type eventLog struct {
	cmd             *hubCommand
	logger          *slog.Logger
	reconnectErrors limitlog.Limiter // attempts to come back
}

func (c *hubCommand) newEventLog(p Process) *eventLog {
	return &eventLog{cmd: c, logger: c.settings.logger(p.Stderr, slog.LevelDebug)}
}

// logConnected says who this client is.
func (l *eventLog) logConnected(conn *client.Client) {
	l.logger.Info("connected", "hub", l.cmd.hubAddr(), "id", formatID(conn.ID()), "version", conn.Version())
}

// handleEvent is client.Options.OnEvent.
func (l *eventLog) handleEvent(e client.Event) {
	switch e.Kind {
	case client.EventDisconnected:
		l.logger.Warn("disconnected, trying to come back", "error", e.Err)
	case client.EventReconnectFailed:
		l.logReconnectFailed(e)
	case client.EventResumed:
		l.reconnectErrors.Reset()
		l.logger.Info("resumed, nothing was missed", "id", formatID(e.ID))
	case client.EventNewID:
		l.reconnectErrors.Reset()
		l.logger.Warn("new id, what was sent to the old one meanwhile is lost", "id", formatID(e.ID))
	}
}

// logReconnectFailed says why an attempt has failed, unless it has just said so.
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
	l.logger.Warn("cannot come back, trying again", attributes...)
}
