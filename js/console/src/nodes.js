import definitions from "./alerts.json" with { type: "json" };
import { isSlow, nameOf } from "./cluster.js";
import { bytes, count, duration, number, seconds } from "./format.js";
import { html } from "./html.js";

const recent = 5; // seconds that the rates are measured over

const columns = [
  ["Round trip", (l) => (l.round_trip_seconds === null ? "–" : seconds(l.round_trip_seconds))],
  ["Lag", (l) => seconds(l.lag_seconds)],
  ["Under way", (l) => bytes(l.under_way_bytes)],
  ["Messages", (_, rate) => `${number(rate("messages"))}/s`, "wide"],
  ["Bytes", (_, rate) => `${bytes(rate("bytes"))}/s`, "wide"],
  ["Sent again", (l) => bytes(l.resent_bytes), "wide"],
];

// The hubs of the cluster, as this hub sees them; nothing if it is alone.
export function Nodes({ history }) {
  const cluster = history.summary?.cluster;
  return (
    cluster &&
    html`
      <section aria-labelledby="nodes-title">
        <div class="toolbar"><h2 id="nodes-title">Hubs of ${cluster.name}</h2></div>
        <div class="scroll" role="region" aria-labelledby="nodes-title" tabindex="0">
          <table>
            <thead>
              <tr><th scope="col">Hub</th><th scope="col">State</th><th scope="col" class="number">Clients</th>${columns.map(([title, , kind]) => html`<th scope="col" class="number ${kind}">${title}</th>`)}</tr>
            </thead>
            <tbody>${cluster.hubs.map((h) => html`<${Row} key=${h.node} hub=${h} history=${history} />`)}</tbody>
          </table>
        </div>
      </section>
    `
  );
}

function Row({ hub: h, history }) {
  const state = h.state === "up" && isSlow(h, definitions.MessageHubLinkIsSlow.limit) ? "slow" : h.state;
  const severity = { slow: "warning", connecting: "warning", lost: "critical" }[state];
  const rate = (name) => history.rate(recent, (s) => s.cluster?.hubs.find((other) => other.node === h.node)?.link[name] ?? 0);
  return html`
    <tr data-severity=${severity}>
      <th scope="row" title="node ${h.node} ${h.address} ${h.software}">${nameOf(h)}${h.self && html` <small>this hub</small>`}</th>
      <td><span class=${severity && "badge"}>${state}</span> ${duration(Date.now() / 1000 - Date.parse(h.since) / 1000)}</td>
      <td class="number">${count(h.clients)}</td>
      ${columns.map(([, text, kind]) => html`<td class="number ${kind}">${h.link && text(h.link, rate)}</td>`)}
    </tr>
  `;
}
