// clusterWith returns a healthy cluster of the hub a with others, each with these fields instead of its
// own.
export function clusterWith(...others) {
  const hub = { address: "", software: "", state: "up", since: "2026-01-01T00:00:00Z", started: "2026-01-01T00:00:00Z", clients: 1, clock_difference_seconds: 0, self: false };
  const link = {
    round_trip_seconds: 0.001, lag_seconds: 0, under_way_bytes: 0, batches_waited: 0, batches: 0, messages: 0, bytes: 0,
    frames_sent: 0, frames_received: 0, resent_bytes: 0, gaps: 0, duplicates: 0, breaks: 0,
  };
  return {
    name: "production",
    error: null,
    hubs: [
      { ...hub, node: 1, name: "a", self: true, link: null },
      ...others.map((fields, i) => ({ ...hub, node: i + 2, name: "bcdef"[i], ...fields, link: { ...link, ...fields.link } })),
    ],
  };
}

// summaryWith returns a summary of a healthy hub, with these fields instead of its own.
export function summaryWith(fields) {
  return {
    version: "v1.2.3",
    started: "2026-01-01T00:00:00Z",
    uptime_seconds: 86_400,
    error: null,
    draining: false,
    clients: 10,
    clients_peak: 20,
    connections: 0,
    resumptions: 0,
    refused: {},
    disconnections: {},
    accept_errors: 0,
    messages_in: 0,
    messages_out: 0,
    bytes_in: 0,
    bytes_out: 0,
    delivered: 0,
    dropped: {},
    fates: {},
    queued_bytes: 0,
    queued_bytes_peak: 0,
    queued_bytes_limit: 1000,
    latency: { bounds: [0.001, 1, 2.5], counts: [0, 0, 0, 0] },
    open_files: 10,
    open_files_max: 1000,
    certificate_not_after: null,
    cluster: null,
    ...fields,
  };
}
