import { useRef, useState } from "preact/hooks";

import { disconnect, getClient } from "./api.js";
import { troubleOf } from "./clients.js";
import { Dialog } from "./dialog.js";
import { bytes, count, duration, number } from "./format.js";
import { usePolling } from "./hooks.js";
import { html } from "./html.js";

const interval = 1000; // between two requests, in ms

// One client: who it is, its rates since the last request, its fates, and its end.
export function Client({ id, onClose, onMessage }) {
  const [client, setClient] = useState(null);
  const [error, setError] = useState(null);
  const last = useRef(null); // { client, at, since }: the last sample, and since when nothing was read

  usePolling(
    async (isOver) => {
      try {
        const next = await getClient(id);
        if (isOver()) return;
        const at = Date.now() / 1000;
        const before = last.current;
        const moves = !before || before.client.bytes_out !== next.bytes_out || before.client.since !== next.since;
        last.current = { client: next, at, since: moves ? at : before.since };
        setClient({ ...next, rates: ratesOf(before, last.current), trouble: troubleOf(next, { at, since: last.current.since }) });
        setError(null);
      } catch (e) {
        if (!isOver()) setError(e);
      }
    },
    interval,
    [id],
  );

  const left = error?.status === 404;
  return html`
    <${Dialog} title="Client ${id}" name="client" onClose=${onClose}>
      ${left && html`<p role="status" class="gone">This client has left.</p>`}
      ${error && !left && html`<p class="error" role="alert">${error.message}</p>`}
      ${client && html`<${Details} client=${client} />`}
      ${client && !left && html`<${End} id=${id} onMessage=${() => onMessage([id])} />`}
    <//>
  `;
}

const counters = ["messages_in", "messages_out", "bytes_in", "bytes_out"];

// The rates between two samples of a connection, or null.
function ratesOf(before, after) {
  if (!before || before.client.since !== after.client.since) return null;
  const passed = after.at - before.at;
  return Object.fromEntries(counters.map((name) => [name, (after.client[name] - before.client[name]) / passed]));
}

function Details({ client: c }) {
  const fates = Object.entries(c.fates).filter(([, n]) => n > 0);
  const rate = (name, format) => (c.rates ? `${format(c.rates[name])}/s` : "–");
  const rows = [
    ["Name", c.name || "–"],
    ["Subject", c.subject || "–"],
    ["Address", c.address],
    ["Protocol", `version ${c.protocol}`],
    ["Connected", duration(Date.now() / 1000 - Date.parse(c.since) / 1000)],
    ["Queued", bytes(c.queued_bytes)],
  ];
  return html`
    ${c.trouble && html`<p role="status" data-severity=${c.trouble[0]}><strong class="badge">${c.trouble[1]}</strong></p>`}
    <dl class="details">${rows.map(([label, value]) => html`<div key=${label}><dt>${label}</dt><dd>${value}</dd></div>`)}</dl>
    <table>
      <caption>This connection</caption>
      <thead><tr><th></th><th scope="col" class="number">In</th><th scope="col" class="number">In, total</th><th scope="col" class="number">Out</th><th scope="col" class="number">Out, total</th></tr></thead>
      <tbody>
        <tr><th scope="row">Frames</th><td class="number">${rate("messages_in", number)}</td><td class="number">${count(c.messages_in)}</td><td class="number">${rate("messages_out", number)}</td><td class="number">${count(c.messages_out)}</td></tr>
        <tr><th scope="row">Bytes</th><td class="number">${rate("bytes_in", bytes)}</td><td class="number">${bytes(c.bytes_in)}</td><td class="number">${rate("bytes_out", bytes)}</td><td class="number">${bytes(c.bytes_out)}</td></tr>
      </tbody>
    </table>
    <table>
      <caption>Fates of its messages with a report</caption>
      <tbody>${fates.map(([fate, n]) => html`<tr key=${fate}><th scope="row">${fate}</th><td class="number">${count(n)}</td></tr>`)}</tbody>
    </table>
    ${fates.length === 0 && html`<p class="empty">It has requested no report.</p>`}
  `;
}

// The buttons that end a client, each after a question.
function End({ id, onMessage }) {
  const [reconnect, setReconnect] = useState(null); // the advice that waits for an answer
  const [error, setError] = useState(null);
  const end = async () => {
    try {
      await disconnect(id, reconnect);
      setError(null);
    } catch (e) {
      setError(e);
    }
    setReconnect(null);
  };
  const focus = (button) => button?.focus();
  if (reconnect !== null) {
    return html`
      <div class="actions" role="group" aria-label="Confirm">
        <p>${reconnect ? "End this connection and advise the client to reconnect?" : "End this client and advise it not to reconnect?"} Its session is lost.</p>
        <button class="danger" ref=${focus} key="yes" onClick=${end}>End client ${id}</button>
        <button key="no" onClick=${() => setReconnect(null)}>Keep it</button>
      </div>
    `;
  }
  return html`
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
    <div class="actions">
      <button key="message" onClick=${onMessage}>Send a test message</button>
      <button class="danger" key="again" onClick=${() => setReconnect(true)}>End, to reconnect</button>
      <button class="danger" key="end" onClick=${() => setReconnect(false)}>End</button>
    </div>
  `;
}
