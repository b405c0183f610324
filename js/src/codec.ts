// The layout of frames: length u32, type u8, payload. All integers are big-endian.

import { malformed } from "./errors.js";

/** Bytes that WebSocket.send accepts. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** The payload of a frame: a view of the message that contained the frame. */
export type Payload = DataView<ArrayBuffer>;

/** The size of length and type, in bytes. */
export const headerSize = 5;

/**
 * Calls a function for each frame of one WebSocket message of the hub, which holds whole frames. An
 * empty frame has the type 0.
 */
export function split(message: ArrayBuffer, onFrame: (type: number, payload: Payload) => void): void {
  const view = new DataView(message);
  for (let at = 0, rest = view.byteLength; rest > 0;) {
    const length = rest < 4 ? Infinity : view.getUint32(at);
    if (4 + length > rest) throw malformed(`a message ends within a frame`);
    onFrame(
      length && view.getUint8(at + 4),
      new DataView(message, at + (length ? headerSize : 4), Math.max(length - 1, 0)),
    );
    at += 4 + length;
    rest -= 4 + length;
  }
}

/** Returns a frame. fill writes its payload, which begins at {@link headerSize} and is zero. */
export function frameOf(type: number, payloadSize: number, fill?: (view: DataView, frame: Bytes) => void): Bytes {
  const frame = new Uint8Array(headerSize + payloadSize);
  const view = new DataView(frame.buffer);
  view.setUint32(0, 1 + payloadSize);
  view.setUint8(4, type);
  fill?.(view, frame);
  return frame;
}

/** Returns a frame whose payload is one JSON object. */
export function jsonFrame(type: number, value: object): Bytes {
  const json = encodeText(JSON.stringify(value));
  return frameOf(type, json.length, (_, frame) => frame.set(json, headerSize));
}

/** Returns a frame whose payload is one u64. */
export function u64Frame(type: number, value: bigint | number): Bytes {
  return frameOf(type, 8, (view) => view.setBigUint64(headerSize, BigInt(value)));
}

/** Returns the bytes from an offset to the end of a payload. */
export function bytesFrom(payload: Payload, offset: number): Bytes {
  return new Uint8Array(payload.buffer, payload.byteOffset + offset, payload.byteLength - offset);
}

/** Returns text as UTF-8. */
export function encodeText(text: string): Bytes {
  return new TextEncoder().encode(text);
}

/** Returns the text of UTF-8. Invalid bytes become U+FFFD. */
export function decodeText(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** Returns the ids from an offset up to another, as decimal strings. */
export function idsOf(payload: Payload, from: number, to: number): string[] {
  const ids: string[] = [];
  for (let at = from; at < to; at += 8) ids.push(`${payload.getBigUint64(at)}`);
  return ids;
}

/** Returns the number of an id. Throws a TypeError if it is not the decimal string of a u64. */
export function parseID(id: string): bigint {
  if (typeof id !== "string" || !/^(0|[1-9]\d{0,19})$/.test(id) || BigInt(id) >> 64n)
    throw new TypeError(`"${id}" is not an id`);
  return BigInt(id);
}
