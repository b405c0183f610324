package admin

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000 // clients on one page: about 300 KB of JSON
)

// clientsResponse is a page of the list of clients.
type clientsResponse struct {
	Clients []clientJSON `json:"clients"`
	Total   int          `json:"total"` // number of all clients
	More    bool         `json:"more"`  // clients with larger ids exist
}

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

// clientAPI lists and disconnects the clients of a hub.
type clientAPI struct {
	hub    Hub
	rates  *rateSampler
	logger *slog.Logger // gets a line for each client that a request disconnects
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

func (a *clientAPI) handleList(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, err := parseUintParam(query, "after", 0, 0, 1<<64-1)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	limit, err := parseUintParam(query, "limit", defaultPageSize, 1, maxPageSize)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	a.rates.requestSampling()
	infos := a.hub.Clients(after, int(limit)+1)
	p := clientsResponse{Clients: []clientJSON{}, Total: a.hub.Stats().Clients, More: len(infos) > int(limit)}
	for i := range infos[:min(len(infos), int(limit))] {
		p.Clients = append(p.Clients, a.describe(&infos[i]))
	}
	writeJSON(w, http.StatusOK, p)
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
	writeJSON(w, http.StatusOK, a.describe(&info))
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

// parseUintParam returns a query parameter between minValue and maxValue, or defaultValue if
// it is absent.
func parseUintParam(query url.Values, name string, defaultValue, minValue, maxValue uint64) (uint64, error) {
	text := query.Get(name)
	if text == "" {
		return defaultValue, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < minValue || n > maxValue {
		return 0, fmt.Errorf("%s is %q, must be a whole number from %d to %d", name, text, minValue, maxValue)
	}
	return n, nil
}
