import { ack } from "./frames.js";
import type { Message } from "./message.js";
import type { Outlet } from "./outlet.js";

/** An unread message. */
interface Entry {
  message: Message;
  before: number; // reliable frames before it
  size: number; // of its frame, in bytes
}

interface Waiter {
  resolve(result: IteratorResult<Message, undefined>): void;
  reject(error: unknown): void;
}

/**
 * The unread messages, and the state of the cumulative ACK. A message counts as received when
 * the application asks for the next one, or one to two ticks after it got this one. Until then
 * it is not acknowledged: the hub sends at most its window ahead, and so bounds the inbox.
 *
 * Positions are numbers of reliable frames (rule D1 of docs/PROTOCOL.md):
 *
 *     acked ≤ received ≤ delivered ≤ read
 */
export class Inbox {
  #window = 0; // bytes
  #entries: Entry[] = [];
  #head = 0; // index of the first unread entry
  #waiters: Waiter[] = []; // calls of next, if no entry is unread
  #isEnded = false; // no message comes any more
  #error: unknown; // why, unless the application has closed the client

  #read = 0;
  #received = 0;
  #acked = 0;
  #deliveredAtTick = 0;
  #unackedBytes = 0; // of delivered frames since the last ACK
  #isUrgent = false; // a sender waits for an ACK

  constructor(readonly outlet: Outlet) {}

  /**
   * Returns what HELLO tells: the number of reliable frames that have arrived, and that the
   * application has.
   */
  hello(): { read: number; received: number } {
    this.#acked = this.#received;
    return { read: this.#read, received: this.#received };
  }

  get #first(): Entry | undefined {
    return this.#entries[this.#head];
  }

  get #delivered(): number {
    return this.#first?.before ?? (this.#isEnded ? this.#received : this.#read);
  }

  /**
   * Adds a reliable frame. size: in bytes. message: undefined for a REPORT or SKIP. isUrgent: a
   * sender waits for its ACK.
   */
  push(size: number, message?: Message, isUrgent?: boolean): void {
    const before = this.#read;
    const isIdle = this.#delivered === this.#received; // the application has no message in its hands
    this.#read++;
    if (isUrgent) this.#isUrgent = true;
    const waiter = message && this.#waiters.shift();
    if (message && !waiter && !this.#isEnded) this.#entries.push({ message, before, size });
    else this.#onDelivered(size);
    if (isIdle) this.#received = message && !this.#isEnded ? Math.min(this.#delivered, before) : this.#delivered;
    waiter?.resolve({ done: false, value: message as Message });
  }

  /** Returns the next message, and marks the earlier ones as received. */
  async next(): Promise<IteratorResult<Message, undefined>> {
    this.flush(this.#isUrgent && !this.#first);
    const entry = this.#first;
    if (entry) {
      if (++this.#head > 999 || !this.#first) (this.#entries.splice(0, this.#head), (this.#head = 0));
      this.#onDelivered(entry.size);
      return { done: false, value: entry.message };
    }
    if (!this.#isEnded) return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
    if (this.#error) throw this.#error;
    return { done: true, value: undefined };
  }

  #onDelivered(size: number): void {
    this.#unackedBytes += size;
    this.outlet.arm();
  }

  /**
   * Marks all delivered messages as received. Acknowledges them at once, or when half of the window
   * is used.
   */
  flush(isDue = true): void {
    this.#received = this.#delivered;
    if (isDue || this.#unackedBytes >= this.#window / 2) this.sendAck();
  }

  /** Acknowledges what the application has, if there is anything new. */
  sendAck(): void {
    if (!this.outlet.isOpen || this.#received === this.#acked) return;
    this.#acked = this.#received;
    this.#unackedBytes = 0;
    if (!this.#first) this.#isUrgent = false;
    this.outlet.write(ack(this.#acked));
  }

  /**
   * Marks as received what was delivered before the last tick, and acknowledges it. Reports whether
   * another tick is needed.
   */
  tick(): boolean {
    this.#received = Math.max(this.#received, this.#deliveredAtTick);
    this.#deliveredAtTick = this.#delivered;
    this.sendAck();
    return this.outlet.isOpen && this.#deliveredAtTick > this.#acked;
  }

  /** A connection has begun. window: that of the hub, in bytes. A new session counts from 0. */
  attach(window: number, isResumed: boolean): void {
    this.#window = window;
    if (isResumed) return;
    this.#read = this.#received = this.#acked = this.#deliveredAtTick = 0;
    for (const entry of this.#entries) entry.before = 0;
  }

  /** The application takes no further message. What it has counts as received. */
  discard(): void {
    this.#received = this.#delivered;
    this.#entries = [];
    this.#head = 0;
    this.end();
  }

  /** No message comes any more. Unread ones can still be read, and then error is thrown. */
  end(error?: unknown): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#error = error;
    for (const w of this.#waiters.splice(0)) {
      if (error) w.reject(error);
      else w.resolve({ done: true, value: undefined });
    }
  }
}
