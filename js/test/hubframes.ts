// The frames of a hub, as the tests build them, and those of a client, as the tests read them.

import { type Bytes, frameOf, headerSize, jsonFrame, u64Frame } from "../src/codec.js";
import { Type } from "../src/frames.js";

export const defaultWelcome = {
  version: 2,
  id: "7",
  resume: "SECRET",
  seq: "0",
  taken: "0",
  hub: "test",
  epoch: "1",
  max_body: 1000,
  max_deliver: 1000,
  max_receivers: 255,
  max_reports: 16,
  credit: 1000,
  receiver_cost: 16,
  window: 1000,
  keepalive_ms: 15_000,
};

export const welcome = (fields: object = {}) => jsonFrame(Type.Welcome, { ...defaultWelcome, ...fields });
export const goAway = (fields: object) => jsonFrame(Type.GoAway, fields);
export const renewed = (fields: object) => jsonFrame(Type.Renewed, fields);
export const ack = (n: number) => u64Frame(Type.Ack, n);
export const ping = (n: number) => u64Frame(Type.Ping, n);
export const pong = (n: number) => u64Frame(Type.Pong, n);
export const skip = () => frameOf(Type.Skip, 0);

export function deliver(sender: bigint, seq: bigint, flags: number, body: Uint8Array, time = 0n): Bytes {
  return frameOf(Type.Deliver, 25 + body.length, (view, frame) => {
    view.setBigUint64(headerSize, sender);
    view.setBigUint64(headerSize + 8, seq);
    view.setBigUint64(headerSize + 16, time);
    view.setUint8(headerSize + 24, flags);
    frame.set(body, headerSize + 25);
  });
}

export function report(seq: number, ...fates: number[]): Bytes {
  return frameOf(Type.Report, 9 + fates.length, (view, frame) => {
    view.setBigUint64(headerSize, BigInt(seq));
    view.setUint8(headerSize + 8, fates.length);
    frame.set(fates, headerSize + 9);
  });
}

export function listPage(total: number, more: boolean, ids: readonly string[]): Bytes {
  return frameOf(Type.ListPage, 9 + 8 * ids.length, (view) => {
    view.setBigUint64(headerSize, BigInt(total));
    view.setUint8(headerSize + 8, more ? 1 : 0);
    ids.forEach((id, i) => view.setBigUint64(headerSize + 9 + 8 * i, BigInt(id)));
  });
}

export function presence(revision: number, flags: number, joined: readonly string[], left: readonly string[]): Bytes {
  return frameOf(Type.Presence, 13 + 8 * (joined.length + left.length), (view) => {
    view.setBigUint64(headerSize, BigInt(revision));
    view.setUint8(headerSize + 8, flags);
    view.setUint32(headerSize + 9, joined.length);
    [...joined, ...left].forEach((id, i) => view.setBigUint64(headerSize + 13 + 8 * i, BigInt(id)));
  });
}

export function error(seq: number, code: number, text: string): Bytes {
  const bytes = new TextEncoder().encode(text);
  return frameOf(Type.Error, 10 + bytes.length, (view, frame) => {
    view.setBigUint64(headerSize, BigInt(seq));
    view.setUint16(headerSize + 8, code);
    frame.set(bytes, headerSize + 10);
  });
}

/** Returns several frames as one WebSocket message. */
export function concat(...frames: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(frames.reduce((sum, f) => sum + f.length, 0));
  let at = 0;
  for (const frame of frames) {
    all.set(frame, at);
    at += frame.length;
  }
  return all;
}

/** A SEND as the tests read it. */
export interface ReadSend {
  seq: number;
  options: number;
  ttl: number;
  to: string[];
  body: Uint8Array;
}

export function readSend(p: DataView<ArrayBuffer>): ReadSend {
  const count = p.getUint8(16);
  const to = Array.from({ length: count }, (_, i) => p.getBigUint64(17 + 8 * i).toString());
  const at = 17 + 8 * count;
  return {
    seq: Number(p.getBigUint64(0)),
    options: p.getUint32(8),
    ttl: p.getUint32(12),
    to,
    body: new Uint8Array(p.buffer, p.byteOffset + at, p.byteLength - at),
  };
}

export function readJSON(p: DataView<ArrayBuffer>): Record<string, unknown> {
  return JSON.parse(new TextDecoder().decode(p)) as Record<string, unknown>;
}

export function readVerdicts(p: DataView): { sender: bigint; seq: bigint; fate: number }[] {
  return Array.from({ length: p.byteLength / 17 }, (_, i) => ({
    sender: p.getBigUint64(17 * i),
    seq: p.getBigUint64(17 * i + 8),
    fate: p.getUint8(17 * i + 16),
  }));
}
