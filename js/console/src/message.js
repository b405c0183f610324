import { useState } from "preact/hooks";

import { sendMessage } from "./api.js";
import { Dialog } from "./dialog.js";
import { seconds } from "./format.js";
import { html } from "./html.js";

const timeout = 5000; // of the report, in ms

const levels = [
  ["written", "written to the socket"],
  ["received", "received by the program"],
  ["processed", "processed by the application"],
];

// What each fate says about a test message.
const good = new Set(["written", "received", "processed"]);

// The form for a test message, and its fates.
export function Message({ to, onClose }) {
  const [state, setState] = useState({}); // { busy, error, report, took }
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const ids = form.get("to").split(/[\s,;]+/).filter(Boolean);
    setState({ busy: true });
    const start = performance.now();
    try {
      const report = await sendMessage({ to: ids, body: form.get("body"), level: form.get("level"), timeout_ms: timeout });
      setState({ report, took: (performance.now() - start) / 1000 });
    } catch (error) {
      setState({ error });
    }
  };
  return html`
    <${Dialog} title="Send a test message" name="message" onClose=${onClose}>
      <form onSubmit=${submit}>
        <label>Receivers <input name="to" required autofocus autocomplete="off" placeholder="ids, separated by spaces" defaultValue=${to.join(" ")} /></label>
        <label>Text <input name="body" autocomplete="off" maxlength="1000" defaultValue="test message of the operator" /></label>
        <label>
          Report when it is
          <select name="level">${levels.map(([value, text]) => html`<option key=${value} value=${value} selected=${value === "received"}>${text}</option>`)}</select>
        </label>
        <p class="help">Each receiver gets it as a message of client 18446744073709551615, an id that no client has. A receiver whose queue is full does not get it.</p>
        <button class="primary" disabled=${state.busy}>${state.busy ? "Waiting for the report …" : "Send"}</button>
      </form>
      <div aria-live="polite">
        ${state.error && html`<p class="error">${state.error.message}</p>`}
        ${state.report && html`<${Fates} report=${state.report} took=${state.took} />`}
      </div>
    <//>
  `;
}

function Fates({ report, took }) {
  return html`
    <table class="fates">
      <caption>Fates, after ${seconds(took)}</caption>
      <thead><tr><th scope="col">Receiver</th><th scope="col">Fate</th></tr></thead>
      <tbody>
        ${report.fates.map(({ id, fate }, i) => html`<tr key=${i}><th scope="row">${id}</th><td data-severity=${good.has(fate) ? "good" : "warning"}><strong class="badge">${fate}</strong></td></tr>`)}
      </tbody>
    </table>
  `;
}
