package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sechlol/go-message-hub/hub"
)

const (
	defaultPageSize = 100
	maxPageSize     = 1000 // clients on one page: about 300 KB of JSON

	// maxFilterLen is the maximum length of a filter, in bytes. No field of a client that a filter
	// is compared with is longer, except a subject.
	maxFilterLen = 256

	// scanSize is the number of clients that the search for a page holds in memory besides those up
	// to the end of the page.
	scanSize = 64
)

// clientsResponse is a page of the list of clients.
type clientsResponse struct {
	Clients []clientJSON `json:"clients"`
	Total   int          `json:"total"`   // number of all clients
	Matched int          `json:"matched"` // number of clients that match the filters
	More    bool         `json:"more"`    // there are clients behind the page
}

// sortKeys are the orders of the list of clients, except that by id. The client with the largest
// value comes first. An unknown rate comes last.
var sortKeys = map[string]func(*hub.ClientInfo, *rateSampler) float64{
	"queued_bytes":            func(c *hub.ClientInfo, _ *rateSampler) float64 { return float64(c.QueuedBytes) },
	"messages_in_per_second":  rateKey(func(r rate) float64 { return r.messagesIn }),
	"messages_out_per_second": rateKey(func(r rate) float64 { return r.messagesOut }),
	"bytes_in_per_second":     rateKey(func(r rate) float64 { return r.bytesIn }),
	"bytes_out_per_second":    rateKey(func(r rate) float64 { return r.bytesOut }),
}

func rateKey(value func(rate) float64) func(*hub.ClientInfo, *rateSampler) float64 {
	return func(c *hub.ClientInfo, rates *rateSampler) float64 {
		if r, ok := rates.rateOf(c); ok {
			return value(r)
		}
		return -1
	}
}

// listQuery are the parameters of a request for a list of clients.
type listQuery struct {
	after   uint64 // only ids above; 0 unless the order is that of ids
	offset  int    // clients before the page
	limit   int    // clients on the page
	sortKey string // empty: by id
	filter  string // lower case; empty: all
	subject string // valid if hasSubject

	hasSubject bool
}

// parseListQuery parses the parameters of a list of clients.
func parseListQuery(query url.Values) (q listQuery, err error) {
	if q.after, err = parseUintParam(query, "after", 0, 0, 1<<64-1); err != nil {
		return q, err
	}
	offset, err := parseUintParam(query, "offset", 0, 0, 1<<31-1)
	if err != nil {
		return q, err
	}
	limit, err := parseUintParam(query, "limit", defaultPageSize, 1, maxPageSize)
	if err != nil {
		return q, err
	}
	q.offset, q.limit = int(offset), int(limit)
	q.filter, q.subject, q.hasSubject = strings.ToLower(query.Get("filter")), query.Get("subject"), query.Has("subject")
	if len(q.filter) > maxFilterLen {
		return q, fmt.Errorf("filter has %d bytes, at most %d are allowed", len(q.filter), maxFilterLen)
	}
	if name := query.Get("sort"); name != "id" {
		q.sortKey = name
	}
	if _, ok := sortKeys[q.sortKey]; !ok && q.sortKey != "" {
		return q, fmt.Errorf("sort is %q, must be id or one of: %s", q.sortKey, strings.Join(sortedNames(sortKeys), ", "))
	}
	if q.sortKey != "" && q.after > 0 {
		return q, fmt.Errorf("after is only allowed in the order of ids; use offset with sort=%s", q.sortKey)
	}
	return q, nil
}

// isScan reports whether the answer needs a look at all clients.
func (q *listQuery) isScan() bool {
	return q.sortKey != "" || q.offset > 0 || q.filter != "" || q.hasSubject
}

// matches reports whether a client passes the filters.
func (q *listQuery) matches(c *hub.ClientInfo) bool {
	if q.hasSubject && c.Subject != q.subject {
		return false
	}
	return q.filter == "" || strings.Contains(strconv.FormatUint(c.ID, 10), q.filter) ||
		containsFold(c.Name, q.filter) || containsFold(c.Subject, q.filter) || strings.Contains(c.Address.String(), q.filter)
}

// containsFold reports whether text contains lower, which is in lower case, in any case.
func containsFold(text, lower string) bool {
	return strings.Contains(strings.ToLower(text), lower)
}

func (a *clientAPI) handleList(w http.ResponseWriter, r *http.Request) {
	q, err := parseListQuery(r.URL.Query())
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	a.rates.requestSampling()
	p := clientsResponse{Clients: []clientJSON{}, Total: a.hub.Stats().Clients}
	var infos []hub.ClientInfo
	if q.isScan() {
		infos, p.Matched = a.scan(&q)
		infos = infos[min(q.offset, len(infos)):]
	} else {
		infos, p.Matched = a.firstAfter(q.after, q.limit+1), p.Total
	}
	p.More = len(infos) > q.limit
	for i := range infos[:min(len(infos), q.limit)] {
		p.Clients = append(p.Clients, a.describe(&infos[i]))
	}
	writeJSON(w, http.StatusOK, p)
}

// firstAfter returns the first n clients with ids above after.
func (a *clientAPI) firstAfter(after uint64, n int) (first []hub.ClientInfo) {
	for info := range a.hub.ClientsAfter(after) {
		if first = append(first, info); len(first) == n {
			break
		}
	}
	return first
}

// rankedClient is a client with the value that the list is sorted by.
type rankedClient struct {
	info hub.ClientInfo
	key  float64
}

// compareRank orders clients by descending keys, and those with the same key by ascending ids.
func compareRank(a, b rankedClient) int {
	return cmp.Or(cmp.Compare(b.key, a.key), cmp.Compare(a.info.ID, b.info.ID))
}

// scan looks at all clients. It returns the first ones in the order of q: up to one behind the page
// of q. matched is the number of clients that match, those before q.after included.
func (a *clientAPI) scan(q *listQuery) (first []hub.ClientInfo, matched int) {
	keep := q.offset + q.limit + 1
	keyOf := sortKeys[q.sortKey]
	var ranked []rankedClient // unordered: the first ones of what was seen, and up to scanSize others
	var last rankedClient     // what comes behind it is not among the first; valid if isFull
	isFull := false
	var c rankedClient // outside of the loop, because it escapes
	for c.info = range a.hub.ClientsAfter(0) {
		if !q.matches(&c.info) {
			continue
		}
		matched++
		if c.info.ID <= q.after {
			continue
		}
		if keyOf != nil {
			c.key = keyOf(&c.info, a.rates)
		}
		if isFull && compareRank(c, last) > 0 {
			continue
		}
		if ranked = append(ranked, c); len(ranked) == keep+scanSize {
			slices.SortFunc(ranked, compareRank)
			ranked = ranked[:keep]
			last, isFull = ranked[keep-1], true
		}
	}
	slices.SortFunc(ranked, compareRank)
	for i := range ranked[:min(keep, len(ranked))] {
		first = append(first, ranked[i].info)
	}
	return first, matched
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
