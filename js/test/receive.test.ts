import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../src/message.js";
import { Type } from "../src/frames.js";
import { FakeClock, settle } from "./clock.js";
import { Rig } from "./fakehub.js";
import * as hub from "./hubframes.js";

const clock = new FakeClock();
clock.install();

/** Returns a DELIVER. flags: bit 0 for an urgent ACK, bit 1 for a verdict. */
function message(seq: number, flags = 0, size = 1): Uint8Array {
  return hub.deliver(3n, BigInt(seq), flags, new Uint8Array(size).fill(seq), 1_795_318_068_209_115n);
}

/** The numbers of the ACKs that a test has not taken. */
function acks(rig: Rig): number[] {
  return rig.socket.take(Type.Ack).map((p) => Number(p.getBigUint64(0)));
}

/** Reads all messages of a client into an array. */
function collect(rig: Rig): Message[] {
  const messages: Message[] = [];
  void (async () => {
    for await (const m of rig.hub) messages.push(m);
  })();
  return messages;
}

async function connected(fields: object = {}): Promise<Rig> {
  const rig = new Rig(clock);
  await rig.welcome(fields);
  rig.socket.sent = [];
  return rig;
}

test("a message has sender, time and body", async () => {
  const rig = await connected();
  const messages = collect(rig);
  await rig.socket.deliver(
    hub.deliver(2n ** 64n - 1n, 5n, 0, new TextEncoder().encode('{"a":1}'), 1_795_318_068_209_115n),
  );
  const [m] = messages;
  assert.equal(m?.from, "18446744073709551615");
  assert.equal(m.time, 1_795_318_068_209.115);
  assert.equal(m.text(), '{"a":1}');
  assert.deepEqual(m.json(), { a: 1 });
  assert.equal(m.body.length, 7);
});

test("many messages of one task have one ACK", async () => {
  const rig = await connected({ window: 1 << 20 });
  const messages = collect(rig);
  await rig.socket.deliver(...Array.from({ length: 100 }, (_, i) => message(i, 1)));
  assert.equal(messages.length, 100);
  assert.deepEqual(acks(rig), [100]);
});

test("an ACK that no sender waits for is delayed", async () => {
  const rig = await connected();
  collect(rig);
  await rig.socket.deliver(message(1));
  await clock.advance(49);
  await rig.socket.deliver(message(2), hub.skip());
  assert.deepEqual(acks(rig), []);
  await clock.advance(101);
  assert.equal(acks(rig).at(-1), 3);
});

test("half of the window is acknowledged at once", async () => {
  const rig = await connected({ window: 1000 });
  collect(rig);
  await rig.socket.deliver(message(1, 0, 400)); // a frame of 430 bytes
  assert.deepEqual(acks(rig), []);
  await rig.socket.deliver(message(2, 0, 50));
  assert.deepEqual(acks(rig), [2]);
});

test("unread messages are not acknowledged, however long it takes", async () => {
  const rig = await connected();
  await rig.socket.deliver(message(1, 1), message(2, 1), message(3, 1));
  await clock.advance(10_000);
  assert.deepEqual(acks(rig), []);
  const messages = rig.hub[Symbol.asyncIterator]();
  await messages.next();
  await clock.advance(200);
  assert.deepEqual(acks(rig), [1], "one to two ticks after the message was handed over");
  await messages.next();
  await messages.next();
  assert.deepEqual(acks(rig), [], "two messages are in the hands of the application");
  void messages.next();
  await settle();
  assert.deepEqual(acks(rig), [3]);
});

test("reports and skips are counted, behind a message that is not read they wait with it", async () => {
  const rig = await connected();
  const reported = rig.hub.sendReport("9", "");
  await settle();
  await rig.socket.deliver(hub.report(1, 3));
  await reported;
  await clock.advance(150);
  assert.deepEqual(acks(rig), [1]);
  await rig.socket.deliver(message(1), hub.skip());
  await clock.advance(500);
  assert.deepEqual(acks(rig), []);
  await rig.hub[Symbol.asyncIterator]().next();
  await clock.advance(150);
  assert.deepEqual(acks(rig), [3]);
});

test("leaving a loop loses no message, and each message goes to one reader", async () => {
  const rig = await connected();
  await rig.socket.deliver(message(1), message(2), message(3));
  for await (const m of rig.hub) {
    assert.equal(m.body[0], 1);
    break;
  }
  const [a, b] = [rig.hub[Symbol.asyncIterator](), rig.hub[Symbol.asyncIterator]()];
  const read = await Promise.all([a.next(), b.next()]);
  assert.deepEqual(
    read.map((r) => r.value?.body[0]),
    [2, 3],
  );
});

test("frames that had arrived before a resume are dropped", async () => {
  const rig = await connected();
  await rig.socket.deliver(message(1), message(2), message(3));
  const first = await rig.hub[Symbol.asyncIterator]().next();
  assert.equal(first.value?.body[0], 1);
  const hello = await rig.reconnect({ resumed: true, again: 3 });
  assert.deepEqual([hello.received, hello.read], ["0", "3"]);
  await rig.socket.deliver(hub.skip(), message(2), hub.skip(), message(4));
  const messages = collect(rig);
  await settle();
  assert.deepEqual(
    messages.map((m) => m.body[0]),
    [2, 3, 4],
  );
  await clock.advance(150);
  assert.equal(acks(rig).at(-1), 4);
});

test("a new session counts from 0, and unread messages of the old one can still be read", async () => {
  const rig = await connected();
  await rig.socket.deliver(message(1), message(2));
  await rig.reconnect({ id: "70" });
  rig.socket.sent = [];
  await rig.socket.deliver(message(3, 1));
  const messages = collect(rig);
  await settle();
  assert.deepEqual(
    messages.map((m) => m.body[0]),
    [1, 2, 3],
  );
  assert.deepEqual(acks(rig), [1]);
});

test("verdicts are sent together, and again after a lost connection until a PONG confirms them", async () => {
  const rig = await connected();
  const messages = collect(rig);
  await rig.socket.deliver(message(1, 3), message(2, 3), message(3, 1));
  for (const m of messages) m.ack();
  messages[0]?.nak(); // only the first verdict counts
  await settle();
  const [first] = rig.socket.take(Type.Verdict).map(hub.readVerdicts);
  assert.deepEqual(first, [
    { sender: 3n, seq: 1n, fate: 4 },
    { sender: 3n, seq: 2n, fate: 4 },
  ]);
  await rig.reconnect({ resumed: true });
  assert.deepEqual(rig.socket.take(Type.Verdict).map(hub.readVerdicts), [first]);
  await clock.advance(150);
  const [ping] = rig.socket.take(Type.Ping);
  await rig.socket.deliver(hub.pong(Number(ping?.getBigUint64(0))));
  await clock.advance(5000);
  assert.equal(rig.socket.take(Type.Ping).length, 0, "confirmed verdicts are not asked for");
  await rig.reconnect({ resumed: true });
  assert.deepEqual(rig.socket.take(Type.Verdict), []);
});

test("verdicts of a lost session are dropped", async () => {
  const rig = await connected();
  const messages = collect(rig);
  await rig.socket.deliver(message(1, 3), message(2, 3));
  messages[0]?.nak();
  await rig.reconnect({ id: "70" });
  messages[1]?.ack();
  await settle();
  assert.deepEqual(rig.socket.take(Type.Verdict), []);
});

test("more verdicts than fit into the smallest frame of a hub are sent in several", async () => {
  const rig = await connected({ window: 1 << 20 });
  const messages = collect(rig);
  await rig.socket.deliver(...Array.from({ length: 250 }, (_, i) => message(i + 1, 3)));
  for (const m of messages) m.ack();
  await settle();
  assert.deepEqual(
    rig.socket.take(Type.Verdict).map((p) => p.byteLength / 17),
    [120, 120, 10],
  );
});

test("presence: a snapshot, changes, and the same again for a later listener", async () => {
  const rig = await connected();
  const seen: object[] = [];
  const off = rig.hub.on("presence", (change) => seen.push(change));
  assert.deepEqual(
    rig.socket.take(Type.Watch).map((p) => [p.getUint8(0), p.getBigUint64(1)]),
    [[1, 0n]],
  );
  await rig.socket.deliver(hub.presence(5, 3, ["1", "2"], []));
  assert.deepEqual(seen, [], "the change is not complete");
  await rig.socket.deliver(hub.presence(5, 0, ["3"], []), hub.presence(6, 0, ["3", "4"], ["1", "99"]));
  assert.deepEqual(seen, [
    { joined: ["1", "2", "3"], left: [] },
    { joined: ["4"], left: ["1"] },
  ]);
  const late: object[] = [];
  const offLate = rig.hub.on("presence", (change) => late.push(change));
  await settle();
  assert.deepEqual(late, [{ joined: ["2", "3", "4"], left: [] }]);
  off();
  await settle();
  assert.deepEqual(rig.socket.take(Type.Watch), []);
  offLate();
  assert.deepEqual(
    rig.socket.take(Type.Watch).map((p) => p.getUint8(0)),
    [0],
  );
  await rig.socket.deliver(hub.presence(7, 0, ["5"], []));
  assert.equal(seen.length, 2);
});

test("presence goes on after a resume, and all have left at a new hub", async () => {
  const rig = await connected();
  const seen: object[] = [];
  rig.hub.on("presence", (change) => seen.push(change));
  await rig.socket.deliver(hub.presence(5, 1, ["1", "2"], []), hub.presence(6, 2, ["3"], []));
  await rig.reconnect({ resumed: true });
  assert.deepEqual(
    rig.socket.take(Type.Watch).map((p) => p.getBigUint64(1)),
    [5n],
    "revision 6 was not complete",
  );
  await rig.socket.deliver(hub.presence(8, 0, ["3"], ["2"]));
  assert.deepEqual(seen.slice(1), [{ joined: ["3"], left: ["2"] }]);
  await rig.reconnect({ resumed: true });
  await rig.socket.deliver(hub.presence(9, 3, ["3"], []), hub.presence(9, 0, ["4"], []));
  assert.deepEqual(seen.slice(2), [{ joined: ["4"], left: ["1"] }]);
  await rig.reconnect({ id: "8", epoch: "2" });
  assert.deepEqual(seen.slice(3), [{ joined: [], left: ["3", "4"] }]);
  assert.deepEqual(
    rig.socket.take(Type.Watch).map((p) => p.getBigUint64(1)),
    [0n],
  );
});

test("a watch that the hub does not accept is an error, and the next listener asks again", async () => {
  const rig = await connected();
  rig.hub.on("presence", () => {});
  await rig.socket.deliver(hub.error(0, 5, "full"));
  assert.match(rig.errors[0] ?? "", /^too_many_watchers: .*full/);
  rig.socket.sent = [];
  rig.hub.on("presence", () => {});
  assert.deepEqual(
    rig.socket.take(Type.Watch).map((p) => p.getUint8(0)),
    [1],
  );
  await rig.socket.deliver(hub.error(0, 3, "no"));
  assert.match(rig.errors[1] ?? "", /^watch_forbidden: /);
});

test("list asks for page after page, and again after a resume", async () => {
  const rig = await connected();
  const ids: string[] = [];
  const listing = (async () => {
    for await (const id of rig.hub.list()) ids.push(id);
  })();
  await settle();
  assert.deepEqual(
    rig.socket.take(Type.ListRange).map((p) => [p.getBigUint64(0), p.getUint32(8)]),
    [[0n, 8192]],
  );
  await rig.socket.deliver(hub.listPage(3, true, ["1", "2"]));
  assert.deepEqual(
    rig.socket.take(Type.ListRange).map((p) => p.getBigUint64(0)),
    [2n],
  );
  await rig.reconnect({ resumed: true });
  assert.deepEqual(
    rig.socket.take(Type.ListRange).map((p) => p.getBigUint64(0)),
    [2n],
  );
  await rig.socket.deliver(hub.listPage(3, false, ["18446744073709551615"]));
  await listing;
  assert.deepEqual(ids, ["1", "2", "18446744073709551615"]);
  const failing = assert.rejects(rig.hub.list().next(), { code: "closed" });
  await settle();
  rig.client.stop();
  await failing;
});
