import { severityOf } from "./alerts.js";
import { bytes, count, duration, number, percent, seconds } from "./format.js";
import { html } from "./html.js";

const recent = 5; // seconds that the rates in the header are measured over
const latencyWindow = 60; // seconds that p99 is measured over

export function Header({ history, alerts, onLogout, onMessage }) {
  const s = history.summary;
  const rate = (read) => history.increase(recent, read) / Math.max(1, Math.min(recent, span(history, recent)));
  const p99 = history.quantile(0.99, latencyWindow);
  const used = s && s.queued_bytes / s.queued_bytes_limit;
  const silent = history.silentSince !== null;
  const tiles = s && [
    ["clients", "Clients", count(s.clients), `peak ${count(s.clients_peak)}`],
    ["deliveries", "Deliveries", perSecond(number(rate((x) => x.delivered))), `${perSecond(number(rate((x) => x.messages_in)))} frames in`],
    ["bytes", "Bytes out", perSecond(bytes(rate((x) => x.bytes_out))), `${perSecond(bytes(rate((x) => x.bytes_in)))} in`],
    ["queued", "Queued", bytes(s.queued_bytes), `${percent(used)} of ${bytes(s.queued_bytes_limit)}`, used],
    ["latency", "Latency p99", p99 === null ? "–" : seconds(p99), s.latency ? "of the last minute" : "not measured"],
    ["uptime", "Uptime", duration(s.uptime_seconds), silent ? "no answer" : (s.error ?? (s.draining ? "shutting down" : "healthy"))],
    ["version", "Version", versionNumber(s.version), versionDetail(s)],
  ];
  return html`
    <header>
      <div class="bar">
        <h1><img src="icon.svg" alt="" width="20" height="20" /> Message hub <span class="host">${location.host}</span></h1>
        <${State} history=${history} summary=${s} />
        <button onClick=${onMessage}>Send a test message</button>
        ${onLogout && html`<button onClick=${onLogout}>Forget the token</button>`}
      </div>
      ${tiles && html`<dl class="tiles ${silent ? "stale" : ""}" aria-label="State of the hub">${tiles.map((tile) => html`<${Tile} key=${tile[0]} tile=${tile} severity=${severityOf(alerts, tile[0])} />`)}</dl>`}
    </header>
  `;
}

// Whether the hub answers.
function State({ history, summary }) {
  const [state, text] =
    history.silentSince !== null ? ["critical", "no answer, trying again"]
    : summary.error ? ["critical", "not healthy"]
    : summary.draining ? ["warning", "shutting down"]
    : ["good", "live"];
  return html`<p class="live" data-severity=${state} role="status">${text}</p>`;
}

function Tile({ tile: [name, label, value, detail, share], severity }) {
  return html`
    <div class="tile" id="tile-${name}" data-severity=${severity}>
      <dt>${label}${severity && html`<span class="hidden">, ${severity}</span>`}</dt>
      <dd title=${value}>${value}</dd>
      <dd class="detail">${detail}</dd>
      ${share !== undefined && html`<meter min="0" max="1" low="0.8" high="0.95" optimum="0" value=${share} aria-label="Queued, of the limit"></meter>`}
    </div>
  `;
}

const perSecond = (text) => `${text}/s`;

// The seconds between the first and the last sample, at most limit.
function span(history, limit) {
  const window = history.window(limit);
  return window.length > 1 ? window.at(-1).at - window[0].at : 0;
}

// The number of a version such as "v1.2.3 (0123456789ab)" or "v0.0.0-20260102030405-0123456789ab".
function versionNumber(version) {
  return version.split(/[-+ ]/)[0].replace(/[()]/g, "") || "unknown";
}

// The commit of a version, and whether the hub uses TLS.
function versionDetail({ version, certificate_not_after: expiry }) {
  const tls = expiry === null ? "no TLS" : `TLS until ${expiry.slice(0, 10)}`;
  const [commit] = version.match(/\b[0-9a-f]{12}\b/) ?? [];
  return commit ? `${commit.slice(0, 7)}, ${tls}` : tls;
}
