import { after } from "./clock.js";

/**
 * How long the hub has for a sign of life after the page or the machine was asleep, in
 * milliseconds.
 */
const probeTimeout = 500;

/**
 * The longest interval between two looks, and the gap of the wall clock that means sleep, in
 * milliseconds.
 */
const maxLookInterval = 1000;
const minSleep = 3000;

/** A connection, as its keep-alive monitor sees it. */
export interface Monitored {
  readonly bytesIn: number;
  ping(): void;
  /** Closes the connection, which is dead. */
  drop(reason: string): void;
}

/** A monitor of one connection. */
export interface KeepAlive {
  /** Asks for a sign of life at once. The hub can have closed the connection during a sleep. */
  probe(): void;
  stop(): void;
}

/**
 * Watches a connection: the hub sends something in each keep-alive interval, in milliseconds, and
 * is given up after two silent ones (rules K1 and K4 of docs/PROTOCOL.md), or soon after a sleep.
 */
export function newKeepAlive(conn: Monitored, interval: number): KeepAlive {
  const delay = Math.min(maxLookInterval, interval / 4);
  let cancelLook: () => void;
  let cancelProbe: (() => void) | undefined;
  let idleIn = 0; // how long nothing has arrived, in milliseconds

  const probe = () => {
    const { bytesIn } = conn;
    conn.ping();
    cancelProbe ??= after(probeTimeout, () => {
      cancelProbe = undefined;
      if (conn.bytesIn === bytesIn) conn.drop("the hub is silent");
    });
  };
  const look = () => {
    const { bytesIn } = conn;
    const before = Date.now();
    cancelLook = after(delay, () => {
      // A look that comes late, because timers stood still, counts like one in time.
      idleIn = conn.bytesIn === bytesIn ? idleIn + delay : 0;
      look();
      if (idleIn >= 2 * interval) conn.drop("the hub is silent");
      else if (Date.now() - before > minSleep) probe();
    });
  };
  look();
  const stop = () => {
    cancelLook();
    cancelProbe?.();
  };
  return { probe, stop };
}
