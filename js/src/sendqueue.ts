import { HubError, malformed } from "./errors.js";
import { sendHeaderSize } from "./frames.js";
import type { Outlet } from "./outlet.js";
import type { PendingSend, SendLimits } from "./pendingsend.js";

/**
 * Bytes in the WebSocket above which messages wait: there they cannot expire, and need memory
 * twice.
 */
const maxBacklog = 128 << 10;

/** The cost of the queue at which further messages wait, in bytes; one message can exceed it. */
const maxCost = 256 << 10;

/**
 * Bytes of acknowledged messages, kept to be sent again, at which further ones wait for reports.
 */
const maxRetained = 16 << 20;

/**
 * The messages that `send` has accepted and that the hub has not acknowledged. It outlives
 * connections: what has not reached the hub is sent again. Its messages in the order of their seq:
 *
 *     ├── in flight ──┼── unsent ──┼── waiting for room ──┤
 *                     #next        #entered
 */
export class SendQueue {
  #sends: PendingSend[] = [];
  #next = 0;
  #entered = 0;
  #calls = new Map<number, PendingSend>(); // those that wait for their report, by seq
  #seq = 0; // of the last message
  #cost = 0; // of the messages that have entered
  #retained = 0; // cost of acknowledged messages that are kept
  /** The limits of the last WELCOME. Before it, nothing is sent. */
  #limits: SendLimits = { credit: 0, receiver_cost: 0, max_reports: 0, grants_ids: false };
  #inFlight = 0; // cost of the messages in flight
  #pendingReports = 0; // messages that wait for their report, acknowledged or not
  #isBlocked = false; // the credit was used up, and less than half of it is free again
  #isProbed = false; // since the last ACK
  #closed: HubError | undefined; // nothing enters any more

  /** onRefused: a message without a report is not sent. onFlushed: every message is in flight. */
  constructor(
    readonly outlet: Outlet,
    readonly resend: boolean,
    readonly onRefused: (error: HubError) => void,
    readonly onFlushed: () => void,
  ) {}

  /** The number of messages that the hub has not acknowledged. */
  get length(): number {
    return this.#sends.length;
  }

  /**
   * Drops expired messages, and sends those for which the WebSocket has room. Reports whether
   * another tick is needed.
   */
  tick(): boolean {
    this.#sweep();
    this.pump();
    return this.#sends.some((p) => this.outlet.isOpen || p.expires < Infinity);
  }

  /**
   * Appends a message. The result resolves with its fates, or, without a report, when there is room
   * for it in the queue.
   */
  enqueue(p: PendingSend, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const onAbort = () => {
      if (p.isWaiting) this.#take((other) => other === p);
      p.reject(signal?.reason);
      this.pump();
    };
    signal?.addEventListener("abort", onAbort);
    return new Promise<Uint8Array | undefined>((resolve, reject) => {
      if (this.#closed) throw this.#closed;
      Object.assign(p, { resolve, reject, seq: ++this.#seq });
      this.#sends.push(p);
      this.outlet.arm();
      this.pump();
    }).finally(() => signal?.removeEventListener("abort", onAbort));
  }

  /**
   * Lets messages in for which there is room, and sends what can be sent now. A tick must follow.
   */
  pump(): void {
    this.#admit();
    for (let p = this.#firstReady(); p; p = this.#firstReady()) {
      p.stamp();
      this.outlet.write(p.frame);
      p.isSent = true;
      this.#next++;
      this.#inFlight += p.cost;
      if (p.wantsReport) this.#pendingReports++;
    }
    const next = this.#sends[this.#next];
    if (!next && this.outlet.isOpen) this.onFlushed();
    if (next && (next.isWaiting || this.#isBlocked)) this.#probe();
  }

  /**
   * Asks for an ACK, once, if the hub sends none by itself: it does for each quarter of the credit
   * (rules S6 and S7).
   */
  #probe(): void {
    if (this.#isProbed || !this.#inFlight || this.#inFlight >= this.#limits.credit / 4) return;
    this.#isProbed = true;
    this.outlet.ping();
  }

  #admit(): void {
    for (let p = this.#sends[this.#entered]; p; p = this.#sends[this.#entered]) {
      const cost = p.setCost(this.#limits);
      if ((this.#cost && this.#cost + cost > maxCost) || this.#retained >= maxRetained) return;
      this.#entered++;
      this.#cost += cost;
      p.isWaiting = false;
      if (p.wantsReport) this.#calls.set(p.seq, p);
      else p.resolve();
    }
  }

  /** Returns the next message if it can be sent now. */
  #firstReady(): PendingSend | undefined {
    let p = this.#sends[this.#next];
    if (p && p.timeLeft < 1) {
      this.#sweep();
      p = this.#sends[this.#next];
    }
    if (!p || p.isWaiting || !this.outlet.isOpen || this.outlet.backlog > maxBacklog) return undefined;
    const { credit, max_reports } = this.#limits;
    // Once the credit is used up, half of it must be free: rule S8.
    this.#isBlocked = this.#inFlight > 0 && this.#inFlight + p.cost > (this.#isBlocked ? credit / 2 : credit);
    return this.#isBlocked || (p.wantsReport && this.#pendingReports >= max_reports) ? undefined : p;
  }

  /** Reports whether a message of this seq, if there is one, was sent. */
  #wasSent(seq: number): boolean {
    return seq < (this.#sends[this.#next]?.seq ?? this.#seq + 1);
  }

  /** Removes and returns messages. #recount or #update must follow. */
  #take(isTaken: (p: PendingSend) => unknown): PendingSend[] {
    const taken: PendingSend[] = [];
    this.#sends = this.#sends.filter((p) => !isTaken(p) || !taken.push(p));
    return taken;
  }

  /** Counts anew what #sends and #calls contain. */
  #recount(): void {
    this.#next = this.#entered = this.#cost = this.#retained = this.#inFlight = this.#pendingReports = 0;
    for (const p of this.#sends) {
      if (p.isWaiting) break;
      p.setCost(this.#limits);
      this.#entered++;
      this.#cost += p.cost;
      if (!p.isSent) continue;
      this.#next++;
      this.#inFlight += p.cost;
    }
    for (const p of this.#calls.values()) {
      if (p.isSent) this.#pendingReports++;
      if (p.isAcked) this.#retained += this.resend ? p.setCost(this.#limits) : 0;
    }
  }

  #update(): void {
    this.#recount();
    this.pump();
  }

  /** Handles an ACK: the hub has all messages up to upTo. */
  handleAck(upTo: number): void {
    if (!this.#wasSent(upTo)) throw malformed(`unexpected ACK ${upTo}`);
    const acked = this.#take((p) => p.seq <= upTo);
    if (!acked.length) return;
    for (const p of acked) {
      p.isAcked = true;
      if (!this.resend) p.frame = p.frame.slice(0, sendHeaderSize); // the body is not needed any more
    }
    this.#isProbed = false;
    this.#update();
  }

  /** Handles a REPORT. */
  handleReport(seq: number, fates: Uint8Array): void {
    const p = this.#calls.get(seq);
    if (p?.receivers !== fates.length || !this.#wasSent(seq)) throw malformed(`unexpected REPORT ${seq}`);
    this.#calls.delete(seq);
    this.#pendingReports--;
    if (p.isAcked && this.resend) this.#retained -= p.cost;
    p.resolve(fates);
    this.pump();
  }

  /** Handles the ERROR of a SEND. */
  handleError(seq: number, text: string): void {
    if (!this.#wasSent(seq)) throw malformed(`unexpected ERROR ${seq}`);
    const [p = this.#calls.get(seq)] = this.#take((other) => other.seq === seq);
    this.#fail(p, new HubError("message_refused", `the hub refused message ${seq}: ${text}`));
    this.#update();
  }

  /** Reports that p is not sent, to its sender or as an event. p is not in #sends any more. */
  #fail(p: PendingSend | undefined, error: HubError): void {
    if (p) this.#calls.delete(p.seq);
    if (p?.isWaiting || p?.wantsReport)
      p.reject(error); // without effect if its report has come
    else this.onRefused(error);
  }

  /** Drops unsent messages whose time to live has passed. */
  #sweep(): void {
    for (const p of this.#take((p) => !p.isSent && p.timeLeft < 1)) {
      this.#calls.delete(p.seq);
      p.expire();
    }
    this.#recount();
  }

  #attach(limits: SendLimits): void {
    this.#limits = limits;
    this.#isBlocked = this.#isProbed = false;
    this.#update();
  }

  /**
   * Continues a session. The hub has the messages up to seq, and has acknowledged those up to
   * taken; later ones are sent again.
   */
  resume(limits: SendLimits, seq: number, taken: number): void {
    for (const p of this.#sends) p.isSent &&= p.seq <= seq;
    this.#recount(); // before handleAck sends anything
    this.handleAck(taken);
    this.#attach(limits);
  }

  /**
   * Begins a new session. Returns the number of messages without a report that are not sent again.
   * isNewHub says that ids of the last hub are not valid: rule I5.
   */
  restart(limits: SendLimits, isNewHub: boolean): number {
    const grantedValid = this.#limits.grants_ids && limits.grants_ids;
    const lost = this.#take((p) => p.isSent && (!this.resend || (p.wantsReport && !this.#calls.has(p.seq))));
    for (const p of this.#calls.values()) if (p.isAcked) (this.resend ? this.#sends : lost).push(p);
    for (const p of this.#sends) {
      p.maybeSent ||= p.isSent;
      p.isSent = p.isAcked = false;
    }
    this.#sends.sort((a, b) => a.seq - b.seq);
    if (isNewHub) lost.push(...this.#take((p) => p.namesAssigned(grantedValid)));
    let unconfirmed = 0;
    for (const p of lost) {
      if (p.wantsReport || p.isWaiting)
        this.#fail(p, new HubError("session_lost", "the session was lost, and with it the fate of the message"));
      else unconfirmed++;
    }
    this.#attach(limits);
    return unconfirmed;
  }

  /** Lets no further message in. Those in the queue are still sent. */
  close(error: HubError): void {
    this.#closed ??= error;
    for (const p of this.#take((p) => p.isWaiting)) p.reject(error);
    this.#update();
  }

  /** The hub has closed the connection after BYE: it has all messages in flight. */
  ackAll(): void {
    this.#take((p) => p.isSent);
  }

  /** Ends the queue: no report comes any more. */
  end(error: HubError): void {
    this.close(error);
    for (const p of this.#calls.values()) p.reject(error);
    this.#calls.clear();
  }
}
