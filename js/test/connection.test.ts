import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../src/connect.js";
import { frameOf } from "../src/codec.js";
import { Type } from "../src/frames.js";
import { FakeClock, settle } from "./clock.js";
import { FakeSocket, Rig } from "./fakehub.js";
import * as hub from "./hubframes.js";

const clock = new FakeClock();
clock.install();

test("HELLO says what the client can do, and WELCOME is acknowledged", async () => {
  const rig = new Rig(clock, { name: "sensor", token: async () => "T" });
  assert.equal(rig.hub.state, "connecting");
  const hello = await rig.welcome();
  assert.deepEqual(hello, { version: 2, name: "sensor", token: "T", confirms: true, skip: true });
  await rig.started;
  assert.equal(rig.hub.state, "connected");
  assert.equal(rig.hub.id, "7");
  assert.deepEqual(
    rig.socket.take(Type.Ack).map((p) => p.getBigUint64(0)),
    [0n],
  );
});

test("a client resumes with its id, its secret and its counts", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  await rig.socket.deliver(hub.deliver(3n, 1n, 0, new Uint8Array(1)), hub.deliver(3n, 2n, 0, new Uint8Array(1)));
  await rig.hub[Symbol.asyncIterator]().next();
  const hello = await rig.reconnect({ resumed: true });
  assert.deepEqual(hello, {
    version: 2,
    name: "",
    token: "",
    confirms: true,
    skip: true,
    id: "7",
    resume: "SECRET",
    received: "0",
    read: "2",
  });
  assert.equal(rig.socket.take(Type.Ack).length, 0, "no ACK 0 in a resumed session");
  assert.deepEqual(rig.states, ["connected", "reconnecting: connection", "connected"]);
  assert.deepEqual(rig.ids, []);
});

test("a HELLO after one without WELCOME has no read", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  await rig.socket.lose();
  await clock.advance(200);
  assert.equal((await rig.socket.open()).read, "0");
  await rig.socket.lose();
  await clock.advance(400);
  assert.equal((await rig.socket.open()).read, undefined);
});

test("a delay that would let the client reconnect without a pause is a RangeError", () => {
  for (const delay of [0, -1, NaN]) {
    assert.throws(() => new Rig(clock, { minDelay: delay }), RangeError, `minDelay: ${delay}`);
    assert.throws(() => new Rig(clock, { maxDelay: delay }), RangeError, `maxDelay: ${delay}`);
  }
});

test("the delay doubles with each attempt, and is bounded", async () => {
  const rig = new Rig(clock, { minDelay: 100, maxDelay: 1000 });
  await rig.welcome();
  const delays: number[] = [];
  for (let i = 0; i < 7; i++) {
    const n = rig.sockets.length;
    await rig.socket.lose();
    const began = clock.now;
    while (rig.sockets.length === n) await clock.advance(1);
    delays.push(clock.now - began);
  }
  assert.deepEqual(delays, [50, 100, 200, 400, 500, 500, 500]); // the random number is 0.5
  assert.equal(rig.errors.length, 6);
  await rig.welcome({ resumed: true });
  await rig.socket.lose();
  const n = rig.sockets.length;
  await clock.advance(50);
  assert.equal(rig.sockets.length, n + 1, "WELCOME resets the delay");
});

test("connect fails with the first attempt, or waits if it is told so", async () => {
  const rig = new Rig(clock);
  await settle();
  await rig.socket.lose(1006);
  await assert.rejects(rig.started, { name: "HubError", code: "connection", retry: true });
  assert.equal(rig.hub.state, "closed");
  await clock.advance(60_000);
  assert.equal(rig.sockets.length, 1);

  const waiting = new Rig(clock, { waitOnFirstConnect: true });
  await settle();
  await waiting.socket.lose();
  await clock.advance(1000);
  assert.equal(waiting.hub.state, "connecting");
  await waiting.welcome();
  await waiting.started;
});

test("an attempt without WELCOME ends in time", async () => {
  const rig = new Rig(clock);
  await settle();
  await rig.socket.open();
  await clock.advance(10_000);
  await assert.rejects(rig.started, { code: "connection", message: /no WELCOME in time/ });
  assert.ok(rig.socket.isClosed);
});

test("a client that is aborted in the task of connect opens no socket", async () => {
  let sockets = 0;
  class WebSocket extends FakeSocket {
    constructor(url: string, protocol: string) {
      super(url, protocol);
      sockets++;
    }
  }
  const abort = new AbortController();
  const connecting = connect("ws://hub/connect", { WebSocket, signal: abort.signal });
  abort.abort(new Error("unmounted"));
  await assert.rejects(connecting, /unmounted/);
  await assert.rejects(connect("ws://hub/connect", { WebSocket, signal: abort.signal }), /unmounted/);
  assert.equal(sockets, 0);
});

test("an invalid URL is an error at once", async () => {
  class WebSocket extends FakeSocket {
    constructor(url: string, protocol: string) {
      super(url, protocol);
      throw new SyntaxError("bad URL");
    }
  }
  await assert.rejects(connect("nonsense", { WebSocket, waitOnFirstConnect: true }), {
    code: "connection",
    retry: false,
    message: /bad URL/,
  });
});

test("GOAWAY says whether and when the client connects again", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  await rig.socket.deliver(hub.goAway({ code: "shutdown", reason: "bye", reconnect: true, after_ms: 3000 }));
  await rig.socket.lose(1000);
  assert.deepEqual(rig.states.slice(1), ["reconnecting: shutdown"]);
  await clock.advance(2999);
  assert.equal(rig.sockets.length, 1);
  await clock.advance(101);
  await rig.welcome({ id: "8", epoch: "2" });
  assert.deepEqual(rig.ids, [["8", 0]]);
  await rig.socket.deliver(hub.goAway({ code: "disconnected", reason: "by the operator", reconnect: false }));
  await rig.socket.lose(1000);
  assert.equal(rig.states.at(-1), "closed: disconnected");
  assert.match(rig.errors.at(-1) ?? "", /by the operator/);
  await clock.advance(60_000);
  assert.equal(rig.sockets.length, 2);
  await assert.rejects(rig.hub[Symbol.asyncIterator]().next(), { code: "disconnected", retry: false });
  await assert.rejects(rig.hub.send("9", ""), { code: "disconnected" });
});

test("malformed frames end the client with an error that says what", async () => {
  const cases: [string, Uint8Array, RegExp][] = [
    ["a part of a frame", hub.ack(1).slice(0, 7), /ends within a frame/],
    ["a short payload", frameOf(Type.Deliver, 24), /payload of 24 bytes/],
    ["a frame of a client", frameOf(Type.Hello, 2), /type 16/],
    ["a frame of version 1", frameOf(2, 8), /type 2/],
    ["a second WELCOME", hub.welcome(), /type 17/],
    ["LIST_PAGE without a request", hub.listPage(0, false, []), /LIST_PAGE/],
    ["GOAWAY without JSON", frameOf(Type.GoAway, 3), /JSON/],
  ];
  for (const [name, frame, message] of cases) {
    const rig = new Rig(clock);
    await rig.welcome();
    await rig.socket.deliver(frame);
    assert.equal(rig.states.at(-1), "closed: protocol", name);
    assert.match(rig.errors[0] ?? "", message, name);
    await clock.advance(60_000);
    assert.equal(rig.sockets.length, 1, name);
  }
});

test("text, an early frame, and a close code for a broken protocol end the client", async () => {
  const text = new Rig(clock);
  await text.welcome();
  text.socket.onmessage?.({ data: "hi" });
  await settle();
  assert.match(text.errors[0] ?? "", /text message/);

  const early = new Rig(clock);
  await settle();
  await early.socket.open();
  await early.socket.deliver(hub.ack(0));
  await assert.rejects(early.started, { code: "protocol" });

  const code = new Rig(clock);
  await code.welcome();
  await code.socket.lose(1009, "too big");
  assert.equal(code.states.at(-1), "closed: protocol");
  assert.match(code.errors[0] ?? "", /1009.*too big/);
});

test("frames that a later edition can define are ignored", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  await rig.socket.deliver(new Uint8Array(4), frameOf(0x20, 5), frameOf(0xff, 0));
  assert.equal(rig.hub.state, "connected");
});

test("a PING is answered, behind the ACK of what the application has", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  rig.socket.sent = [];
  const messages = rig.hub[Symbol.asyncIterator]();
  await rig.socket.deliver(hub.deliver(3n, 1n, 0, new Uint8Array()));
  await messages.next();
  void messages.next();
  await settle();
  await rig.socket.deliver(hub.ping(77));
  assert.deepEqual(
    rig.socket.sent.map((f) => [f.type, f.payload.getBigUint64(0)]),
    [
      [Type.Ack, 1n],
      [Type.Pong, 77n],
    ],
  );
});

test("a silent hub is given up after two intervals", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ keepalive_ms: 10_000 });
  await clock.advance(15_000);
  await rig.socket.deliver(hub.ping(1));
  await clock.advance(19_900);
  assert.equal(rig.hub.state, "connected");
  await clock.advance(1200);
  assert.equal(rig.hub.state, "reconnecting");
  assert.ok(rig.socket.isClosed || rig.sockets.length === 2);
});

test("after a sleep the connection is probed, and given up if the hub does not answer", async () => {
  for (const answers of [true, false]) {
    const rig = new Rig(clock);
    await rig.welcome();
    rig.socket.sent = [];
    clock.wallOffset += 60_000; // the machine was asleep
    await clock.advance(1000);
    assert.equal(rig.socket.take(Type.Ping).length, 1);
    if (answers) await rig.socket.deliver(hub.pong(0));
    await clock.advance(500);
    assert.equal(rig.hub.state, answers ? "connected" : "reconnecting");
  }
});

test("close sends what is queued, the last ACK and BYE, and waits for the hub", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ credit: 60 });
  const messages = rig.hub[Symbol.asyncIterator]();
  await rig.socket.deliver(hub.deliver(3n, 1n, 0, new Uint8Array()), hub.deliver(3n, 2n, 0, new Uint8Array()));
  await messages.next();
  void rig.hub.send("9", "");
  const second = rig.hub.sendReport("9", "");
  await settle();
  rig.socket.sent = [];
  const closing = rig.hub.close();
  await assert.rejects(rig.hub.send("9", ""), { code: "closed" });
  assert.deepEqual(
    rig.socket.sent.map((f) => f.type),
    [],
  );
  const lost = assert.rejects(second, { code: "closed" });
  await rig.socket.deliver(hub.ack(1));
  assert.deepEqual(
    rig.socket.sent.map((f) => f.type),
    [Type.Send, Type.Ack, Type.Bye],
  );
  assert.equal(rig.socket.take(Type.Ack)[0]?.getBigUint64(0), 1n, "only the first message was handed over");
  assert.deepEqual(await messages.next(), { done: true, value: undefined });
  await rig.socket.lose(1000);
  await closing;
  await lost;
  await rig.hub.close();
  assert.deepEqual(rig.states, ["connected", "closed"]);
  assert.deepEqual(rig.errors, []);
});

test("close connects again to send what the hub does not have, and gives up in time", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  void rig.hub.send("9", "");
  await settle();
  const closing = rig.hub.close();
  await settle();
  await rig.socket.lose(1006); // before the hub has read BYE
  await clock.advance(200);
  await rig.welcome({ resumed: true });
  assert.deepEqual(
    rig.socket.sent.filter((f) => f.type !== Type.Ping).map((f) => f.type),
    [Type.Send, Type.Bye],
  );
  await rig.socket.lose(1000);
  await closing;

  const late = new Rig(clock);
  await late.welcome();
  await late.socket.lose();
  void late.hub.send("9", "");
  const failing = assert.rejects(late.hub.close(), { code: "unsent", message: /1 messages/ });
  await clock.advance(5000);
  await failing;
  assert.equal(late.hub.state, "closed");
});

test("close without a connection and without messages ends at once, and leaves no timer", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  await rig.socket.lose();
  const closing = rig.hub.close();
  await clock.advance(0);
  await closing;
  assert.equal(rig.hub.state, "closed");
  const before = rig.sockets.length;
  await clock.advance(100_000);
  assert.equal(rig.sockets.length, before);
});

test("an exception of a listener does not break the client", async () => {
  const rig = new Rig(clock);
  const uncaught: unknown[] = [];
  const onUncaught = (error: unknown) => uncaught.push(error);
  const others = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", onUncaught);
  const off = rig.hub.on("state", () => {
    throw new Error("mine");
  });
  await rig.welcome();
  off();
  await rig.started;
  assert.equal(rig.hub.state, "connected");
  await settle();
  process.removeListener("uncaughtException", onUncaught);
  for (const listener of others) process.on("uncaughtException", listener);
  assert.match(String(uncaught[0]), /mine/);
});
