import { after, before } from "node:test";

interface Timer {
  at: number;
  run: () => void;
}

const realSetImmediate = setImmediate;

/** Lets all microtasks run. */
export function settle(): Promise<void> {
  return new Promise((resolve) => realSetImmediate(resolve));
}

/** Time that a test moves. It replaces the timers and clocks of the platform during a test file. */
export class FakeClock {
  now = 1000;
  /** The wall clock can jump, as after a sleep. */
  wallOffset = 1_700_000_000_000;
  #timers = new Map<number, Timer>();
  #lastID = 0;

  /** Moves the time, and runs the timers that are due, in order. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    await settle();
    for (let next = this.#next(end); next; next = this.#next(end)) {
      const [id, timer] = next;
      this.#timers.delete(id);
      this.now = Math.max(this.now, timer.at);
      timer.run();
      await settle();
    }
    this.now = end;
  }

  #next(end: number): [number, Timer] | undefined {
    return [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at || a[0] - b[0])[0];
  }

  /** The number of timers that wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Replaces the clocks before the tests of a file, and restores them after. */
  install(): void {
    const { setTimeout, clearTimeout } = globalThis;
    const performanceNow = performance.now;
    const dateNow = Date.now;
    const { random } = Math;
    before(() => {
      const set = (run: () => void, ms: number) => {
        this.#timers.set(++this.#lastID, { at: this.now + ms, run });
        return this.#lastID;
      };
      Object.assign(globalThis, { setTimeout: set, clearTimeout: (id: number) => this.#timers.delete(id) });
      performance.now = () => this.now;
      Date.now = () => this.now + this.wallOffset;
      Math.random = () => 0.5;
    });
    after(() => {
      Object.assign(globalThis, { setTimeout, clearTimeout });
      performance.now = performanceNow;
      Date.now = dateNow;
      Math.random = random;
    });
  }
}
