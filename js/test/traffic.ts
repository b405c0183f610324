import { connect, type ConnectOptions, type Hub } from "message-hub";

/** What a client of the traffic has seen. */
export interface Seen {
  /** The numbers of the messages of each sender, in the order of their arrival. */
  received: Record<string, number[]>;
  /** How often each fate was reported. */
  fates: Record<string, number>;
  /** The new ids that the client got. */
  ids: string[];
  /** How often the client was connected. */
  connections: number;
}

/** The number of reports that a client waits for at the same time. */
const maxPending = 8;

/**
 * A client that sends numbered messages to others and writes down what it gets. In Node and in
 * pages.
 */
export class Peer {
  readonly seen: Seen = { received: {}, fates: {}, ids: [], connections: 1 };
  #reading: Promise<void>;

  private constructor(readonly hub: Hub) {
    hub.on("id", (id) => this.seen.ids.push(id));
    hub.on("state", (state) => {
      if (state === "connected") this.seen.connections++;
    });
    this.#reading = this.#read();
  }

  static async connect(url: string, options: ConnectOptions = {}): Promise<Peer> {
    return new Peer(await connect(url, { minDelay: 10, maxDelay: 200, ...options }));
  }

  async #read(): Promise<void> {
    for await (const m of this.hub) (this.seen.received[m.from] ??= []).push(m.json<number>());
  }

  /**
   * Sends n messages to each of some clients, one every few milliseconds, and waits for their
   * reports.
   */
  async send(to: string[], n: number, interval: number): Promise<void> {
    const pending = new Set<Promise<void>>();
    for (let i = 0; i < n; i++) {
      const body = JSON.stringify(i).padEnd(1 + (i % 5) ** 5); // up to 1 KiB
      const report = this.hub.sendReport(to, body).then(({ list }) => {
        for (const fate of list) this.seen.fates[fate] = (this.seen.fates[fate] ?? 0) + 1;
        pending.delete(report);
      });
      pending.add(report);
      if (pending.size >= maxPending) await Promise.race(pending);
      await new Promise((resolve) => setTimeout(resolve, interval));
    }
    await Promise.all(pending);
  }

  async close(): Promise<Seen> {
    await this.hub.close();
    await this.#reading;
    return this.seen;
  }
}
