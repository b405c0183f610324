import { useEffect, useRef, useState } from "preact/hooks";

import { listClients } from "./api.js";
import { bytes, count, duration, number } from "./format.js";
import { html } from "./html.js";

const maxAge = 5; // seconds until an unchanged list is requested again: the rates in it are as old
const searchInterval = 2; // seconds between two requests for a list that is filtered or in another order
const pageSize = 25; // clients
const slowBytes = 64 << 10; // queued for a slow receiver, as in the runbook
const stalledAfter = 0.9; // seconds without a byte for a receiver that counts as stalled

const columns = [
  { title: "Client", sort: "id" },
  { title: "Name", sort: null },
  { title: "Subject", sort: null, wide: true },
  { title: "Address", sort: null, wide: true },
  { title: "Connected", sort: null, wide: true },
  { title: "Queued", sort: "queued_bytes" },
  { title: "Frames in", sort: "messages_in_per_second", wide: true },
  { title: "Frames out", sort: "messages_out_per_second", wide: true },
  { title: "Bytes in", sort: "bytes_in_per_second", wide: true },
  { title: "Bytes out", sort: "bytes_out_per_second", wide: true },
];

export function Clients({ history, onOpen }) {
  const [list, setList] = useState(null);
  const [error, setError] = useState(null);
  const [filter, setFilter] = useState("");
  const [sort, setSort] = useState("queued_bytes");
  const [page, setPage] = useState(0);
  const progress = useRef(new Map()).current; // by id: what the client had read, and since when
  const body = useRef(); // of the table
  const request = useRef({}).current; // the last one: { key, busy, at, summary }

  // Runs after each sample of the history, and after each input. A list costs the hub a look at all
  // its clients, so it is not requested while nothing can have changed in it.
  useEffect(() => {
    const query = { sort, filter, offset: page * pageSize, limit: pageSize };
    const { at, summary } = history.last;
    const key = JSON.stringify(query);
    if (document.hidden || !summary || (request.key === key && (request.busy || !isDue(query, request, at, summary)))) return;
    Object.assign(request, { key, busy: true, at, summary });
    listClients(query)
      .then((next) => {
        if (request.key !== key) return; // of an earlier input
        recordProgress(progress, next.clients, Date.now() / 1000);
        // A row must not move away from the pointer or take the focus with it.
        const used = body.current?.matches(":hover, :focus-within") && list?.key === key;
        setList({ ...next, key, clients: used ? inOrderOf(list.clients, next.clients) : next.clients });
        setError(null);
        if (next.clients.length === 0 && page > 0) setPage(Math.max(0, Math.ceil(next.matched / pageSize) - 1));
      })
      .catch((e) => request.key === key && setError(e))
      .finally(() => request.key === key && (request.busy = false));
  });

  const change = (set) => (value) => {
    set(value);
    setPage(0);
  };
  return html`
    <section class="clients" aria-labelledby="clients-title">
      <div class="toolbar">
        <h2 id="clients-title">Clients</h2>
        <label class="filter">
          <span class="hidden">Filter by id, name, subject or address</span>
          <input type="search" placeholder="Filter by id, name, subject or address" maxlength="100" value=${filter} onInput=${(e) => change(setFilter)(e.target.value)} />
        </label>
        <${Pager} list=${list} page=${page} announce=${filter !== ""} onPage=${setPage} />
      </div>
      ${error && error.status !== 0 && html`<p class="error" role="alert">${error.message}</p>`}
      <div class="scroll" role="region" aria-labelledby="clients-title" tabindex="0">
        <table>
          <thead>
            <tr>${columns.map((c) => html`<${Heading} key=${c.title} column=${c} sort=${sort} onSort=${change(setSort)} />`)}</tr>
          </thead>
          <tbody ref=${body}>
            ${list?.clients.map((c) => html`<${Row} key=${c.id} client=${c} progress=${progress.get(c.id)} largest=${largestOf(list)} onOpen=${onOpen} />`)}
          </tbody>
        </table>
        ${list?.clients.length === 0 && html`<p class="empty">${filter ? "No client matches the filter." : "No client is connected."}</p>`}
      </div>
    </section>
  `;
}

// Whether the list can differ from that of the last request.
function isDue(query, last, at, summary) {
  const age = at - last.at;
  if (age === 0) return false; // the answer to the last request was drawn
  if (query.sort !== "queued_bytes" || query.filter) return age >= searchInterval;
  const changed = ["started", "clients", "connections", "resumptions"].some((name) => summary[name] !== last.summary[name]);
  return changed || summary.queued_bytes >= slowBytes || age >= maxAge;
}

// The clients in the order that they had before, and behind them those that were not there.
function inOrderOf(before, clients) {
  const places = new Map(before.map((c, i) => [c.id, i]));
  const place = (c) => places.get(c.id) ?? before.length;
  return clients.toSorted((a, b) => place(a) - place(b));
}

const largestOf = (list) => Math.max(slowBytes, ...list.clients.map((c) => c.queued_bytes));

// Records since when each client has not read anything, for the clients of the page.
function recordProgress(progress, clients, now) {
  const ids = new Set(clients.map((c) => c.id));
  for (const id of progress.keys()) if (!ids.has(id)) progress.delete(id);
  for (const c of clients) {
    const before = progress.get(c.id);
    const moves = !before || before.bytes !== c.bytes_out || c.queued_bytes < slowBytes;
    progress.set(c.id, { bytes: c.bytes_out, since: moves ? now : before.since, at: now });
  }
}

// What is wrong with a client that others may wait for: [severity, text], or null.
export function troubleOf(client, progress) {
  if (client.detached) return ["info", "detached"];
  if (client.queued_bytes < slowBytes) return null;
  const idle = progress ? progress.at - progress.since : 0;
  return idle >= stalledAfter ? ["critical", idle < 1 ? "reads nothing" : `reads nothing for ${duration(idle)}`] : ["warning", "slow"];
}

function Heading({ column: { title, sort: key, wide }, sort, onSort }) {
  const kind = `${wide ? "wide" : ""} ${key && key !== "id" ? "number" : ""}`;
  if (!key) return html`<th scope="col" class=${kind}>${title}</th>`;
  const active = sort === key;
  return html`
    <th scope="col" class=${kind} aria-sort=${active ? (key === "id" ? "ascending" : "descending") : undefined}>
      <button class="sort" title="Sort the clients by this column" onClick=${() => onSort(key)}>${title}<span aria-hidden="true">${active ? (key === "id" ? " ▴" : " ▾") : ""}</span></button>
    </th>
  `;
}

const rate = (value, format) => (value === null ? "–" : `${format(value)}/s`);

function Row({ client: c, progress, largest, onOpen }) {
  const trouble = troubleOf(c, progress);
  return html`
    <tr data-severity=${trouble?.[0]} onClick=${() => onOpen(c.id)}>
      <th scope="row"><button class="link" onClick=${() => onOpen(c.id)}>${c.id}</button></th>
      <td class="name"><div><span class="text" title=${c.name}>${c.name}</span>${trouble && html` <strong class="badge">${trouble[1]}</strong>`}</div></td>
      <td class="text wide" title=${c.subject}>${c.subject}</td>
      <td class="text wide">${c.address}</td>
      <td class="wide">${duration(Date.now() / 1000 - Date.parse(c.since) / 1000)}</td>
      <td class="number queued">${c.queued_bytes > 0 && html`<meter min="0" max=${largest} value=${c.queued_bytes} aria-hidden="true"></meter>`}${bytes(c.queued_bytes)}</td>
      <td class="number wide">${rate(c.messages_in_per_second, number)}</td>
      <td class="number wide">${rate(c.messages_out_per_second, number)}</td>
      <td class="number wide">${rate(c.bytes_in_per_second, bytes)}</td>
      <td class="number wide">${rate(c.bytes_out_per_second, bytes)}</td>
    </tr>
  `;
}

// The part of the list that is shown. While the operator filters it is announced to screen readers;
// otherwise it changes too often.
function Pager({ list, page, announce, onPage }) {
  if (!list) return null;
  const first = page * pageSize;
  const range = list.matched === 0 ? "0" : `${count(first + 1)}–${count(first + list.clients.length)}`;
  return html`
    <nav class="pager" aria-label="Pages of clients">
      <span aria-live=${announce ? "polite" : "off"} aria-atomic="true" class="range">${range} of ${count(list.matched)}</span>
      <button disabled=${page === 0} onClick=${() => onPage(page - 1)}>Previous</button>
      <button disabled=${!list.more} onClick=${() => onPage(page + 1)}>Next</button>
    </nav>
  `;
}
