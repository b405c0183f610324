import { connect, createServer, type Server, type Socket } from "node:net";

/** A proxy for one client that a test can cut. */
export class CuttingProxy {
  readonly #server: Server;
  #connections = new Map<Socket, { hub: Socket; chunks: number }>(); // by that of the client
  /** The number of connections that were cut. */
  cuts = 0;

  private constructor(port: number) {
    this.#server = createServer((client) => {
      const hub = connect(port, "127.0.0.1");
      const end = () => {
        client.destroy();
        hub.destroy();
        this.#connections.delete(client);
      };
      for (const socket of [client, hub]) socket.setNoDelay(true).on("error", end).on("close", end);
      client.pipe(hub);
      hub.pipe(client);
      const state = { hub, chunks: 0 };
      hub.on("data", () => state.chunks++);
      this.#connections.set(client, state);
    });
  }

  /** Starts a proxy to a port of this machine. */
  static async start(port: number): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(port);
    await new Promise<void>((resolve) => proxy.#server.listen(0, "127.0.0.1", resolve));
    return proxy;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#server.address() as { port: number }).port}/connect`;
  }

  /**
   * Whether the hub has sent WELCOME on a connection: something behind the answer to the upgrade.
   */
  get isReady(): boolean {
    return [...this.#connections.values()].some(({ chunks }) => chunks > 1);
  }

  /**
   * Lets nothing more through the present connections, as a network that has gone. New ones work.
   */
  stall(): void {
    for (const [client, { hub }] of this.#connections) {
      client.unpipe(hub).pause();
      hub.unpipe(client).pause();
    }
  }

  /** Resets all connections, wherever they are in a frame. */
  cut(): void {
    for (const connection of this.#connections.keys()) {
      this.cuts++;
      connection.resetAndDestroy();
    }
  }

  stop(): void {
    this.#server.close();
    this.cut();
  }
}
