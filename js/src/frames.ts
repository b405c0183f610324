// Each frame of version 2 that a client sends or receives: docs/PROTOCOL.md.

import {
  type Bytes,
  bytesFrom,
  decodeText,
  frameOf,
  headerSize,
  idsOf,
  jsonFrame,
  type Payload,
  u64Frame,
} from "./codec.js";
import { malformed } from "./errors.js";

/** Types of frames. */
export const enum Type {
  Hello = 0x10,
  Welcome,
  Send,
  Deliver,
  Report,
  Verdict,
  ListRange,
  ListPage,
  Watch,
  Presence,
  Ping,
  Pong,
  Error,
  Bye,
  GoAway,
  Ack,
  /** The first type that a later edition can define: rule F8. */
  FirstUnknown,
  Skip = 0x24,
  Renew,
  Renewed,
}

/** Codes of ERROR that this client acts on. The ERROR of a SEND has its seq instead. */
export const enum ErrorCode {
  Forbidden = 3,
  TooManyWatchers = 5,
  RenewalRefused,
  RenewalExpired,
  RenewalLater,
}

/** The largest number of receivers of a SEND. */
export const maxReceivers = 255;

// To the hub.

/**
 * The content of HELLO. Absent fields are undefined. The names, and their order, are those of the
 * protocol.
 */
export interface Hello {
  name?: string;
  token?: string;
  confirms?: boolean;
  id?: string;
  resume?: string;
  received?: string;
  skip?: boolean;
  read?: string | undefined;
}

export const hello = (fields: Hello) => jsonFrame(Type.Hello, { version: 2, ...fields });

/** The size of a SEND without ids and body, in bytes: the offset of its ids. */
export const sendHeaderSize = headerSize + 17;

/** Returns a SEND. stampSend completes it. */
export function send(to: readonly bigint[], body: Uint8Array): Bytes {
  return frameOf(Type.Send, 17 + 8 * to.length + body.length, (view, frame) => {
    view.setUint8(sendHeaderSize - 1, to.length);
    to.forEach((id, i) => view.setBigUint64(sendHeaderSize + 8 * i, id));
    frame.set(body, sendHeaderSize + 8 * to.length);
  });
}

/** Writes what is known only when a SEND is sent: its seq, options, and time to live in ms. */
export function stampSend(frame: Bytes, seq: number, options: number, ttl: number): void {
  const view = new DataView(frame.buffer);
  view.setBigUint64(headerSize, BigInt(seq));
  view.setUint32(headerSize + 8, options);
  view.setUint32(headerSize + 12, ttl);
}

/** The decision of the application about a message: fate 4 or 22. */
export interface Verdict {
  sender: bigint;
  seq: bigint;
  fate: number;
}

export function verdicts(list: readonly Verdict[]): Bytes {
  return frameOf(Type.Verdict, 17 * list.length, (view) =>
    list.forEach(({ sender, seq, fate }, i) => {
      const at = headerSize + 17 * i;
      view.setBigUint64(at, sender);
      view.setBigUint64(at + 8, seq);
      view.setUint8(at + 16, fate);
    }),
  );
}

export function listRange(after: bigint, limit: number): Bytes {
  return frameOf(Type.ListRange, 12, (view) => {
    view.setBigUint64(headerSize, after);
    view.setUint32(headerSize + 8, limit);
  });
}

export function watch(on: boolean, since: bigint): Bytes {
  return frameOf(Type.Watch, 9, (view) => {
    view.setUint8(headerSize, +on);
    view.setBigUint64(headerSize + 1, since);
  });
}

export const ping = (opaque: number) => u64Frame(Type.Ping, opaque);
export const pong = (opaque: bigint) => u64Frame(Type.Pong, opaque);
export const ack = (upTo: number) => u64Frame(Type.Ack, upTo);
export const bye = () => frameOf(Type.Bye, 0);
export const renew = (token: string) => jsonFrame(Type.Renew, { token });

// To the client.

/**
 * The fields of WELCOME, GOAWAY and RENEWED that the client uses, with their types and defaults.
 */
const welcomeFields = {
  version: 0,
  id: "",
  resume: "", // "": the session cannot be resumed
  resumed: false,
  seq: "",
  taken: "",
  epoch: "",
  grants_ids: false,
  max_body: 0,
  max_reports: 0,
  credit: 0,
  receiver_cost: 0, // 0: 64
  window: 0,
  keepalive_ms: 0,
  expires_ms: 0, // 0: never
  renew: false, // the hub knows RENEW
};
const goAwayFields = { code: "", reason: "", reconnect: false, after_ms: 0 };
const renewedFields = { expires_ms: 0, max_body: 0 };

export type Welcome = typeof welcomeFields;
export type GoAway = typeof goAwayFields;
export type Renewed = typeof renewedFields;

export function welcome(payload: Payload): Welcome {
  const w = fieldsOf(payload, welcomeFields);
  for (const key of ["id", "epoch", "max_reports", "credit", "window", "keepalive_ms"] as const)
    if (!(+w[key] > 0)) throw malformed(`${key} is ${w[key]}`);
  if (w.version !== 2 || !(+w.seq >= +w.taken)) throw malformed("WELCOME");
  return w;
}

export const goAway = (payload: Payload) => fieldsOf(payload, goAwayFields);
export const renewed = (payload: Payload) => fieldsOf(payload, renewedFields);

/** Returns the fields of a JSON frame, each of the type of its default. */
function fieldsOf<T extends object>(payload: Payload, defaults: T): T {
  let value: Record<string, unknown> | undefined;
  try {
    value = JSON.parse(decodeText(bytesFrom(payload, 0)));
  } catch {} // value stays undefined
  if (typeof value !== "object" || !value) throw malformed("JSON expected");
  const fields = { ...defaults, ...value } as Record<string, unknown>;
  for (const [key, fallback] of Object.entries(defaults)) {
    const field = fields[key];
    if (typeof field !== typeof fallback || (typeof field === "number" && !(field >= 0)))
      throw malformed(`${key} is ${JSON.stringify(field)}`);
  }
  return fields as T;
}

/** The content of DELIVER. The body is a view of the message that contained the frame. */
export interface Deliver {
  sender: bigint;
  seq: bigint;
  time: number; // ms since 1970, by the clock of the hub
  flags: number; // bit 0: the sender waits for an ACK; bit 1: for a VERDICT
  body: Bytes;
}

export function deliver(payload: Payload): Deliver {
  checkLength(payload, 25);
  return {
    sender: payload.getBigUint64(0),
    seq: payload.getBigUint64(8),
    time: Number(payload.getBigUint64(16)) / 1000,
    flags: payload.getUint8(24),
    body: bytesFrom(payload, 25),
  };
}

export function report(payload: Payload): { seq: number; fates: Bytes } {
  checkLength(payload, 9);
  checkLength(payload, 9 + payload.getUint8(8), 0);
  return { seq: Number(payload.getBigUint64(0)), fates: bytesFrom(payload, 9) };
}

/** The content of LIST_PAGE, without the total. */
export interface ListPage {
  more: boolean;
  ids: string[];
}

export function listPage(payload: Payload): ListPage {
  checkLength(payload, 9, 8);
  return { more: !!payload.getUint8(8), ids: idsOf(payload, 9, payload.byteLength) };
}

/** The content of PRESENCE. */
export interface PresenceFrame {
  revision: bigint;
  flags: number; // bit 0: a snapshot; bit 1: the next PRESENCE belongs to the same change
  joined: string[];
  left: string[];
}

export function presence(payload: Payload): PresenceFrame {
  checkLength(payload, 13);
  const left = 13 + 8 * payload.getUint32(9);
  checkLength(payload, left, 8);
  return {
    revision: payload.getBigUint64(0),
    flags: payload.getUint8(8),
    joined: idsOf(payload, 13, left),
    left: idsOf(payload, left, payload.byteLength),
  };
}

/** Returns the number of a PING, PONG or ACK. */
export function u64(payload: Payload): bigint {
  checkLength(payload, 8, 0);
  return payload.getBigUint64(0);
}

export function error(payload: Payload): { seq: number; code: number; text: string } {
  checkLength(payload, 10);
  return { seq: Number(payload.getBigUint64(0)), code: payload.getUint16(8), text: decodeText(bytesFrom(payload, 10)) };
}

/**
 * Throws unless a payload has min bytes and any number of units behind them. unit 0: exactly min
 * bytes.
 */
function checkLength({ byteLength }: Payload, min: number, unit = 1): void {
  const rest = byteLength - min;
  if (rest < 0 || (unit ? rest % unit : rest)) throw malformed(`a payload of ${byteLength} bytes`);
}
