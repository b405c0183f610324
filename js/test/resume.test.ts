import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { type Browser, startBrowser } from "./chromium.js";
import { startHub } from "./hub.js";
import type { PageAPI } from "./page.js";
import { CuttingProxy } from "./proxy.js";
import { Peer, type Seen } from "./traffic.js";

declare const api: PageAPI;

/** The number of clients of each kind, of pages, and of cuts of each client. */
const clients = 100;
const pages = 5;
const cuts = 10;

/** The messages of each client to each of its receivers, and the milliseconds between them. */
const messages = 60;
const interval = 40;

/** A group of clients in one place: in this process, or in a page. */
interface Group {
  join(urls: string[]): Promise<string[]>;
  send(to: string[][]): Promise<void>;
  close(): Promise<Seen[]>;
}

function nodeGroup(): Group {
  const peers: Peer[] = [];
  return {
    async join(urls) {
      peers.push(...(await Promise.all(urls.map((url) => Peer.connect(url, { WebSocket })))));
      return peers.map((peer) => peer.hub.id);
    },
    send: async (to) =>
      void (await Promise.all(peers.map((peer, i) => peer.send(to[i] as string[], messages, interval)))),
    close: () => Promise.all(peers.map((peer) => peer.close())),
  };
}

async function pageGroup(browser: Browser): Promise<Group> {
  const page = await browser.open();
  return {
    join: (urls) => page.evaluate((urls) => api.join(urls), urls),
    send: (to) => page.evaluate(([to, n, interval]) => api.send(to, n, interval), [to, messages, interval] as const),
    close: () => page.evaluate(() => api.close()),
  };
}

/** Cuts a client ten times while it is connected, at random moments. */
async function cutRepeatedly(proxy: CuttingProxy): Promise<void> {
  while (proxy.cuts < cuts) {
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 200));
    if (proxy.isReady) proxy.cut();
  }
}

test(`${clients} clients in Node and ${clients} in Chromium, each cut ${cuts} times: every message arrives once and in order, every fate is true`, async (t) => {
  const hub = await startHub();
  const browser = await startBrowser();
  const groups = [nodeGroup(), ...(await Promise.all(Array.from({ length: pages }, () => pageGroup(browser))))];
  const sizes = groups.map((_, i) => (i === 0 ? clients : clients / pages));
  const proxies = await Promise.all(Array.from({ length: 2 * clients }, () => CuttingProxy.start(hub.port)));
  let next = 0;
  const urls = sizes.map((size) => proxies.slice(next, (next += size)).map((proxy) => proxy.url));
  const ids = await Promise.all(groups.map((group, i) => group.join(urls[i] as string[])));

  const all = ids.flat();
  const receiversOf = (i: number) => [1, 67, 101].map((step) => all[(i + step) % all.length] as string);
  next = 0;
  const to = ids.map((group) => group.map(() => receiversOf(next++)));
  await Promise.all([...groups.map((group, i) => group.send(to[i] as string[][])), ...proxies.map(cutRepeatedly)]);
  const seen = (await Promise.all(groups.map((group) => group.close()))).flat();

  const expected = Array.from({ length: messages }, (_, i) => i);
  assert.equal(seen.length, 2 * clients);
  seen.forEach((s, i) => {
    const senders = all.filter((_, j) => receiversOf(j).includes(all[i] as string));
    assert.deepEqual(Object.keys(s.received).sort(), senders.sort(), `senders to client ${i}`);
    for (const sender of senders)
      assert.deepEqual(s.received[sender], expected, `messages from ${sender} to client ${i}`);
    assert.deepEqual(s.fates, { received: 3 * messages }, `fates of client ${i}`);
    assert.deepEqual(s.ids, [], `new ids of client ${i}`);
    assert.ok(s.connections > 1, `connections of client ${i}`);
  });
  t.diagnostic(
    `${seen.reduce((sum, s) => sum + s.connections - 1, 0)} resumes, ${proxies.reduce((sum, p) => sum + p.cuts, 0)} cuts`,
  );
  for (const proxy of proxies) proxy.stop();
  await browser.close();
  await hub.stop();
});
