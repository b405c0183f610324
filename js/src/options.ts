import type { Fate } from "./fates.js";
import type { WebSocketClass } from "./websocket.js";

/** The options of {@link connect}. All times are in milliseconds, all sizes in bytes. */
export interface ConnectOptions {
  /**
   * The token that authenticates the client, or a function that gets one. The function is called
   * for each connection, and again one minute before the token expires, or when a fifth of its
   * lifetime is left if that is shorter: the client renews the token on the living connection, or
   * reconnects with it if the hub is too old for that. No message is lost either way. The signal
   * aborts when the result is not needed any more, and only then another call can follow before
   * this one has returned. If the function fails, the attempt to connect fails, and a living
   * connection stays.
   */
  token?: string | ((signal: AbortSignal) => string | Promise<string>);
  /** A name that the operator of the hub sees: its first 64 bytes in UTF-8. */
  name?: string;
  /**
   * What happens to messages that may not have reached the hub when the session is lost (the event
   * `id`). true: they are sent again, and some receivers can get them twice. false: `sendReport`
   * fails with the code `session_lost`, and the event `id` counts the others. Messages to ids that
   * a restart of the hub has made invalid fail in any case. Default: false.
   */
  resend?: boolean;
  /**
   * The bound of the random delay before the first attempt to reconnect. It doubles with each
   * attempt. At least 1. Default: 200.
   */
  minDelay?: number;
  /** The largest bound of that delay. At least 1. Default: 20,000. */
  maxDelay?: number;
  /**
   * true: `connect` tries again, like a reconnect, instead of failing with the first attempt.
   * Default: false.
   */
  waitOnFirstConnect?: boolean;
  /** Ends `connect`. It has no effect on a client that is connected: see `close`. */
  signal?: AbortSignal;
  /**
   * The WebSocket of a platform that has none, such as Node 20: that of the package `ws`. Default:
   * the global one.
   */
  WebSocket?: WebSocketClass;
}

/** How one message is sent. */
export interface SendOptions {
  /**
   * The time to live in milliseconds, from the call on, and at most 4,294,967,295. A message that
   * has not been written to a receiver by then is not delivered to it, wherever it waits. Default:
   * it does not expire.
   */
  ttl?: number;
  /**
   * What happens when the outbox of a receiver in the hub is full: `block` waits for room, `reject`
   * drops this message, and `drop-oldest` drops the oldest one that this client has sent to the
   * receiver with `drop-oldest`. Default: `block`.
   */
  ifFull?: "block" | "reject" | "drop-oldest";
  /**
   * Ends the wait for room in the queue, and for the report. A message that waits for room is not
   * sent then.
   */
  signal?: AbortSignal;
}

/** How one message is sent whose fates are reported. */
export interface SendReportOptions extends SendOptions {
  /**
   * How far the message must come for each receiver before the report is made: `written` to its
   * connection, `received` by its application, or `processed`: its application has called `ack` or
   * `nak`. Default: `received`.
   */
  level?: "written" | "received" | "processed";
}

/** The fates of one message. */
export interface Report {
  /** The fate for each receiver. For a receiver that `to` names twice: that of its last copy. */
  readonly fates: ReadonlyMap<string, Fate>;
  /** The fate for each entry of `to`, in its order. */
  readonly list: readonly Fate[];
}

/** The options of connect with all defaults. */
export type Settings = ReturnType<typeof settingsOf>;

/** Returns the checked options with all defaults. Throws a RangeError or TypeError. */
export function settingsOf(options: ConnectOptions) {
  const { token, name = "", resend = false, waitOnFirstConnect = false, minDelay = 200, maxDelay = 20_000 } = options;
  const { WebSocket = (globalThis as { WebSocket?: WebSocketClass }).WebSocket } = options;
  if (!WebSocket) throw new TypeError("the option WebSocket is missing");
  inRange("minDelay", minDelay, 1, Infinity);
  inRange("maxDelay", maxDelay, 1, Infinity);
  const canRenew = typeof token === "function";
  const getToken = async (signal: AbortSignal) => (canRenew ? token(signal) : token) ?? "";
  return { name, resend, waitOnFirstConnect, canRenew, minDelay, maxDelay, WebSocket, getToken };
}

/** Throws a RangeError unless a number is in a range. */
export function inRange(name: string, value: number, min: number, max: number): void {
  if (!(value >= min && value <= max)) throw new RangeError(`${name}: ${value} is not from ${min} to ${max}`);
}
