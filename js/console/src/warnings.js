import runbooks from "runbooks";

import { duration } from "./format.js";
import { html } from "./html.js";

// The warnings, each with a link to what to do. The link opens another tab, because the history of
// this one would be lost.
export function Warnings({ alerts, now }) {
  return html`
    <section aria-label="Warnings" class="warnings ${alerts.length ? "" : "hidden"}">
      <ul aria-live="polite" aria-relevant="additions">
        ${alerts.map(
          ({ name, severity, text, since, fires }) => html`
            <li key=${name} data-severity=${severity}>
              <strong class="badge">${severity}</strong>
              <span>${text}</span>
              <a href=${runbooks[name].href} target="_blank" rel="noopener">${runbooks[name].title}<span class="hidden"> (opens another tab)</span></a>
              <small aria-live="off">${name}, ${now < fires ? `fires in ${duration(fires - now + 1)}` : `for ${duration(now - since)}`}</small>
            </li>
          `,
        )}
      </ul>
    </section>
  `;
}
