import { after } from "./clock.js";

/**
 * How long an ACK waits when nothing requires it at once, in milliseconds: rule D4 of
 * docs/PROTOCOL.md.
 */
const tickInterval = 50;

/** A timer that ticks every 50 ms while there is something to do. */
export interface Ticker {
  /** Schedules a tick, unless one is scheduled. */
  arm(): void;
  stop(): void;
}

/** Returns a ticker. onTick reports whether another tick must follow. */
export function newTicker(onTick: () => boolean): Ticker {
  let cancel: (() => void) | undefined; // undefined: no tick is scheduled
  let isStopped = false;
  const arm = () => {
    if (isStopped) return;
    cancel ??= after(tickInterval, () => {
      cancel = undefined;
      if (onTick()) arm();
    });
  };
  const stop = () => {
    isStopped = true;
    cancel?.();
  };
  return { arm, stop };
}
