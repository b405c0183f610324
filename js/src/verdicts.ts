import { type Deliver, type Verdict, verdicts } from "./frames.js";
import type { Outlet } from "./outlet.js";

/** The most verdicts in one frame: it fits into the smallest frame limit of a hub, 2,058 bytes. */
const maxPerFrame = 120;

/**
 * The verdicts of the application until the hub has confirmed them: the PONG to a PING confirms
 * the verdicts before that PING, on the same connection (rule X5 of docs/PROTOCOL.md).
 */
export class Verdicts {
  #pending: Verdict[] = []; // not confirmed
  #sent = 0; // how many of #pending were sent on the connection
  #flushing = false; // a microtask sends the others
  #generation = 0; // changes with each new session

  /** The number of confirmed verdicts of all connections. */
  confirmed = 0;

  constructor(readonly outlet: Outlet) {}

  /** Returns the function that takes the verdict about a message of the present session. */
  sinkFor(d: Deliver): (fate: number) => void {
    const generation = this.#generation;
    return (fate) => {
      if (generation !== this.#generation) return; // seq can be another message in a new session
      this.#pending.push({ sender: d.sender, seq: d.seq, fate });
      if (!this.#flushing) queueMicrotask(() => this.flush());
      this.#flushing = true;
    };
  }

  /** Sends the verdicts that were not sent on this connection. */
  flush(): void {
    this.#flushing = false;
    if (!this.outlet.isOpen) return;
    while (this.#sent < this.#pending.length) {
      const batch = this.#pending.slice(this.#sent, this.#sent + maxPerFrame);
      this.outlet.write(verdicts(batch));
      this.#sent += batch.length;
      this.outlet.arm();
    }
  }

  /** Whether sent verdicts are not confirmed. */
  get hasUnconfirmed(): boolean {
    return this.outlet.isOpen && this.#sent > 0;
  }

  /** The number for a PING: its PONG confirms all verdicts that are sent now. */
  get pingNumber(): number {
    return this.confirmed + this.#sent;
  }

  /** Handles the number of a PONG. */
  handlePong(confirmed: number): void {
    const n = confirmed - this.confirmed;
    if (n <= 0 || n > this.#sent) return;
    this.#pending.splice(0, n);
    this.#sent -= n;
    this.confirmed = confirmed;
  }

  /** A connection has begun. A new session drops all verdicts, a resumed one repeats them. */
  attach(isResumed: boolean): void {
    this.#sent = 0;
    if (!isResumed) {
      this.#pending = [];
      this.#generation++;
    }
    this.flush();
  }
}
