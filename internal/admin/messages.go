package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// Messages is the part of a hub.Hub that the admin address uses for messages and their fates. Its
// methods must be safe for concurrent use.
type Messages interface {
	Send(ctx context.Context, from uint64, to []uint64, body []byte, options *hub.SendOptions) (*hub.Report, error)
	ClientFates(id uint64) (map[wire.Fate]uint64, bool)
}

// operatorID is the sender of test messages. The hub assigns it to no client: it counts up from its
// start time, and clients are granted ids up to hub.MaxGrantedID.
const operatorID = math.MaxUint64

// Limits of the time that a test message waits for its report.
const (
	defaultMessageTimeout = 5 * time.Second
	maxMessageTimeout     = 20 * time.Second // below writeTimeout

	// messageGrace is the time after the timeout of a message in which its report must come. Only
	// a message that waits behind earlier ones of the operator exceeds it.
	messageGrace = time.Second
)

// levels maps the names of levels in requests.
var levels = map[string]wire.Level{"written": wire.LevelWritten, "": wire.LevelReceived, "received": wire.LevelReceived, "processed": wire.LevelProcessed}

// messageRequest is the body of a request to send a test message.
type messageRequest struct {
	To        []string `json:"to"`
	Body      string   `json:"body"`
	Level     string   `json:"level"`      // empty: received
	TimeoutMs int64    `json:"timeout_ms"` // 0: defaultMessageTimeout
}

// messageResponse is the report of a test message.
type messageResponse struct {
	From  uint64     `json:"from,string"`
	Fates []fateJSON `json:"fates"`
}

// fateJSON is the fate of a message for one receiver.
type fateJSON struct {
	ID   uint64 `json:"id,string"`
	Fate string `json:"fate"`
}

// messageAPI sends test messages.
type messageAPI struct {
	messages Messages
	logger   *slog.Logger // gets a line for each message
}

// handleSend sends a test message and writes its report. The message is rejected for receivers
// whose queue is full: waiting for them would make the hub count them as stalled.
func (a *messageAPI) handleSend(w http.ResponseWriter, r *http.Request) {
	// A web page of another origin cannot send this type without a CORS preflight request.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		writeError(w, http.StatusUnsupportedMediaType, "the Content-Type of the request must be application/json")
		return
	}
	message, to, err := readMessage(r.Body)
	if errors.As(err, new(*http.MaxBytesError)) {
		writeError(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is longer than %d bytes", maxBodyBytes))
		return
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	timeout := time.Duration(message.TimeoutMs) * time.Millisecond
	ctx, cancel := context.WithTimeout(r.Context(), timeout+messageGrace)
	defer cancel()
	a.logger.Info("test message of the operator", "receivers", len(to), "bytes", len(message.Body), "from", r.RemoteAddr)
	report, err := a.messages.Send(ctx, operatorID, to, []byte(message.Body), &hub.SendOptions{
		Level: levels[message.Level], TTL: timeout, ReportTimeout: timeout, Overflow: wire.OverflowReject,
	})
	switch {
	case errors.Is(err, hub.ErrInvalidMessage):
		writeError(w, http.StatusBadRequest, err.Error())
	case err != nil:
		writeError(w, http.StatusServiceUnavailable, fmt.Sprintf("no report of the message: %v", err))
	default:
		writeJSON(w, http.StatusOK, newMessageResponse(to, report))
	}
}

// readMessage parses the body of a request to send a message, checks it, and sets its defaults.
func readMessage(body io.Reader) (m messageRequest, to []uint64, err error) {
	decoder := json.NewDecoder(body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&m); err != nil {
		return m, nil, fmt.Errorf("invalid message: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return m, nil, errors.New("invalid message: the request continues behind the JSON object")
	}
	if len(m.To) == 0 || len(m.To) > wire.MaxReceivers {
		return m, nil, fmt.Errorf("to has %d ids, must have 1 to %d", len(m.To), wire.MaxReceivers)
	}
	for _, text := range m.To {
		id, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return m, nil, fmt.Errorf("invalid id %q in to: want a decimal number", text)
		}
		to = append(to, id)
	}
	if _, ok := levels[m.Level]; !ok {
		return m, nil, fmt.Errorf("level is %q, must be written, received or processed", m.Level)
	}
	if m.TimeoutMs == 0 {
		m.TimeoutMs = defaultMessageTimeout.Milliseconds()
	}
	if maxTimeout := maxMessageTimeout.Milliseconds(); m.TimeoutMs < 1 || m.TimeoutMs > maxTimeout {
		return m, nil, fmt.Errorf("timeout_ms is %d, must be from 1 to %d", m.TimeoutMs, maxTimeout)
	}
	return m, to, nil
}

// newMessageResponse returns the JSON form of a report.
func newMessageResponse(to []uint64, report *hub.Report) messageResponse {
	response := messageResponse{From: operatorID, Fates: make([]fateJSON, len(to))}
	for i, id := range to {
		response.Fates[i] = fateJSON{id, report.Fates[i].String()}
	}
	return response
}
