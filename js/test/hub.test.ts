import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { connect, type ConnectOptions, type Hub, type Message } from "message-hub";
import { WebSocket } from "ws";
import { startHub, type TestHub } from "./hub.js";
import { CuttingProxy } from "./proxy.js";

let server: TestHub;
before(async () => {
  server = await startHub();
});
after(() => server.stop());

function join2(options: ConnectOptions = {}, url = server.url): Promise<Hub> {
  return connect(url, { WebSocket, ...options });
}

/** Reads n messages. */
async function read(hub: Hub, n: number, onMessage = (_: Message) => {}): Promise<Message[]> {
  const messages: Message[] = [];
  for await (const m of hub) {
    messages.push(m);
    onMessage(m);
    if (messages.length === n) break;
  }
  return messages;
}

test("clients send to each other, with fates at each level", async () => {
  const [a, b] = await Promise.all([join2({ name: "a" }), join2()]);
  const reading = read(b, 4, (m) => (m.text() === "bad" ? m.nak() : m.ack()));
  await a.send([b.id, a.id], "hello");
  assert.equal((await a.sendReport(b.id, "x", { level: "written" })).fates.get(b.id), "written");
  const received = await a.sendReport([b.id, "77"], new Uint8Array([1, 2]));
  assert.deepEqual(received.list.slice(1), ["unknown"]);
  assert.ok(["received"].includes(received.list[0] as string));
  const rejected = a.sendReport(b.id, "bad", { level: "processed" });
  const messages = await reading;
  assert.deepEqual(
    messages.map((m) => m.from),
    [a.id, a.id, a.id, a.id],
  );
  assert.deepEqual([messages[0]?.text(), messages[2]?.body], ["hello", new Uint8Array([1, 2])]);
  assert.ok(Math.abs((messages[0] as Message).time - Date.now()) < 60_000);
  assert.equal((await rejected).fates.get(b.id), "rejected");
  assert.deepEqual(
    (await read(a, 1)).map((m) => m.text()),
    ["hello"],
  );
  await Promise.all([a.close(), b.close()]);
  assert.equal(a.state, "closed");
});

test("a client that has left is unknown, and one that leaves with messages is gone or uncertain", async () => {
  const [a, b] = await Promise.all([join2(), join2()]);
  const pending = a.sendReport(b.id, "never read");
  await a.sendReport(b.id, "written", { level: "written" });
  await b.close();
  assert.ok(["gone", "uncertain"].includes((await pending).list[0] as string));
  assert.equal((await a.sendReport(b.id, "late")).fates.get(b.id), "unknown");
  await a.close();
});

test("list and presence show who is connected", async () => {
  const a = await join2();
  const present = new Set<string>();
  let changed = () => {};
  a.on("presence", ({ joined, left }) => {
    for (const id of joined) present.add(id);
    for (const id of left) present.delete(id);
    changed();
  });
  const until = async (condition: () => boolean) => {
    while (!condition()) await new Promise<void>((resolve) => (changed = resolve));
  };
  const b = await join2();
  await until(() => present.has(a.id) && present.has(b.id));
  const ids: string[] = [];
  for await (const id of a.list()) ids.push(id);
  assert.deepEqual(
    ids,
    [...present].sort((x, y) => (BigInt(x) < BigInt(y) ? -1 : 1)),
  );
  await b.close();
  await until(() => !present.has(b.id));
  await a.close();
});

test("bodies of all sizes arrive, up to the limit of the hub", async () => {
  await using a = await join2();
  const sizes = [0, 1, 125, 126, 65_535, 65_536, 1 << 20];
  const reading = read(a, sizes.length);
  for (const size of sizes) await a.send(a.id, new Uint8Array(size).fill(size % 251));
  const messages = await reading;
  assert.deepEqual(
    messages.map((m) => m.body.length),
    sizes,
  );
  assert.ok(messages.every((m) => m.body.every((byte) => byte === m.body.length % 251)));
  await assert.rejects(a.send(a.id, new Uint8Array((1 << 20) + 1)), RangeError);
});

test("an application that does not read makes its senders wait, and loses nothing", async () => {
  const hub = await startHub("-window=64KiB", "-credit=64KiB");
  const [a, b] = await Promise.all([join2({}, hub.url), join2({}, hub.url)]);
  let sent = 0;
  const sending = (async () => {
    for (; sent < 3000; sent++) await a.send(b.id, new Uint8Array(1000).fill(sent % 256));
  })();
  let last = -1;
  while (last !== sent) {
    last = sent;
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  // Room for 64 KiB of window, 64 KiB of credit, 256 KiB of queue, 512 KiB of outbox, and less than
  // half of that again.
  assert.ok(sent > 100 && sent < 1300, `${sent} messages were sent`);
  const messages = await read(b, 3000);
  assert.ok(messages.every((m, i) => m.body[0] === i % 256));
  await sending;
  await Promise.all([a.close(), b.close()]);
  await hub.stop();
});

test("a hub that is started anew has other ids, and the client finds it", async () => {
  const hub = await startHub();
  const proxy = await CuttingProxy.start(hub.port);
  const a = await join2({ maxDelay: 200 }, proxy.url);
  const { id } = a;
  const lost = new Promise<string>((resolve) => a.on("id", resolve));
  await hub.stop("SIGTERM");
  assert.equal(a.state === "reconnecting" || a.state === "connected", true);
  const again = await startHub(`-web=127.0.0.1:${hub.port}`);
  assert.notEqual(await lost, id);
  assert.equal((await a.sendReport(id, "")).fates.get(id), "unknown");
  await a.close();
  proxy.stop();
  await again.stop();
});

test("a refused token is an error without retry", async () => {
  const { hub, token } = await hubWithTokens();
  await assert.rejects(join2({ token: "nonsense" }, hub.url), { name: "HubError", code: "refused", retry: false });
  await assert.rejects(join2({}, hub.url), { code: "refused" });
  const a = await join2({ token: token("a", 60) }, hub.url);
  await a.close();
  await hub.stop();
});

test("three expiries of a token lose nothing", async () => {
  const { hub, token } = await hubWithTokens();
  let tokens = 0;
  const [a, b] = await Promise.all(
    ["a", "b"].map((subject) => join2({ token: () => (tokens++, token(subject, 3)) }, hub.url)),
  );
  assert.ok(a && b);
  const states: string[] = [];
  for (const client of [a, b]) client.on("state", (state) => states.push(state));
  const ids: string[] = [];
  for (const client of [a, b]) client.on("id", (id) => ids.push(id));
  const received: number[] = [];
  const reading = (async () => {
    for await (const m of b) received.push(m.json<number>());
  })();
  const fates: (string | undefined)[] = [];
  let sent = 0;
  for (const end = Date.now() + 10_500; Date.now() < end;) {
    fates.push((await a.sendReport(b.id, JSON.stringify(sent++))).list[0]);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await Promise.all([a.close(), b.close()]);
  await reading;
  assert.deepEqual(
    received,
    Array.from({ length: sent }, (_, i) => i),
  );
  assert.ok(fates.every((fate) => fate === "received"));
  assert.ok(tokens >= 2 + 2 * 3, `${tokens} tokens`);
  assert.deepEqual(ids, []);
  assert.deepEqual(states, ["closed", "closed"], "the tokens were renewed on the living connections");
  await hub.stop();
});

/** Starts a hub that requires tokens. token makes one of some seconds. */
async function hubWithTokens(): Promise<{ hub: TestHub; token: (subject: string, seconds: number) => string }> {
  const key = "0123456789abcdef0123456789abcdef";
  const directory = mkdtempSync(join(tmpdir(), "message-hub-"));
  const file = join(directory, "key");
  writeFileSync(file, Buffer.from(key).toString("base64"), { mode: 0o600 });
  const hub = await startHub(`-auth-keys=${file}`, "-auth-leeway=0s");
  rmSync(directory, { recursive: true });
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (subject: string, seconds: number) => {
    const content = `${encode({ alg: "HS256" })}.${encode({ sub: subject, exp: Math.ceil(Date.now() / 1000) + seconds })}`;
    return `${content}.${createHmac("sha256", key).update(content).digest("base64url")}`;
  };
  return { hub, token };
}
