import assert from "node:assert/strict";
import { test } from "node:test";
import { Type } from "../src/frames.js";
import { FakeClock, settle } from "./clock.js";
import { Rig } from "./fakehub.js";
import * as hub from "./hubframes.js";

const clock = new FakeClock();
clock.install();

/** Returns a client whose tokens are T1, T2 and so on, and the number of tokens so far. */
function withTokens(): { rig: Rig; tokens: () => number } {
  let n = 0;
  const rig = new Rig(clock, { token: async () => `T${++n}` });
  return { rig, tokens: () => n };
}

function renewals(rig: Rig): unknown[] {
  return rig.socket.take(Type.Renew).map((p) => hub.readJSON(p).token);
}

test("a token is renewed on the connection one minute before its end, or in its last fifth", async () => {
  const { rig, tokens } = withTokens();
  await rig.welcome({ renew: true, expires_ms: 3_600_000 });
  await keepAlive(rig, 3_539_000);
  assert.equal(tokens(), 1);
  await keepAlive(rig, 2000);
  assert.deepEqual(renewals(rig), ["T2"]);
  await rig.socket.deliver(hub.renewed({ expires_ms: 10_000, max_body: 5 }));
  await assert.rejects(rig.hub.send("9", new Uint8Array(6)), RangeError);
  await clock.advance(7900);
  assert.deepEqual(renewals(rig), []);
  await clock.advance(200);
  assert.deepEqual(renewals(rig), ["T3"]);
  await rig.socket.deliver(hub.renewed({ max_body: 1000 })); // for ever
  await keepAlive(rig, 100_000);
  assert.equal(tokens(), 3);
  assert.deepEqual(rig.states, ["connected"]);
});

test("a refused token is not shown again; a renewal that is too early shows the same", async () => {
  let token = "T1";
  const rig = new Rig(clock, { token: () => token });
  await rig.welcome({ renew: true, expires_ms: 100_000 });
  token = "T2";
  await keepAlive(rig, 80_000);
  assert.deepEqual(renewals(rig), ["T2"]);
  await rig.socket.deliver(hub.error(0, 8, "too early"));
  await keepAlive(rig, 10_500);
  assert.deepEqual(renewals(rig), ["T2"]);
  await rig.socket.deliver(hub.error(0, 6, "refused"));
  await keepAlive(rig, 6000);
  assert.deepEqual(renewals(rig), []);
  token = "T3";
  await keepAlive(rig, 2000);
  assert.deepEqual(renewals(rig), ["T3"]);
});

test("without RENEW the client reconnects with the newer token at once, and asks for none", async () => {
  const { rig, tokens } = withTokens();
  await rig.welcome({ expires_ms: 100_000 });
  await keepAlive(rig, 80_000);
  await clock.advance(0);
  assert.equal(rig.sockets.length, 2);
  assert.equal((await rig.welcome({ resumed: true, expires_ms: 100_000 })).token, "T2");
  assert.equal(tokens(), 2);
  assert.deepEqual(rig.ids, []);
});

test("a renewal without an answer, or cut off, shows its token in the next HELLO", async () => {
  for (const isCut of [true, false]) {
    const { rig } = withTokens();
    await rig.welcome({ renew: true, expires_ms: 100_000 });
    await keepAlive(rig, 80_000);
    assert.deepEqual(renewals(rig), ["T2"]);
    if (isCut) await rig.socket.lose();
    else await keepAlive(rig, 10_000);
    await clock.advance(150);
    assert.equal(rig.sockets.length, 2);
    assert.equal((await rig.welcome({ resumed: true })).token, "T2");
  }
});

test("an ERROR of a later edition of the protocol is no answer to RENEW", async () => {
  const { rig } = withTokens();
  await rig.welcome({ renew: true, expires_ms: 100_000 });
  await keepAlive(rig, 80_000);
  await rig.socket.deliver(hub.error(0, 9, "of a later edition"));
  await rig.socket.lose();
  await clock.advance(150);
  assert.equal((await rig.welcome({ resumed: true })).token, "T2");
});

test("after GOAWAY expired the client asks for a token, and a fixed token ends it", async () => {
  const { rig } = withTokens();
  await rig.welcome();
  await rig.socket.deliver(hub.goAway({ code: "expired", reconnect: true }));
  await rig.socket.lose(1000);
  await clock.advance(200);
  assert.equal((await rig.welcome({ resumed: true })).token, "T2");

  const fixed = new Rig(clock, { token: "T" });
  await fixed.welcome({ expires_ms: 1000 });
  await fixed.socket.deliver(hub.goAway({ code: "expired", reconnect: true }));
  await fixed.socket.lose(1000);
  assert.equal(fixed.states.at(-1), "closed: expired");
});

test("a token that fails is an attempt that fails, and the signal aborts one that takes too long", async () => {
  const failing = new Rig(clock, { token: () => Promise.reject(new Error("no service")) });
  await settle();
  await assert.rejects(failing.started, { code: "token", retry: true, message: /no service/ });

  let signal: AbortSignal | undefined;
  const slow = new Rig(clock, {
    token: (s) => {
      signal = s;
      return new Promise(() => {});
    },
  });
  await clock.advance(9999);
  assert.equal(signal?.aborted, false);
  await clock.advance(1);
  await assert.rejects(slow.started, { code: "token" });
  assert.equal(signal?.aborted, true);
  assert.equal(slow.sockets.length, 0);
});

test("a renewal ends with its connection", async () => {
  let signal: AbortSignal | undefined;
  let calls = 0;
  const rig = new Rig(clock, {
    token: (s) => {
      signal = s;
      return ++calls === 2 ? new Promise(() => {}) : `T${calls}`;
    },
  });
  await rig.welcome({ renew: true, expires_ms: 10_000 });
  await clock.advance(8000);
  assert.equal(calls, 2);
  await rig.socket.lose();
  assert.equal(signal?.aborted, true);
  await clock.advance(200);
  assert.equal((await rig.welcome({ resumed: true })).token, "T3");
});

/** Moves the time while the hub sends a PING every ten seconds. */
async function keepAlive(rig: Rig, ms: number): Promise<void> {
  const { socket } = rig;
  for (; ms > 0; ms -= 10_000) {
    await clock.advance(Math.min(ms, 10_000));
    if (socket === rig.socket) await socket.deliver(hub.ping(0));
  }
}
