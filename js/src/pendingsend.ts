import { now } from "./clock.js";
import type { Bytes } from "./codec.js";
import { expired, uncertain } from "./fates.js";
import { send, sendHeaderSize, stampSend } from "./frames.js";

/** The limits for sending that WELCOME names. */
export interface SendLimits {
  credit: number; // bytes
  receiver_cost: number; // bytes of credit for each receiver; 0: 64
  max_reports: number; // SENDs that can wait for their report
  grants_ids: boolean; // ids below 2^63 are valid in every epoch
}

/** A SEND from the call of the application until the hub has acknowledged and reported it. */
export class PendingSend {
  seq = 0;
  cost = 0; // bytes of credit
  isSent = false; // in flight, or acknowledged
  isAcked = false; // waits only for its report
  maybeSent = false; // was sent in an earlier session
  isWaiting = true; // for room in the queue
  resolve!: (fates?: Uint8Array) => void; // settle the call of the application
  reject!: (error: unknown) => void;
  frame: Bytes; // after an ACK without its body, if it is not sent again

  constructor(
    to: readonly bigint[],
    body: Uint8Array,
    /** The options of the SEND: level and overflow policy. */
    readonly options: number,
    /** When the message expires, by now(); Infinity: never. */
    readonly expires: number,
  ) {
    this.frame = send(to, body);
  }

  /** The number of receivers. */
  get receivers(): number {
    return this.frame[sendHeaderSize - 1] as number;
  }

  setCost(limits: SendLimits): number {
    return (this.cost = this.frame.length + this.receivers * (limits.receiver_cost || 64));
  }

  /** The rest of the time to live in whole milliseconds: rule Q7. Below 1: it has expired. */
  get timeLeft(): number {
    return Math.floor(this.expires - now());
  }

  /** Completes the frame before it is sent. */
  stamp(): void {
    const ttl = this.timeLeft;
    stampSend(this.frame, this.seq, this.options, ttl < Infinity ? ttl : 0);
  }

  /** Whether the level is not 0: the hub sends a REPORT. */
  get wantsReport(): boolean {
    return (this.options & 3) > 0;
  }

  /** Reports that the time to live has passed in this client. */
  expire(): void {
    this.resolve(new Uint8Array(this.receivers).fill(this.maybeSent ? uncertain : expired));
  }

  /** Reports whether a receiver has an id that a restart of the hub makes invalid: rule I5. */
  namesAssigned(isGrantedValid: boolean): boolean {
    for (let i = 0; i < this.receivers; i++)
      if (!isGrantedValid || (this.frame[sendHeaderSize + 8 * i] as number) > 127) return true; // from 2^63 on
    return false;
  }
}
