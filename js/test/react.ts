// A page of React that the browser tests open.
import { createElement, StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { useHub } from "./usehub.js";

const urls: string[] = [];
Object.assign(globalThis, { urls });
globalThis.WebSocket = class extends WebSocket {
  constructor(url: string | URL, protocols?: string | string[]) {
    super(url, protocols);
    urls.push(String(url));
  }
};

function Echo() {
  const hub = useHub(new URLSearchParams(location.search).get("hub") ?? "");
  const [text, setText] = useState("");
  useEffect(() => {
    if (!hub) return;
    void hub.send(hub.id, "hello");
    void (async () => {
      for await (const m of hub) setText(m.text());
    })();
  }, [hub]);
  return createElement("p", null, text);
}

const root = createRoot(document.getElementById("root") as HTMLElement);
root.render(createElement(StrictMode, null, createElement(Echo)));
Object.assign(globalThis, { unmount: () => root.unmount() });
