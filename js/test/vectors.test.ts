import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { type Bytes, jsonFrame, type Payload, split } from "../src/codec.js";
import { HubError } from "../src/errors.js";
import * as frames from "../src/frames.js";
import { Type } from "../src/frames.js";
import * as hub from "./hubframes.js";

interface Vector {
  name: string;
  frame: string;
}

const { frames: vectors } = JSON.parse(readFileSync("../wire/testdata/version2.json", "utf8")) as { frames: Vector[] };

function bytesOf(hex: string): Bytes {
  return new Uint8Array(Buffer.from(hex, "hex"));
}

/**
 * Decodes a frame of the hub with the client, and encodes it again. Undefined: it is a frame of a
 * client.
 */
function rebuildHubFrame(type: number, payload: Payload): Bytes | undefined {
  const json = () => hub.readJSON(payload);
  switch (type) {
    case Type.Welcome:
      return checkFields(type, frames.welcome(payload), json());
    case Type.GoAway:
      return checkFields(type, frames.goAway(payload), json());
    case Type.Renewed:
      return checkFields(type, frames.renewed(payload), json());
    case Type.Deliver: {
      const d = frames.deliver(payload);
      return hub.deliver(d.sender, d.seq, d.flags, d.body, BigInt(Math.round(d.time * 1000)));
    }
    case Type.Report: {
      const r = frames.report(payload);
      return hub.report(r.seq, ...r.fates);
    }
    case Type.ListPage: {
      const page = frames.listPage(payload);
      return hub.listPage(Number(payload.getBigUint64(0)), page.more, page.ids); // the client has no use for the total
    }
    case Type.Presence: {
      const p = frames.presence(payload);
      return hub.presence(Number(p.revision), p.flags, p.joined, p.left);
    }
    case Type.Error: {
      const e = frames.error(payload);
      return hub.error(e.seq, e.code, e.text);
    }
    case Type.Ack:
      return hub.ack(Number(frames.u64(payload)));
    case Type.Skip:
      return hub.skip();
  }
  return undefined;
}

/**
 * Checks that the client has every field of a JSON frame that it knows, and encodes the frame
 * again.
 */
function checkFields(type: number, decoded: object, fields: Record<string, unknown>): Bytes {
  for (const [key, value] of Object.entries(decoded)) if (key in fields) assert.equal(value, fields[key], key);
  return jsonFrame(type, fields);
}

/** Reads a frame of a client, and encodes it again with the client. */
function rebuildClientFrame(type: number, payload: Payload): Bytes | undefined {
  switch (type) {
    case Type.Hello: {
      const { version, ...fields } = hub.readJSON(payload);
      assert.equal(version, 2);
      return frames.hello(fields as frames.Hello);
    }
    case Type.Send: {
      const s = hub.readSend(payload);
      const frame = frames.send(s.to.map(BigInt), s.body);
      frames.stampSend(frame, s.seq, s.options, s.ttl);
      return frame;
    }
    case Type.Verdict:
      return frames.verdicts(hub.readVerdicts(payload));
    case Type.ListRange:
      return frames.listRange(payload.getBigUint64(0), payload.getUint32(8));
    case Type.Watch:
      return frames.watch(payload.getUint8(0) === 1, payload.getBigUint64(1));
    case Type.Renew:
      return frames.renew(hub.readJSON(payload).token as string);
    case Type.Ping:
      return frames.ping(Number(frames.u64(payload)));
    case Type.Pong:
      return frames.pong(frames.u64(payload));
    case Type.Ack:
      return frames.ack(Number(frames.u64(payload)));
    case Type.Bye:
      return frames.bye();
  }
  return undefined;
}

test("the vectors of version 2 are decoded and encoded again, byte for byte", async (t) => {
  assert.ok(vectors.length > 30);
  const types = new Set<number>();
  for (const { name, frame } of vectors) {
    await t.test(name, () => {
      const bytes = bytesOf(frame);
      const seen: number[] = [];
      split(bytes.buffer, (type, payload) => {
        seen.push(type);
        types.add(type);
        const rebuilt = [rebuildHubFrame(type, payload), rebuildClientFrame(type, payload)].filter(
          (b) => b !== undefined,
        );
        assert.ok(rebuilt.length > 0, `type 0x${type.toString(16)}`);
        for (const b of rebuilt) assert.equal(Buffer.from(b).toString("hex"), frame);
      });
      assert.equal(seen.length, 1);
    });
  }
  const defined = [
    Type.Hello,
    Type.Welcome,
    Type.Send,
    Type.Deliver,
    Type.Report,
    Type.Verdict,
    Type.ListRange,
    Type.ListPage,
    Type.Watch,
    Type.Presence,
    Type.Ping,
    Type.Pong,
    Type.Error,
    Type.Bye,
    Type.GoAway,
    Type.Ack,
    Type.Skip,
    Type.Renew,
    Type.Renewed,
  ];
  for (const type of defined) assert.ok(types.has(type), `no vector has type 0x${type.toString(16)}`);
});

test("a message that ends within a frame is an error", () => {
  for (const { name, frame } of vectors) {
    const bytes = bytesOf(frame);
    for (let n = 1; n < bytes.length; n++) {
      assert.throws(
        () => split(bytes.slice(0, n).buffer, () => assert.fail("a part of a frame was handled")),
        isProtocolError,
        `${name}, ${n} bytes`,
      );
    }
  }
});

test("a payload that is too short is an error, and nothing else is thrown", () => {
  let rejected = 0;
  for (const { frame } of vectors) {
    const bytes = bytesOf(frame);
    for (let n = 5; n < bytes.length; n++) {
      const cut = bytes.slice(0, n);
      new DataView(cut.buffer).setUint32(0, n - 4);
      split(cut.buffer, (type, payload) => {
        try {
          rebuildHubFrame(type, payload);
        } catch (error) {
          assert.ok(isProtocolError(error), String(error));
          rejected++;
        }
      });
    }
  }
  assert.ok(rejected > 1000, `${rejected} payloads were rejected`);
});

test("several frames of one message are split, and an empty frame has no type", () => {
  const seen: string[] = [];
  const message = hub.concat(hub.ack(1), new Uint8Array(4), hub.ping(2));
  split(message.buffer, (type, payload) => seen.push(`${type}:${payload.byteLength}`));
  assert.deepEqual(seen, ["31:8", "0:0", "26:8"]);
});

test("fields of the wrong type are an error that names the field", () => {
  for (const fields of [
    { id: 7 },
    { credit: "1" },
    { window: -1 },
    { resumed: "true" },
    { keepalive_ms: 0 },
    { seq: "x" },
    { version: 1 },
    { epoch: "" },
  ]) {
    const [key] = Object.keys(fields) as [string];
    split(hub.welcome(fields).buffer, (_, payload) =>
      assert.throws(
        () => frames.welcome(payload),
        (error) => (isProtocolError(error) && ["seq", "version"].includes(key)) || String(error).includes(key),
        key,
      ),
    );
  }
  split(jsonFrame(Type.Welcome, []).buffer, (_, payload) =>
    assert.throws(() => frames.welcome(payload), isProtocolError),
  );
});

function isProtocolError(error: unknown): boolean {
  return error instanceof HubError && error.code === "protocol" && !error.retry;
}
