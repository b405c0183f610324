package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	pageDefault = 100
	pageMost    = 1000 // clients on one page: some 300 KB of JSON
)

// page is a part of the list of clients.
type page struct {
	Clients []shown `json:"clients"`
	Total   int     `json:"total"` // how many are connected in all
	More    bool    `json:"more"`  // there are some behind the last of these
}

// shown is one client as programs see it. Ids are text, as in the protocol: many
// programs keep numbers in 53 bits.
type shown struct {
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

	// null until it has been looked at twice.
	MessagesInRate  *float64 `json:"messages_in_per_second"`
	MessagesOutRate *float64 `json:"messages_out_per_second"`
	BytesInRate     *float64 `json:"bytes_in_per_second"`
	BytesOutRate    *float64 `json:"bytes_out_per_second"`
}

// view returns a client as programs see it.
func (s *Server) view(c *hub.ClientInfo) shown {
	v := shown{
		ID: c.ID, Address: c.Address.String(), Since: c.Since, Name: c.Name, Subject: c.Subject, Protocol: c.Protocol, Detached: c.Detached,
		QueuedBytes: c.QueuedBytes,
		MessagesIn:  c.MessagesIn, MessagesOut: c.MessagesOut, BytesIn: c.BytesIn, BytesOut: c.BytesOut,
	}
	if r, ok := s.rates.of(c); ok {
		v.MessagesInRate, v.MessagesOutRate, v.BytesInRate, v.BytesOutRate = &r.messagesIn, &r.messagesOut, &r.bytesIn, &r.bytesOut
	}
	return v
}

func (s *Server) listClients(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	after, err := number(query, "after", 0, 0, 1<<64-1)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	limit, err := number(query, "limit", pageDefault, 1, pageMost)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.rates.want()
	infos := s.config.Hub.Clients(after, int(limit)+1)
	p := page{Clients: []shown{}, Total: s.config.Hub.Stats().Clients, More: len(infos) > int(limit)}
	for i := range infos[:min(len(infos), int(limit))] {
		p.Clients = append(p.Clients, s.view(&infos[i]))
	}
	answer(w, http.StatusOK, p)
}

func (s *Server) showClient(w http.ResponseWriter, r *http.Request) {
	id, ok := clientID(w, r)
	if !ok {
		return
	}
	info, ok := s.config.Hub.Client(id)
	if !ok {
		unknown(w, id)
		return
	}
	s.rates.want()
	answer(w, http.StatusOK, s.view(&info))
}

func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) {
	id, ok := clientID(w, r)
	if !ok {
		return
	}
	reconnect := false
	if text := r.URL.Query().Get("reconnect"); text != "" {
		var err error
		if reconnect, err = strconv.ParseBool(text); err != nil {
			refuse(w, http.StatusBadRequest, fmt.Sprintf("reconnect is %q, must be true or false", text))
			return
		}
	}
	if !s.config.Hub.Disconnect(id, reconnect) {
		unknown(w, id)
		return
	}
	s.config.Logger.Info("disconnected by the operator", "client", id, "from", r.RemoteAddr, "reconnect", reconnect)
	w.WriteHeader(http.StatusNoContent)
}

// clientID returns the id in a path, or answers why it is none.
func clientID(w http.ResponseWriter, r *http.Request) (uint64, bool) {
	text := r.PathValue("id")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		refuse(w, http.StatusBadRequest, fmt.Sprintf("%q is no id: they are whole numbers in decimal", text))
	}
	return id, err == nil
}

func unknown(w http.ResponseWriter, id uint64) {
	refuse(w, http.StatusNotFound, fmt.Sprintf("no client %d is connected", id))
}

// number returns a parameter, which must be from least to most if it is given.
func number(query url.Values, name string, fallback, least, most uint64) (uint64, error) {
	text := query.Get(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s is %q, must be a whole number from %d to %d", name, text, least, most)
	}
	return n, nil
}
