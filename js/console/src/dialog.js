import { useEffect, useRef } from "preact/hooks";

import { html } from "./html.js";

// A modal dialog. The browser keeps the focus in it, closes it with Escape, and gives the focus back.
export function Dialog({ title, name, onClose, children }) {
  const dialog = useRef();
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  const closeBehind = (event) => event.target === dialog.current && dialog.current.close();
  return html`
    <dialog ref=${dialog} class=${name} aria-labelledby="${name}-title" onClose=${onClose} onClick=${closeBehind}>
      <div class="content">
        <div class="toolbar">
          <h2 id="${name}-title">${title}</h2>
          <button onClick=${() => dialog.current.close()}>Close</button>
        </div>
        ${children}
      </div>
    </dialog>
  `;
}
