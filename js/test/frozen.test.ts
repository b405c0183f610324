import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BarePage } from "./cdp.js";
import { servePages } from "./chromium.js";
import { startHub, type TestHub } from "./hub.js";
import { CuttingProxy } from "./proxy.js";

let server: TestHub;
let pages: { url: string; stop: () => void };
before(async () => {
  server = await startHub();
  pages = await servePages();
});
after(async () => {
  pages.stop();
  await server.stop();
});

/** Opens a page with a client that reads all messages, and writes down its states. */
async function openClient(url: string): Promise<BarePage> {
  const page = await BarePage.open(`${pages.url}/page`);
  await page.evaluate(`(async () => {
    while (!globalThis.api) await new Promise((resolve) => setTimeout(resolve, 10));
    globalThis.states = [];
    globalThis.events = [];
    globalThis.hub = await api.connect(${JSON.stringify(url)});
    hub.on("state", (state) => states.push([state, performance.now()]));
    hub.on("id", (id) => events.push(id));
    document.addEventListener("freeze", () => events.push("freeze"));
    document.addEventListener("resume", () => (events.push("resume"), (globalThis.resumedAt = performance.now())));
    (async () => {
      for await (const m of hub) m.ack();
    })();
  })()`);
  return page;
}

for (const [what, disturb] of [
  ["whose network works", () => {}], // Chromium closes its WebSocket nevertheless
  ["whose connection was reset", (proxy: CuttingProxy) => proxy.cut()],
  ["whose network has gone without a sign", (proxy: CuttingProxy) => proxy.stall()],
] as const) {
  test(`a frozen page ${what} is back within 1 s after it is resumed`, async (t) => {
    const proxy = await CuttingProxy.start(server.port);
    const page = await openClient(proxy.url);
    await page.freeze(2000, () => disturb(proxy));
    await page.evaluate(`new Promise((resolve) => {
      const look = () => (states.length > 1 ? resolve() : setTimeout(look, 10));
      look();
    })`);
    const { states, events, resumedAt } = await page.evaluate("({ states, events, resumedAt })");
    assert.deepEqual(events, ["freeze", "resume"], "the page was frozen once, and kept its id");
    assert.deepEqual(
      states.map(([state]: [string]) => state),
      ["reconnecting", "connected"],
    );
    const took = Math.round(states[1][1] - resumedAt);
    t.diagnostic(`${took} ms`);
    assert.ok(took < 1000, `${took} ms`);
    assert.deepEqual(await page.evaluate('hub.sendReport(hub.id, "").then((report) => report.list)'), ["received"]);
    await page.close();
    proxy.stop();
  });
}
