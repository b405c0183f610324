package admin

import (
	"net/http"
	"time"

	"github.com/sechlol/go-message-hub/hub"
)

// hubUp is the state of a hub to whose clients messages can be sent.
const hubUp = "up"

// ClusterConfig describes the cluster of a hub. All fields are required. The functions must be safe
// for concurrent use and must not block.
type ClusterConfig struct {
	Name    string // of the cluster, for people
	HubName string // of this hub, as in hub.Config.Name

	// Hubs returns the hubs of the cluster. It is Hub.Hubs of package hub.
	Hubs func() []hub.HubInfo

	// CheckMember returns nil if the hub is a member of the cluster for certain, and otherwise the
	// reason why not. Until then the hub is not ready, because it accepts no new clients.
	CheckMember func() error
}

// clusterResponse is the body of the response about the cluster.
type clusterResponse struct {
	Cluster *clusterJSON `json:"cluster"` // null: the hub is alone
}

// clusterJSON is the JSON form of a cluster, as one of its hubs sees it.
type clusterJSON struct {
	Name  string    `json:"name"`
	Error *string   `json:"error"` // why the hub is no member for certain; null: it is one
	Hubs  []hubJSON `json:"hubs"`
}

// hubJSON is the JSON form of a hub.
type hubJSON struct {
	Node            uint32    `json:"node"`
	Name            string    `json:"name"`
	Address         string    `json:"address"`
	Software        string    `json:"software"`
	State           string    `json:"state"`
	Since           time.Time `json:"since"`
	Started         time.Time `json:"started"`
	Clients         int       `json:"clients"`
	ClockDifference float64   `json:"clock_difference_seconds"`
	Self            bool      `json:"self"`
	Link            *linkJSON `json:"link"` // null: it is this hub
}

// linkJSON is the JSON form of the link from this hub to another one.
type linkJSON struct {
	RoundTrip  *float64 `json:"round_trip_seconds"` // null: not known
	Lag        float64  `json:"lag_seconds"`
	UnderWay   int      `json:"under_way_bytes"`
	Waited     uint64   `json:"batches_waited"`
	Batches    uint64   `json:"batches"`
	Messages   uint64   `json:"messages"`
	Bytes      uint64   `json:"bytes"`
	FramesOut  uint64   `json:"frames_sent"`
	FramesIn   uint64   `json:"frames_received"`
	Resent     uint64   `json:"resent_bytes"`
	Gaps       uint64   `json:"gaps"`
	Duplicates uint64   `json:"duplicates"`
	Breaks     uint64   `json:"breaks"`
}

// clusterAPI serves the state of the cluster.
type clusterAPI struct{ cluster *ClusterConfig }

func (a *clusterAPI) handleCluster(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, clusterResponse{a.describe()})
}

// describe returns the JSON form of the cluster, or nil if there is none.
func (a *clusterAPI) describe() *clusterJSON {
	if a.cluster == nil {
		return nil
	}
	v := clusterJSON{Name: a.cluster.Name, Hubs: []hubJSON{}}
	if err := a.cluster.CheckMember(); err != nil {
		text := err.Error()
		v.Error = &text
	}
	for _, h := range a.cluster.Hubs() {
		v.Hubs = append(v.Hubs, hubJSON{
			Node: h.Node, Name: h.Name, Address: h.Address, Software: h.Software,
			State: h.State, Since: h.Since, Started: h.Started,
			Clients: h.Clients, ClockDifference: h.Clock.Seconds(), Self: h.Self, Link: describeLink(&h),
		})
	}
	return &v
}

// describeLink returns the JSON form of the link to a hub, or nil if it is this hub.
func describeLink(h *hub.HubInfo) *linkJSON {
	if h.Self {
		return nil
	}
	l := &h.Link
	v := linkJSON{
		Lag: l.Lag.Seconds(), UnderWay: l.UnderWay, Waited: l.Waited,
		Batches: l.Batches, Messages: l.Messages, Bytes: l.Bytes, FramesOut: l.FramesOut, FramesIn: l.FramesIn,
		Resent: l.Resent, Gaps: l.Gaps, Duplicates: l.Duplicates, Breaks: l.Breaks,
	}
	if l.RoundTrip > 0 {
		seconds := l.RoundTrip.Seconds()
		v.RoundTrip = &seconds
	}
	return &v
}
