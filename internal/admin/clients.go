package admin

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/hub"
	"github.com/sechlol/go-message-hub/wire"
)

// clientJSON is the JSON form of a client. Ids are strings, as in the protocol, because many
// programs have only 53 bits for a number.
type clientJSON struct {
	ID          uint64    `json:"id,string"`
	Address     string    `json:"address"`
	Since       time.Time `json:"since"`
	Name        string    `json:"name"`
	Subject     string    `json:"subject"`
	Protocol    int       `json:"protocol"`
	Detached    bool      `json:"detached"`
	QueuedBytes int       `json:"queued_bytes"`
	MessagesIn  uint64    `json:"messages_in"`
	MessagesOut uint64    `json:"messages_out"`
	BytesIn     uint64    `json:"bytes_in"`
	BytesOut    uint64    `json:"bytes_out"`

	// null until the connection is in two samples.
	MessagesInRate  *float64 `json:"messages_in_per_second"`
	MessagesOutRate *float64 `json:"messages_out_per_second"`
	BytesInRate     *float64 `json:"bytes_in_per_second"`
	BytesOutRate    *float64 `json:"bytes_out_per_second"`
}

// clientDetailJSON is the JSON form of one client that a request asks for.
type clientDetailJSON struct {
	clientJSON

	// Fates are those of the messages of the client for which it has requested a report.
	Fates map[string]uint64 `json:"fates"`
}

// clientAPI lists and disconnects the clients of a hub.
type clientAPI struct {
	hub      Hub
	messages Messages
	rates    *rateSampler
	logger   *slog.Logger // gets a line for each client that a request disconnects
}

// describe returns the JSON form of a client.
func (a *clientAPI) describe(c *hub.ClientInfo) clientJSON {
	v := clientJSON{
		ID: c.ID, Address: c.Address.String(), Since: c.Since, Name: c.Name, Subject: c.Subject, Protocol: c.Protocol, Detached: c.Detached,
		QueuedBytes: c.QueuedBytes,
		MessagesIn:  c.MessagesIn, MessagesOut: c.MessagesOut, BytesIn: c.BytesIn, BytesOut: c.BytesOut,
	}
	if r, ok := a.rates.rateOf(c); ok {
		v.MessagesInRate, v.MessagesOutRate, v.BytesInRate, v.BytesOutRate = &r.messagesIn, &r.messagesOut, &r.bytesIn, &r.bytesOut
	}
	return v
}

func (a *clientAPI) handleGet(w http.ResponseWriter, r *http.Request) {
	id, ok := parseClientID(w, r)
	if !ok {
		return
	}
	info, ok := a.hub.Client(id)
	if !ok {
		writeClientNotFound(w, id)
		return
	}
	a.rates.requestSampling()
	fates, _ := a.messages.ClientFates(id) // nil if the client has left meanwhile
	writeJSON(w, http.StatusOK, clientDetailJSON{a.describe(&info), countsByName(wire.Fates(), fates)})
}

func (a *clientAPI) handleDisconnect(w http.ResponseWriter, r *http.Request) {
	id, ok := parseClientID(w, r)
	if !ok {
		return
	}
	reconnect := false
	if text := r.URL.Query().Get("reconnect"); text != "" {
		var err error
		if reconnect, err = strconv.ParseBool(text); err != nil {
			writeError(w, http.StatusBadRequest, fmt.Sprintf("reconnect is %q, must be true or false", text))
			return
		}
	}
	if !a.hub.Disconnect(id, reconnect) {
		writeClientNotFound(w, id)
		return
	}
	a.logger.Info("disconnected by the operator", "client", id, "from", r.RemoteAddr, "reconnect", reconnect)
	w.WriteHeader(http.StatusNoContent)
}

// parseClientID returns the id in the path. If the id is invalid, it writes an error response and
// returns false.
func parseClientID(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	text := r.PathValue("id")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		writeError(w, http.StatusBadRequest, fmt.Sprintf("invalid id %q: want a decimal number", text))
	}
	return id, err == nil
}

func writeClientNotFound(w http.ResponseWriter, id uint64) {
	writeError(w, http.StatusNotFound, fmt.Sprintf("no client has the id %d", id))
}
