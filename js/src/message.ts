import { decodeText } from "./codec.js";
import { processed, rejected } from "./fates.js";
import type { Deliver } from "./frames.js";

/** A message of another client, or of this client to itself. */
export class Message {
  /** The id of the sender. The hub sets it: a sender cannot forge it. */
  readonly from: string;
  /**
   * The content. The application owns it, without a limit in time. Messages that arrived together
   * share one buffer, which is freed with the last of them: copy a small body (`body.slice()`)
   * that is kept for long.
   */
  readonly body: Uint8Array;
  /** When the hub read the message, in milliseconds since 1970, by the clock of the hub. */
  readonly time: number;
  #onVerdict: ((fate: number) => void) | undefined;

  /** @internal onVerdict takes the verdict; undefined: the sender waits for none. */
  constructor({ sender, body, time }: Deliver, onVerdict?: (fate: number) => void) {
    this.from = `${sender}`;
    this.body = body;
    this.time = time;
    this.#onVerdict = onVerdict;
  }

  /** Returns the body as UTF-8 text. Invalid bytes become U+FFFD. */
  text(): string {
    return decodeText(this.body);
  }

  /** Returns the body as JSON. Throws a SyntaxError if it is none. */
  json<T = unknown>(): T {
    return JSON.parse(this.text()) as T;
  }

  /**
   * Tells the sender that the application has processed the message. Does nothing if the sender did
   * not ask for the level `processed`, and after an earlier `ack` or `nak`. The sender learns it
   * even if the connection is lost meanwhile, unless this client gets a new id.
   */
  ack(): void {
    this.#decide(processed);
  }

  /** Tells the sender that the application rejects the message. Otherwise like {@link ack}. */
  nak(): void {
    this.#decide(rejected);
  }

  #decide(fate: number): void {
    this.#onVerdict?.(fate);
    this.#onVerdict = undefined;
  }
}
