import { type PresenceFrame, watch } from "./frames.js";
import type { Outlet } from "./outlet.js";

/** A change of the set of connected clients. */
export interface PresenceChange {
  /** The ids of clients that have joined. This client can be one of them. */
  joined: string[];
  /** The ids of clients that have left. */
  left: string[];
}

/**
 * The set of connected clients while the application listens to it, and its changes. Rules W1 to
 * W8 of docs/PROTOCOL.md.
 */
export class Presence {
  #watching = false;
  #known = new Set<string>();
  #revision = 0n; // of #known; 0: #known is not filled
  #stale = new Set<string>(); // the clients that the snapshot which arrives does not contain so far
  #changes = new Map<string, boolean>(); // not emitted; true: joined

  constructor(
    readonly outlet: Outlet,
    readonly emit: (change: PresenceChange) => void,
  ) {}

  /** The connected clients as the change that a new listener gets, or undefined. */
  get current(): PresenceChange | undefined {
    return this.#revision ? { joined: [...this.#known], left: [] } : undefined;
  }

  /** Begins or ends the watch. */
  watch(on: boolean): void {
    if (on === this.#watching) return;
    this.#watching = on;
    this.#reset();
    this.outlet.write(watch(on, 0n));
  }

  #reset(): void {
    this.#known.clear();
    this.#changes.clear();
    this.#revision = 0n;
    this.#stale.clear();
  }

  handlePresence(p: PresenceFrame): void {
    if (!this.#watching) return; // sent before the hub has read that the watch ends
    if (p.flags & 1) this.#stale = new Set(this.#known);
    for (const id of p.joined) {
      this.#stale.delete(id);
      this.#set(id, true);
    }
    for (const id of p.left) this.#set(id, false);
    if (p.flags & 2) return;
    this.#revision = p.revision;
    for (const id of this.#stale) this.#set(id, false);
    this.#stale.clear();
    this.#emitChanges();
  }

  #set(id: string, joined: boolean): void {
    if (this.#known.has(id) === joined) return;
    if (joined) this.#known.add(id);
    else this.#known.delete(id);
    if (!this.#changes.delete(id)) this.#changes.set(id, joined);
  }

  #emitChanges(): void {
    const change: PresenceChange = { joined: [], left: [] };
    for (const [id, joined] of this.#changes) (joined ? change.joined : change.left).push(id);
    this.#changes.clear();
    if (change.joined.length || change.left.length) this.emit(change);
  }

  /** A connection has begun. At a new hub the same id is another client: all have left. */
  attach(isNewHub: boolean): void {
    this.#stale.clear();
    if (isNewHub) {
      for (const id of [...this.#known]) this.#set(id, false);
      this.#emitChanges();
      this.#reset();
    }
    if (this.#watching) this.outlet.write(watch(true, this.#revision));
  }
}
