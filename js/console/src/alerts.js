// The alerts of deploy/prometheus/alerts.yml, evaluated over the history of the page. A test compares
// alerts.json with that file.

import definitions from "./alerts.json" with { type: "json" };
import { isSlow, latest, nameOf } from "./cluster.js";
import { bytes, duration, number, percent, seconds } from "./format.js";

const window = 5 * 60; // of the rates in the alerts, in seconds

const sum = (counts, names) => names.reduce((total, name) => total + (counts[name] ?? 0), 0);
const sumAll = (counts) => Object.values(counts).reduce((a, b) => a + b, 0);

// The largest rate of the reasons of a counter, for alerts on each of several reasons.
function worst(history, field, reasons) {
  return reasons
    .map((reason) => ({ reason, rate: history.rate(window, (s) => s[field][reason] ?? 0) }))
    .reduce((a, b) => (b.rate > a.rate ? b : a));
}

// Each function returns what the operator reads if its condition holds, and otherwise undefined.
const conditions = {
  MessageHubDown: (h, _, now) => h.silentSince !== null && `The hub has not answered for ${duration(now - h.silentSince)}.`,
  MessageHubRestarted: (h, limit) =>
    h.restartedAt !== null && h.summary.uptime_seconds < limit && `The hub was restarted ${duration(h.summary.uptime_seconds)} ago.`,
  MessageHubRefusesClients: (h, limit) => {
    const rate = h.rate(window, (s) => s.refused["too many clients"] ?? 0);
    return rate > limit && `The hub is full: it refuses ${number(rate)} clients a second.`;
  },
  MessageHubRefusesAddresses: (h, limit) => {
    const { rate, reason } = worst(h, "refused", ["too many from its address", "too fast from its address"]);
    return rate > limit && `The hub refuses ${number(rate)} connections a second: ${reason}.`;
  },
  MessageHubHandshakesFail: (h, limit) => {
    const { rate, reason } = worst(h, "disconnections", ["no handshake", "refused"]);
    return rate > limit && `${number(rate)} connections a second end in their handshake: ${reason}.`;
  },
  MessageHubCertificateEnds: (h, limit, now) => {
    const left = secondsToExpiry(h, now);
    return left < limit && left > 0 && `The certificate of the hub expires in ${duration(left)}.`;
  },
  MessageHubCertificateOver: (h, limit, now) => secondsToExpiry(h, now) <= limit && "The certificate of the hub has expired.",
  MessageHubCannotAccept: (h, limit) => h.rate(window, (s) => s.accept_errors) > limit && "The hub cannot accept connections.",
  MessageHubNearItsFiles: (h, limit) => {
    const used = h.summary.open_files / h.summary.open_files_max;
    return used > limit && `${percent(used)} of the files that the hub can open are open.`;
  },
  MessageHubNearItsMemory: (h, limit) => {
    const used = h.summary.queued_bytes / h.summary.queued_bytes_limit;
    return used > limit && `The hub holds ${bytes(h.summary.queued_bytes)} for clients, ${percent(used)} of its limit.`;
  },
  MessageHubClientsStall: (h, limit) => {
    const { rate, reason } = worst(h, "disconnections", ["stalled", "too slow for the memory it held"]);
    return rate > limit && `Clients do not read: ${number(rate * window)} were disconnected in 5 minutes (${reason}).`;
  },
  MessageHubMessagesExpire: (h, limit) => {
    const lost = h.rate(window, (s) => sum(s.fates, ["full", "expired", "uncertain"]));
    const share = lost / h.rate(window, (s) => sumAll(s.fates));
    return share > limit && `${percent(share)} of the reported deliveries met a full queue, expired or are uncertain.`;
  },
  MessageHubIsSlow: (h, limit) => {
    const p99 = h.quantile(0.99, window);
    return p99 !== null && p99 > limit && `One delivery in 100 takes more than ${seconds(p99)}.`;
  },
  MessageHubNotMember: ({ summary: { cluster } }) => cluster?.error && `The hub accepts no new clients: ${cluster.error}.`,
  MessageHubLost: ({ summary }, limit) => {
    const { lost, isCutOff } = lostBy(summary);
    return lost.length > limit && !isCutOff && `The cluster has lost ${names(lost)}.`;
  },
  MessageHubPartition: ({ summary }) => {
    const { lost, isCutOff } = lostBy(summary);
    return isCutOff && `This hub has lost ${names(lost)}.`;
  },
  MessageHubLinkIsSlow: ({ summary }, limit) => {
    const slow = hubsOf(summary).filter((h) => isSlow(h, limit));
    return slow.length && `The link is slow to ${names(slow)}.`;
  },
};

// The hubs that the hub of the page knows something of: without NATS, all others are lost to it.
const hubsOf = ({ cluster }) => (cluster && !cluster.error ? latest(cluster) : []);

// The hubs that are lost to the hub of the page. If it has lost all of several others, most likely it
// is cut off.
function lostBy(summary) {
  const hubs = hubsOf(summary);
  const lost = hubs.filter((h) => h.state === "lost");
  return { lost, isCutOff: lost.length > 1 && lost.length === hubs.length - 1 };
}

const names = (hubs) => hubs.map(nameOf).join(", ");

function secondsToExpiry(history, now) {
  const expiry = history.summary.certificate_not_after;
  return expiry === null ? NaN : Date.parse(expiry) / 1000 - now;
}

// Alerts keeps since when each condition holds.
export class Alerts {
  since = new Map();

  // The alerts whose condition holds now, the worst first: { name, severity, text, tile, since,
  // fires }. fires is the time at which Prometheus would send the alert.
  evaluate(history, now) {
    const active = [];
    for (const [name, { severity, for: hold, limit, tile }] of Object.entries(definitions)) {
      const text = (history.summary || name === "MessageHubDown") && conditions[name](history, limit, now);
      if (!text) {
        this.since.delete(name);
        continue;
      }
      if (!this.since.has(name)) this.since.set(name, now);
      const since = this.since.get(name);
      active.push({ name, severity, text, tile, since, fires: since + hold });
    }
    return active.sort((a, b) => severities.indexOf(b.severity) - severities.indexOf(a.severity));
  }
}

const severities = ["info", "warning", "critical"];

// The worst severity among alerts for a tile, or undefined.
export function severityOf(alerts, tile) {
  return alerts.find((a) => a.tile === tile)?.severity;
}
