package command

import (
	"log/slog"

	"github.com/sechlol/go-message-hub/client"
	"github.com/sechlol/go-message-hub/internal/limitlog"
)

// eventLog logs what happens to a connection that is held for long.
type eventLog struct {
	control *control
	logger  *slog.Logger
	failed  limitlog.Limiter // attempts to come back
}

func (c *control) newEventLog(p Process) *eventLog {
	return &eventLog{control: c, logger: c.settings.logger(p.Stderr, slog.LevelDebug)}
}

// connected says who this client is.
func (l *eventLog) connected(conn *client.Client) {
	l.logger.Info("connected", "hub", l.control.hub(), "id", decimal(conn.ID()), "version", conn.Version())
}

// event is client.Options.OnEvent.
func (l *eventLog) event(e client.Event) {
	switch e.Kind {
	case client.EventDisconnected:
		l.logger.Warn("disconnected, trying to come back", "error", e.Err)
	case client.EventReconnectFailed:
		l.reconnectFailed(e)
	case client.EventResumed:
		l.failed.Reset()
		l.logger.Info("resumed, nothing was missed", "id", decimal(e.ID))
	case client.EventNewID:
		l.failed.Reset()
		l.logger.Warn("new id, what was sent to the old one meanwhile is lost", "id", decimal(e.ID))
	}
}

// reconnectFailed says why an attempt has failed, unless it has just said so.
func (l *eventLog) reconnectFailed(e client.Event) {
	why := l.control.noHub(e.Err, 0).Error()
	skipped, ok := l.failed.Allow(why)
	if !ok {
		return
	}
	attributes := []any{"attempt", e.Attempt, "error", why}
	if skipped > 0 {
		attributes = append(attributes, "not_logged_before", skipped)
	}
	l.logger.Warn("cannot come back, trying again", attributes...)
}
