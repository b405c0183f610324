import type { Client } from "./client.js";
import { encodeText, parseID } from "./codec.js";
import { now } from "./clock.js";
import type { HubEvents, HubState } from "./events.js";
import { type Fate, fateName } from "./fates.js";
import { maxReceivers } from "./frames.js";
import type { Message } from "./message.js";
import { inRange, type Report, type SendOptions, type SendReportOptions } from "./options.js";
import type { PresenceChange } from "./presence.js";
import { PendingSend } from "./pendingsend.js";

/** What `send` takes as a body. Text is sent as UTF-8. */
export type Body = string | ArrayBuffer | ArrayBufferView;

/** The largest time to live in a SEND, in milliseconds. */
const maxTTL = 0xffffffff;

const levels = ["", "written", "received", "processed"];
const policies = ["block", "reject", "drop-oldest"];

/**
 * A client of a hub. {@link connect} makes one.
 *
 * It reconnects by itself. Within the resume window of the hub (30 s by default) it keeps its id,
 * and no message is lost, duplicated or reordered. After that it has a new id: see the event `id`.
 *
 * Messages of one sender arrive once and in their order. Read them by `for await (const m of hub)`.
 * Messages that the application has not read are not acknowledged, and the hub holds back further
 * ones at its receive window (8 MiB by default): their senders wait. A client that does not read
 * while others wait for it is disconnected after some seconds.
 *
 * All methods can be called at any time, also while an earlier call waits.
 */
export class Hub implements AsyncIterable<Message> {
  readonly #client: Client;

  /** @internal */
  constructor(client: Client) {
    this.#client = client;
  }

  /** The id by which others reach this client. It changes with the event `id`. */
  get id(): string {
    return this.#client.session.id;
  }

  /** The present state: see {@link HubState}. */
  get state(): HubState {
    return this.#client.state;
  }

  /**
   * Sends a message to one client, or to each of up to 255 clients. An id that is named twice gets
   * it twice, and an id that is not connected is skipped: the fates of {@link sendReport} tell.
   * This client can be one of them.
   *
   * Resolves when the message is in the queue of this client, which outlives a lost connection, and
   * waits while the queue is full because the hub or the receivers are slow. Messages enter in the
   * order of the calls. The body is copied before send returns.
   *
   * Rejects, and nothing is sent, with a RangeError for more than 255 receivers, a body above the
   * limit of the hub (1 MiB by default) or an option out of range; a TypeError for an invalid id;
   * the reason of the signal; and a {@link HubError} with the code `session_lost` if the hub has
   * restarted while the message waited, or why the client has ended.
   */
  async send(to: string | readonly string[], body: Body, options: SendOptions = {}): Promise<void> {
    await this.#post(namesOf(to), body, 0, options);
  }

  /**
   * Sends a message like {@link send} and resolves with its fates. The hub reports when each
   * receiver has reached `level` or cannot reach it any more, or when `ttl` is over, and after its
   * report timeout (1 minute by default) in any case.
   *
   * The report comes behind messages that the hub sent before: something must read those. When the
   * signal aborts while the report is awaited, the message can still arrive.
   *
   * Rejects like {@link send}, and with the codes `session_lost` and
   * `message_refused` of {@link HubError}.
   */
  async sendReport(to: string | readonly string[], body: Body, options: SendReportOptions = {}): Promise<Report> {
    const names = namesOf(to);
    const level = indexOf("level", levels, options.level ?? "received", 1);
    const fates = (await this.#post(names, body, level, options)) as Uint8Array;
    const list = Array.from(fates, fateName);
    return { list, fates: new Map(names.map((id, i) => [id, list[i] as Fate])) };
  }

  /** Queues a message. level 0: without a report. Throws, or rejects. */
  #post(
    names: readonly string[],
    body: Body,
    level: number,
    options: SendReportOptions,
  ): Promise<Uint8Array | undefined> {
    const { ttl = Infinity, ifFull = "block", signal } = options;
    const { sendQueue, maxSendBody } = this.#client.session;
    signal?.throwIfAborted();
    const to = names.map(parseID);
    const bytes = bytesOf(body);
    inRange("receivers", names.length, 0, maxReceivers);
    inRange("bytes in a body", bytes.length, 0, maxSendBody);
    if (ttl !== Infinity) inRange("ttl", ttl, 1, maxTTL);
    const parameters = level + 4 * indexOf("ifFull", policies, ifFull, 0);
    return sendQueue.enqueue(new PendingSend(to, bytes, parameters, now() + ttl), signal);
  }

  /**
   * Iterates over the messages as they arrive. A message counts as received by the application when
   * the loop asks for the next one, or after 50 to 100 ms. Each message goes to one loop. Leaving
   * the loop loses no message. The loop ends when {@link close} is called, and throws a
   * {@link HubError} when the client has ended otherwise, behind the last message.
   */
  [Symbol.asyncIterator](): AsyncIterator<Message, undefined> {
    return {
      next: () => this.#client.session.inbox.next(),
      return: async () => ({ done: true, value: undefined }),
    };
  }

  /**
   * Yields the ids of all connected clients in ascending order, this client included. It asks the
   * hub for 8,192 ids at a time, and asks again after a reconnect. Clients that join or leave
   * meanwhile can be missing or contained. Yields nothing if this client is not permitted to list.
   * Throws a {@link HubError} when the client has ended.
   */
  async *list(): AsyncGenerator<string, void, undefined> {
    for (let after = 0n; ;) {
      const { ids, more } = await this.#client.session.requests.page(after);
      yield* ids;
      const last = ids.at(-1);
      if (!more || last === undefined) return;
      after = BigInt(last);
    }
  }

  /**
   * Adds a listener: see {@link HubEvents}. The result removes it. The client watches presence
   * while `presence` has a listener. If the hub does not accept that, the event `error` has the
   * code `watch_forbidden` or `too_many_watchers`; the next listener asks again.
   */
  on<K extends keyof HubEvents>(event: K, listener: (...args: HubEvents[K]) => void): () => void {
    const { events, session } = this.#client;
    const remove = events.on(event, listener);
    if (event !== "presence") return remove;
    const { presence } = session;
    const { current } = presence;
    if (current) queueMicrotask(() => (listener as (change: PresenceChange) => void)(current));
    presence.watch(true);
    return () => {
      remove();
      presence.watch(events.of("presence").length > 0);
    };
  }

  /**
   * Sends what is queued, for at most `closeTimeout`, and ends the session: others see this client
   * leave. Messages that the application has not read are dropped; their fate is `uncertain` or
   * `gone`. Calls that wait reject with the code `closed`. Can be called more than once.
   *
   * Rejects with the code `unsent` if messages of {@link send} may not have reached the hub.
   */
  close(): Promise<void> {
    return this.#client.close();
  }

  /** Closes the client at the end of a block: `await using hub = await connect(url)`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function namesOf(to: string | readonly string[]): readonly string[] {
  return typeof to === "string" ? [to] : [...to];
}

/** Returns the index of an option. Throws a RangeError if there is no such one from min on. */
function indexOf(name: string, values: readonly string[], value: string, min: number): number {
  const i = values.indexOf(value, min);
  if (i < 0) throw new RangeError(`${name} is "${value}"`);
  return i;
}

function bytesOf(body: Body): Uint8Array {
  if (typeof body === "string") return encodeText(body);
  if (body.byteLength >= 0)
    return "buffer" in body ? new Uint8Array(body.buffer, body.byteOffset, body.byteLength) : new Uint8Array(body);
  throw new TypeError("a body is text or bytes");
}
