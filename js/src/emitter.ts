/** A listener of an event. */
interface Entry<Events> {
  event: keyof Events;
  listener: (...args: any[]) => void;
}

/** The listeners of events. */
export class Emitter<Events extends { [K in keyof Events]: unknown[] }> {
  #entries: Entry<Events>[] = [];

  /** Adds a listener. The result removes it. */
  on<K extends keyof Events>(event: K, listener: (...args: Events[K]) => void): () => void {
    const entry = { event, listener };
    this.#entries.push(entry);
    return () => (this.#entries = this.#entries.filter((other) => other !== entry));
  }

  /**
   * Calls the listeners in a microtask: their exceptions are uncaught, and do not break the client.
   */
  emit<K extends keyof Events>(event: K, ...args: Events[K]): void {
    for (const { listener } of this.of(event)) queueMicrotask(() => listener(...args));
  }

  /** The listeners of an event. */
  of(event: keyof Events): Entry<Events>[] {
    return this.#entries.filter((entry) => entry.event === event);
  }
}
