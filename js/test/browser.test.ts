import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import type { Hub } from "message-hub";
import type { Page } from "playwright-core";
import { type Browser, startBrowser } from "./chromium.js";
import { startHub, type TestHub } from "./hub.js";
import type { PageAPI } from "./page.js";
import { CuttingProxy } from "./proxy.js";

declare const api: PageAPI;
declare let hub: Hub;

/** What a page writes down about its client. */
interface Log {
  states: [state: string, time: number][];
  ids: string[];
}
declare const log: Log;

let server: TestHub;
let browser: Browser;
before(async () => {
  server = await startHub();
  browser = await startBrowser();
});
after(async () => {
  await browser.close();
  await server.stop();
});

/** Opens a page with a client that reads all messages. */
async function openClient(url: string): Promise<Page> {
  const page = await browser.open();
  await page.evaluate(async (url) => {
    const log: Log = { states: [], ids: [] };
    Object.assign(globalThis, { log, hub: await api.connect(url) });
    hub.on("state", (state) => log.states.push([state, performance.now()]));
    hub.on("id", (id) => log.ids.push(id));
    void (async () => {
      for await (const m of hub) m.ack();
    })();
  }, url);
  return page;
}

test("a page that is offline connects again when it is online", async () => {
  const proxy = await CuttingProxy.start(server.port);
  const page = await openClient(proxy.url);
  await browser.context.setOffline(true);
  proxy.cut();
  await page.waitForFunction(() => hub.state === "reconnecting");
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await browser.context.setOffline(false);
  await page.waitForFunction(() => hub.state === "connected", undefined, { timeout: 2000 });
  assert.deepEqual((await page.evaluate(() => log)).ids, []);
  await page.close();
  proxy.stop();
});

test("the hook for React opens one socket in StrictMode, and closes it", async () => {
  assert.ok(
    readFileSync("README.md", "utf8").includes(readFileSync("test/usehub.ts", "utf8")),
    "README.md shows another hook",
  );
  const page = await browser.open(`react?hub=${encodeURIComponent(server.url)}`);
  await page.getByText("hello").waitFor();
  const sockets = () => page.evaluate("urls");
  assert.deepEqual(await sockets(), [server.url]);
  await page.evaluate("unmount()");
  assert.deepEqual(await sockets(), [server.url]);
  await page.close();
});

test("the chat of examples/web/ shows fates as ticks", async () => {
  const server = await startHub(); // without the closed pages of other tests
  const open = async (name: string) => {
    const page = await browser.open(`examples/web/?hub=${encodeURIComponent(server.url)}`);
    await page.locator("#state[data-state=connected]").waitFor();
    await page.locator("#name").fill(name);
    return page;
  };
  const [ann, bob] = [await open("Ann"), await open("Bob")];
  await ann.getByText(/others: [1-9]/).waitFor();
  await ann.locator("#text").fill("<b>hi</b>");
  await ann.locator("#text").press("Enter");
  await bob.getByText("Ann: <b>hi</b>").waitFor();
  await ann.locator(".ticks[data-all=true]", { hasText: "✓✓" }).waitFor();
  assert.match((await ann.locator(".ticks").getAttribute("title")) ?? "", /^\d+: processed$/m);

  const other = await openClient(server.url); // such as hubctl
  const id = /you are (\d+)/.exec(await ann.locator("#clients").innerText())?.[1] ?? "";
  const fate = other.evaluate(async (id) => (await hub.sendReport(id, "<i>hi</i>", { level: "processed" })).list, id);
  await ann.getByText("<i>hi</i>", { exact: true }).waitFor();
  assert.deepEqual(await fate, ["processed"]);

  await ann.getByText("others: 2").waitFor();
  await bob.close(); // it leaves at once, and not when the resume window is over
  await ann.getByText("others: 1").waitFor({ timeout: 5000 });
  await Promise.all([ann.close(), other.close()]);
  await server.stop();
});

test("the chat of examples/web/ says what to check if there is no connection", async () => {
  const page = await browser.open(`examples/web/?hub=${encodeURIComponent("ws://127.0.0.1:1/connect")}`);
  await page.getByText(`-web-origins=${new URL(page.url()).origin}?`).waitFor();
  await page.close();
});
