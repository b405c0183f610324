import { useEffect, useRef, useState } from "preact/hooks";

import { Alerts } from "./alerts.js";
import { forgetToken, getSummary, readToken, storeToken } from "./api.js";
import { Client } from "./client.js";
import { Clients } from "./clients.js";
import { Header } from "./header.js";
import { History } from "./history.js";
import { usePolling } from "./hooks.js";
import { html } from "./html.js";
import { Message } from "./message.js";
import { Nodes } from "./nodes.js";
import { Plots } from "./plots.js";
import { Warnings } from "./warnings.js";

const interval = 1000; // between two summaries, in ms

export function App() {
  const history = useRef(new History()).current;
  const alerts = useRef(new Alerts()).current;
  const [, redraw] = useState(0);
  const [denied, setDenied] = useState(null); // the error of a request without the right token
  const [session, setSession] = useState(0); // increases with each token
  const [clientID, setClientID] = useState(null);
  const [message, setMessage] = useState(null); // the receivers of the form for a test message

  usePolling(
    async (isOver) => {
      let summary = null;
      try {
        summary = await getSummary();
      } catch (error) {
        if (error.status === 401 || error.status === 403) {
          if (!isOver()) setDenied(error);
          return;
        }
      }
      if (isOver()) return;
      setDenied(null);
      history.add(Date.now() / 1000, summary);
      redraw((n) => n + 1);
    },
    interval,
    [session],
    { background: true },
  );

  if (denied) {
    const login = (token) => {
      storeToken(token);
      setSession(session + 1);
    };
    return html`<${Login} error=${denied} key=${session} onToken=${login} />`;
  }
  if (history.samples.length === 0) return html`<main class="login"><p role="status">Waiting for the hub …</p></main>`;
  const now = Date.now() / 1000;
  const active = alerts.evaluate(history, now);
  document.title = `${active.length ? `(${active.length}) ` : ""}${location.host} – Message hub`;
  const logout = () => {
    forgetToken();
    location.reload();
  };
  return html`
    <${Header} history=${history} alerts=${active} onLogout=${readToken() && logout} onMessage=${() => setMessage([])} />
    <main>
      <${Warnings} alerts=${active} now=${now} />
      <${Nodes} history=${history} />
      <${Plots} history=${history} />
      <${Clients} history=${history} onOpen=${setClientID} />
    </main>
    ${clientID && html`<${Client} key=${clientID} id=${clientID} onClose=${() => setClientID(null)} onMessage=${setMessage} />`}
    ${message && html`<${Message} to=${message} onClose=${() => setMessage(null)} />`}
  `;
}

// The form for the token of the admin address.
function Login({ error, onToken }) {
  const input = useRef();
  const tried = readToken() !== null;
  useEffect(() => input.current?.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    const token = input.current.value.trim();
    if (token) onToken(token);
  };
  if (error.status === 403) {
    return html`<main class="login"><h1>Message hub</h1><p role="alert">The hub refuses this page: ${error.message}</p></main>`;
  }
  return html`
    <main class="login">
      <h1>Message hub</h1>
      <form onSubmit=${submit}>
        <label for="token">Token of the admin address</label>
        <input
          id="token"
          ref=${input}
          type="password"
          autocomplete="off"
          spellcheck=${false}
          required
          aria-describedby="token-help ${tried ? "token-error" : ""}"
          aria-invalid=${tried}
        />
        ${tried && html`<p id="token-error" class="error" role="alert">The hub does not accept this token.</p>`}
        <p id="token-help">The content of the file that -admin-token-file names. This tab keeps it until it is closed.</p>
        <button class="primary">Show the hub</button>
      </form>
    </main>
  `;
}
