// What follows from the hubs of a cluster, as /api/summary has them.

// The hubs without those that were started again since, under another number.
export const latest = (cluster) => cluster.hubs.filter((h) => !cluster.hubs.some((other) => h.name && other.name === h.name && (other.self || other.node > h.node) && !h.self));

export const nameOf = (hub) => hub.name || `node ${hub.node}`;

export const isSlow = ({ link }, limit) => link && (link.lag_seconds > limit || link.round_trip_seconds > limit / 2);
