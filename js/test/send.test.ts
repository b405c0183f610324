import assert from "node:assert/strict";
import { test } from "node:test";
import { Type } from "../src/frames.js";
import { FakeClock, settle } from "./clock.js";
import { Rig } from "./fakehub.js";
import * as hub from "./hubframes.js";

const clock = new FakeClock();
clock.install();

const granted = "9";
const assigned = "9223372036854775817"; // from 2^63 on

/** Returns a promise that a test looks at later: its rejection is not unhandled until then. */
function quiet<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {});
  return promise;
}

/** The seqs of the SENDs that a test has not taken. */
function seqs(rig: Rig): number[] {
  return rig.socket.take(Type.Send).map((p) => hub.readSend(p).seq);
}

test("a SEND has the content of the call", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  void rig.hub.send(["9", "18446744073709551615"], "hé");
  void rig.hub.sendReport("9", new Uint8Array([1, 2, 3]).subarray(1), {
    level: "processed",
    ifFull: "drop-oldest",
    ttl: 250.9,
  });
  await settle();
  const [first, second] = rig.socket.take(Type.Send).map(hub.readSend);
  assert.deepEqual(first, {
    seq: 1,
    options: 0,
    ttl: 0,
    to: ["9", "18446744073709551615"],
    body: new Uint8Array([0x68, 0xc3, 0xa9]),
  });
  assert.deepEqual(second, { seq: 2, options: 3 + 2 * 4, ttl: 250, to: ["9"], body: new Uint8Array([2, 3]) });
});

test("what is out of range throws before a byte leaves", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ max_body: 10 });
  rig.socket.sent = [];
  const many = Array.from({ length: 256 }, (_, i) => `${i + 1}`);
  await assert.rejects(rig.hub.send(many, ""), RangeError);
  await assert.rejects(rig.hub.send("9", new Uint8Array(11)), RangeError);
  await assert.rejects(rig.hub.send("9", "", { ttl: 0 }), RangeError);
  await assert.rejects(rig.hub.send("9", "", { ttl: 2 ** 32 }), RangeError);
  await assert.rejects(rig.hub.send("9", "", { ifFull: "drop" as "block" }), RangeError);
  await assert.rejects(rig.hub.sendReport("9", "", { level: "none" as "written" }), RangeError);
  for (const id of ["", "x", "-1", "01", "18446744073709551616", "1e3", 9 as unknown as string])
    await assert.rejects(rig.hub.send([id], ""), TypeError, String(id));
  await assert.rejects(rig.hub.send("9", {} as string), TypeError);
  await assert.rejects(rig.hub.send("9", "", { signal: AbortSignal.abort(new Error("no")) }), /no/);
  await settle();
  assert.deepEqual(rig.socket.sent, []);
  await rig.hub.send(many.slice(1), new Uint8Array(10));
  assert.equal(rig.socket.sent.length, 1);
});

test("the body is copied before send returns", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  const body = new Uint8Array([1]);
  void rig.hub.send("9", body);
  body[0] = 2;
  await settle();
  assert.deepEqual(rig.socket.take(Type.Send).map(hub.readSend)[0]?.body, new Uint8Array([1]));
});

test("sending stops at the credit, and goes on when half of it is free", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ credit: 1000 }); // each SEND costs 22 + 8 + 54 + 16 = 100
  for (let i = 0; i < 25; i++) void rig.hub.send("9", new Uint8Array(54));
  await settle();
  assert.equal(seqs(rig).length, 10);
  await rig.socket.deliver(hub.ack(5));
  assert.deepEqual(seqs(rig), []);
  await rig.socket.deliver(hub.ack(6));
  assert.deepEqual(seqs(rig), [11, 12, 13, 14, 15, 16]);
});

test("a SEND above the credit goes alone, and the hub is asked for an ACK when it sends none by itself", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ credit: 400 });
  rig.socket.sent = [];
  void rig.hub.send("9", new Uint8Array(10)); // costs 56, less than a quarter
  void rig.hub.send("9", new Uint8Array(500));
  await settle();
  assert.deepEqual(seqs(rig), [1]);
  assert.equal(rig.socket.take(Type.Ping).length, 1);
  await rig.socket.deliver(hub.ack(1));
  assert.deepEqual(seqs(rig), [2]);
});

test("an unacknowledged SEND is asked for after 100 ms, and then once a second", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  void rig.hub.send("9", "");
  await settle();
  rig.socket.sent = [];
  await clock.advance(99);
  assert.equal(rig.socket.take(Type.Ping).length, 0);
  await clock.advance(2000);
  assert.equal(rig.socket.take(Type.Ping).length, 2);
  await rig.socket.deliver(hub.ack(1));
  await clock.advance(5000);
  assert.equal(rig.socket.take(Type.Ping).length, 0);
});

test("send waits while the queue is full, in order, until the signal aborts", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ credit: 1 << 20, max_body: 1 << 20 });
  await rig.hub.send("9", new Uint8Array(250 << 10));
  const done: number[] = [];
  const abort = new AbortController();
  const second = rig.hub.send("9", new Uint8Array(20 << 10)).then(() => done.push(2));
  const third = quiet(rig.hub.send("9", "", { signal: abort.signal }));
  const fourth = rig.hub.send("9", "").then(() => done.push(4));
  await settle();
  assert.deepEqual(done, []);
  abort.abort(new Error("enough"));
  await assert.rejects(third, /enough/);
  seqs(rig);
  await rig.socket.deliver(hub.ack(1));
  await Promise.all([second, fourth]);
  assert.deepEqual(done, [2, 4]);
  assert.deepEqual(seqs(rig), [2, 4], "the seq of a message that was not sent is left out");
});

test("messages wait while the WebSocket has a backlog", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ credit: 1 << 20 });
  rig.socket.bufferedAmount = 200_000;
  void rig.hub.send("9", "");
  await clock.advance(1000);
  assert.deepEqual(seqs(rig), []);
  rig.socket.bufferedAmount = 0;
  await clock.advance(50);
  assert.deepEqual(seqs(rig), [1]);
});

test("a report has a fate for each receiver, also for one that the client does not know", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  const report = rig.hub.sendReport(["5", "9", "5", "6"], "");
  await settle();
  await rig.socket.deliver(hub.ack(1), hub.report(1, 3, 17, 20, 99));
  const { fates, list } = await report;
  assert.deepEqual(list, ["received", "gone", "expired", "fate 99"]);
  assert.deepEqual(
    [...fates],
    [
      ["5", "expired"],
      ["9", "gone"],
      ["6", "fate 99"],
    ],
  );
});

test("at most max_reports SENDs wait for their report", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ max_reports: 2 });
  const reports = [1, 2, 3].map(() => rig.hub.sendReport("9", ""));
  await settle();
  assert.deepEqual(seqs(rig), [1, 2]);
  await rig.socket.deliver(hub.ack(2), hub.report(2, 3));
  assert.deepEqual(seqs(rig), [3]);
  await rig.socket.deliver(hub.report(1, 2), hub.report(3, 16));
  assert.deepEqual(
    (await Promise.all(reports)).map((r) => r.list[0]),
    ["written", "received", "unknown"],
  );
});

test("a message expires in the client: disconnected, and behind the credit", async () => {
  const rig = new Rig(clock);
  await rig.welcome({ credit: 100 });
  void rig.hub.send("9", new Uint8Array(80));
  const behind = rig.hub.sendReport("9", "", { ttl: 300 });
  await clock.advance(400);
  assert.deepEqual((await behind).list, ["expired"]);
  await rig.socket.lose();
  const offline = rig.hub.sendReport(["9", "8"], "", { ttl: 20 });
  await clock.advance(60);
  assert.deepEqual((await offline).list, ["expired", "expired"]);
  assert.equal(rig.sockets.length, 1, "the client is still disconnected");
});

test("the rest of the time to live is told when the message is sent", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  await rig.socket.lose();
  void rig.hub.send("9", "", { ttl: 1000 });
  await clock.advance(200);
  await rig.welcome({ resumed: true });
  const [send] = rig.socket.take(Type.Send).map(hub.readSend);
  assert.equal(send?.ttl, 800);
});

test("after a resume the SENDs that the hub does not have are sent again, in order", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  for (let i = 0; i < 5; i++) void rig.hub.send("9", `${i}`);
  await settle();
  await rig.socket.deliver(hub.ack(1));
  await rig.socket.lose();
  void rig.hub.send("9", "");
  await clock.advance(200);
  await rig.welcome({ resumed: true, taken: "2", seq: "3" });
  assert.deepEqual(seqs(rig), [4, 5, 6]);
  await rig.socket.deliver(hub.ack(6));
  void rig.hub.send("9", "");
  await settle();
  assert.deepEqual(seqs(rig), [7]);
});

test("in a new session, what was sent fails without resend", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  void rig.hub.send("9", "");
  const sent = quiet(rig.hub.sendReport("9", ""));
  const acked = quiet(rig.hub.sendReport("9", ""));
  await settle();
  await rig.socket.deliver(hub.ack(1));
  void rig.hub.send("9", "");
  await settle();
  await rig.socket.lose();
  const unsent = rig.hub.sendReport("9", "");
  await clock.advance(200);
  await rig.welcome({ id: "70" });
  for (const report of [sent, acked])
    await assert.rejects(report, { name: "HubError", code: "session_lost", retry: false });
  assert.deepEqual(rig.ids, [["70", 1]]);
  assert.deepEqual(seqs(rig), [5]);
  await rig.socket.deliver(hub.report(5, 3));
  assert.deepEqual((await unsent).list, ["received"]);
});

test("in a new session, what was sent is sent again with resend; a time to live that passes is uncertain", async () => {
  const rig = new Rig(clock, { resend: true });
  await rig.welcome();
  void rig.hub.send("9", "");
  const acked = rig.hub.sendReport("9", "body");
  await settle();
  await rig.socket.deliver(hub.ack(2));
  const inFlight = rig.hub.sendReport("9", "", { ttl: 500 });
  const reported = rig.hub.sendReport("9", "");
  await settle();
  await rig.socket.deliver(hub.report(4, 3)); // before its ACK
  await reported;
  await rig.socket.lose();
  await clock.advance(200);
  await rig.welcome({ id: "70", credit: 1 });
  const again = rig.socket.take(Type.Send).map(hub.readSend);
  assert.deepEqual(
    again.map((s) => [s.seq, new TextDecoder().decode(s.body)]),
    [[2, "body"]],
  );
  await clock.advance(500);
  assert.deepEqual((await inFlight).list, ["uncertain"]);
  await rig.socket.deliver(hub.ack(2), hub.report(2, 3));
  assert.deepEqual((await acked).list, ["received"]);
  assert.deepEqual(rig.ids, [["70", 0]]);
});

test("at a new hub nothing is sent to ids of the last one, except granted ids that both grant", async () => {
  for (const grants of [false, true]) {
    const rig = new Rig(clock, { resend: true });
    await rig.welcome({ grants_ids: true, max_body: 1 << 20 });
    await rig.socket.lose();
    const toGranted = quiet(rig.hub.sendReport(granted, ""));
    const toAssigned = quiet(rig.hub.sendReport([granted, assigned], ""));
    void rig.hub.send(granted, "");
    void quiet(rig.hub.send(granted, new Uint8Array(300 << 10)));
    const waiting = quiet(rig.hub.send(assigned, ""));
    await clock.advance(200);
    await rig.welcome({ epoch: "2", grants_ids: grants, credit: 1 << 20, max_body: 1 << 20 });
    await assert.rejects(toAssigned, { code: "session_lost" });
    await assert.rejects(waiting, { code: "session_lost" });
    if (!grants) await assert.rejects(toGranted, { code: "session_lost" });
    assert.deepEqual(seqs(rig), grants ? [1, 3] : []);
    if (grants) await rig.socket.deliver(hub.ack(3));
    assert.deepEqual(seqs(rig), grants ? [4] : []);
    assert.deepEqual(rig.ids, [["7", grants ? 0 : 1]]);
  }
});

test("an ERROR fails its SEND, and the others go on", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  const refused = quiet(rig.hub.sendReport("9", ""));
  void rig.hub.send("9", "");
  const good = rig.hub.sendReport("9", "");
  await settle();
  await rig.socket.deliver(hub.error(1, 2, "too large"), hub.error(2, 2, "too large"), hub.report(3, 3));
  await assert.rejects(refused, { code: "message_refused", message: /too large/ });
  assert.deepEqual((await good).list, ["received"]);
  assert.equal(rig.errors.length, 1);
});

test("a report that is not awaited any more is accepted", async () => {
  const rig = new Rig(clock);
  await rig.welcome();
  const abort = new AbortController();
  const report = quiet(rig.hub.sendReport("9", "", { signal: abort.signal }));
  await settle();
  abort.abort();
  await assert.rejects(report, { name: "AbortError" });
  await rig.socket.deliver(hub.report(1, 3));
  assert.equal(rig.hub.state, "connected");
});

test("a REPORT, an ACK or an ERROR for what was not sent ends the client", async () => {
  for (const frame of [hub.report(1, 3), hub.report(2, 3, 3), hub.report(9, 3), hub.ack(3), hub.error(3, 2, "")]) {
    const rig = new Rig(clock, {});
    await rig.welcome({ credit: 20 });
    void rig.hub.send("9", "");
    await settle();
    const waiting = quiet(rig.hub.sendReport("9", "")); // seq 2 waits for credit
    await settle();
    await rig.socket.deliver(frame);
    assert.equal(rig.hub.state, "closed");
    assert.match(rig.errors[0] ?? "", /^protocol: /);
    await assert.rejects(waiting, { code: "protocol" });
    assert.ok(rig.socket.isClosed);
  }
});
