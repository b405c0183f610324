package admin

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sechlol/go-message-hub/hub"
)

// clusterCollector is a prometheus.Collector that reads the state of a cluster once per scrape.
type clusterCollector struct {
	cluster *ClusterConfig
	member  *prometheus.Desc
	hubs    *prometheus.Desc
	links   []linkMetric
}

// linkMetric is a metric with a series for each other hub.
type linkMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*hub.HubInfo) float64
}

func newClusterCollector(cluster *ClusterConfig) *clusterCollector {
	return &clusterCollector{
		cluster: cluster,
		member:  newDesc("cluster_member", "Whether the hub is a member of its cluster for certain, and accepts new clients.", "hub"),
		hubs:    newDesc("cluster_hubs", "Hubs of the cluster, this one included, by their state.", "state"),
		links: []linkMetric{
			newLinkGauge("up", "Whether messages can be sent to clients of the other hub.", func(i *hub.HubInfo) float64 {
				if i.State == hubUp {
					return 1
				}
				return 0
			}),
			newLinkGauge("round_trip_seconds", "Round trip to the other hub, smoothed. 0: not known.", func(i *hub.HubInfo) float64 { return i.Link.RoundTrip.Seconds() }),
			newLinkGauge("lag_seconds", "Age of the oldest bytes that the other hub has not acknowledged.", func(i *hub.HubInfo) float64 { return i.Link.Lag.Seconds() }),
			newLinkGauge("clock_difference_seconds", "Clock of the other hub minus that of this one.", func(i *hub.HubInfo) float64 { return i.Clock.Seconds() }),
			newLinkGauge("under_way_bytes", "Bytes of messages that were sent to the other hub, which has not queued them yet.", func(i *hub.HubInfo) float64 { return float64(i.Link.UnderWay) }),
			newLinkCounter("batches_total", "Batches of messages sent to the other hub.", func(l *hub.LinkInfo) uint64 { return l.Batches }),
			newLinkCounter("batches_waited_total", "Batches of messages that waited for room on the link.", func(l *hub.LinkInfo) uint64 { return l.Waited }),
			newLinkCounter("messages_total", "Messages sent to the other hub, each once for all receivers there.", func(l *hub.LinkInfo) uint64 { return l.Messages }),
			newLinkCounter("bytes_total", "Bytes of messages sent to the other hub.", func(l *hub.LinkInfo) uint64 { return l.Bytes }),
			newLinkCounter("frames_sent_total", "Frames sent to the other hub.", func(l *hub.LinkInfo) uint64 { return l.FramesOut }),
			newLinkCounter("frames_received_total", "Frames received from the other hub.", func(l *hub.LinkInfo) uint64 { return l.FramesIn }),
			newLinkCounter("resent_bytes_total", "Bytes sent to the other hub again.", func(l *hub.LinkInfo) uint64 { return l.Resent }),
			newLinkCounter("gaps_total", "Frames of the other hub that came before one that was missing.", func(l *hub.LinkInfo) uint64 { return l.Gaps }),
			newLinkCounter("duplicates_total", "Frames of the other hub with nothing new.", func(l *hub.LinkInfo) uint64 { return l.Duplicates }),
			newLinkCounter("breaks_total", "How often the link was established and broke.", func(l *hub.LinkInfo) uint64 { return l.Breaks }),
		},
	}
}

func newLinkGauge(name, help string, value func(*hub.HubInfo) float64) linkMetric {
	return linkMetric{newDesc("link_"+name, help, "hub"), prometheus.GaugeValue, value}
}

func newLinkCounter(name, help string, value func(*hub.LinkInfo) uint64) linkMetric {
	return linkMetric{newDesc("link_"+name, help, "hub"), prometheus.CounterValue, func(i *hub.HubInfo) float64 { return float64(value(&i.Link)) }}
}

// Describe implements prometheus.Collector.
func (c *clusterCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.member
	ch <- c.hubs
	for _, m := range c.links {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *clusterCollector) Collect(ch chan<- prometheus.Metric) {
	member := 1.0
	if c.cluster.CheckMember() != nil {
		member = 0
	}
	ch <- prometheus.MustNewConstMetric(c.member, prometheus.GaugeValue, member, c.cluster.HubName)
	hubs := latestStarts(c.cluster.Hubs())
	states := make(map[string]int)
	for i := range hubs {
		h := &hubs[i]
		states[h.State]++
		if h.Self {
			continue
		}
		for _, m := range c.links {
			ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.value(h), hubLabel(h))
		}
	}
	for _, state := range hub.HubStates() {
		ch <- prometheus.MustNewConstMetric(c.hubs, prometheus.GaugeValue, float64(states[state]), state)
	}
}

// latestStarts returns the latest start of each hub, by name. A hub that was started again has a
// new number and the same name, so that the number of its series stays the same. This hub is always
// among them.
func latestStarts(hubs []hub.HubInfo) []hub.HubInfo {
	latest := slices.SortedFunc(slices.Values(hubs), func(a, b hub.HubInfo) int {
		return cmp.Or(cmp.Compare(hubLabel(&a), hubLabel(&b)), cmp.Compare(rank(&b), rank(&a)))
	})
	return slices.CompactFunc(latest, func(a, b hub.HubInfo) bool { return hubLabel(&a) == hubLabel(&b) })
}

// rank orders the hubs with one name: this hub above all others, and then by number.
func rank(h *hub.HubInfo) uint64 {
	if h.Self {
		return math.MaxUint64
	}
	return uint64(h.Node)
}

// hubLabel returns the value of the label hub: the name of a hub, or its number if it has none.
func hubLabel(h *hub.HubInfo) string {
	if h.Name == "" {
		return fmt.Sprintf("node %d", h.Node)
	}
	return h.Name
}
