import assert from "node:assert/strict";
import { Client } from "../src/client.js";
import { type Bytes, split } from "../src/codec.js";
import { Type } from "../src/frames.js";
import { Hub } from "../src/hub.js";
import { type ConnectOptions, settingsOf } from "../src/options.js";
import type { WebSocketLike } from "../src/websocket.js";
import { type FakeClock, settle } from "./clock.js";
import { concat, readJSON, welcome } from "./hubframes.js";

/** A frame that a client has sent. */
export interface Sent {
  type: number;
  payload: DataView<ArrayBuffer>;
}

/** The hub's end of a WebSocket in memory. */
export class FakeSocket implements WebSocketLike {
  binaryType = "blob";
  bufferedAmount = 0;
  onopen: ((event: unknown) => void) | null = null;
  onmessage: ((event: unknown) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;
  onclose: ((event: unknown) => void) | null = null;
  /** Frames that the client has sent and that no test has taken. */
  sent: Sent[] = [];
  isClosed = false; // by the client

  constructor(
    readonly url: string,
    readonly protocol: string,
  ) {}

  send(data: Bytes): void {
    split(data.slice().buffer, (type, payload) => this.sent.push({ type, payload }));
  }

  close(): void {
    this.isClosed = true;
  }

  /** Returns and removes the sent frames of a type. */
  take(type: number): DataView<ArrayBuffer>[] {
    const taken = this.sent.filter((f) => f.type === type);
    this.sent = this.sent.filter((f) => f.type !== type);
    return taken.map((f) => f.payload);
  }

  /** Opens the socket, and returns the HELLO of the client. */
  async open(): Promise<Record<string, unknown>> {
    assert.equal(this.protocol, "message-hub.v2");
    assert.equal(this.binaryType, "arraybuffer");
    this.onopen?.({});
    await settle();
    const [hello] = this.take(Type.Hello);
    assert.ok(hello, "no HELLO");
    return readJSON(hello);
  }

  /** Sends frames to the client as one message. */
  async deliver(...frames: Uint8Array[]): Promise<void> {
    this.onmessage?.({ data: concat(...frames).buffer });
    await settle();
  }

  /** Ends the connection. */
  async lose(code = 1006, reason = ""): Promise<void> {
    this.onclose?.({ code, reason });
    await settle();
  }
}

/** A client with sockets in memory. */
export class Rig {
  readonly sockets: FakeSocket[] = [];
  readonly client: Client;
  readonly hub: Hub;
  readonly started: Promise<void>;
  readonly states: string[] = [];
  readonly errors: string[] = [];
  readonly ids: [string, number][] = [];

  constructor(
    readonly clock: FakeClock,
    options: ConnectOptions = {},
  ) {
    const { sockets } = this;
    class WebSocket extends FakeSocket {
      constructor(url: string, protocol: string) {
        super(url, protocol);
        sockets.push(this);
      }
    }
    this.client = new Client("ws://hub/connect", settingsOf({ WebSocket, ...options }));
    this.hub = new Hub(this.client);
    this.hub.on("state", (state, reason) => this.states.push(reason ? `${state}: ${reason.code}` : state));
    this.hub.on("error", (error) => this.errors.push(`${error.code}: ${error.message}`));
    this.hub.on("id", (id, unconfirmed) => this.ids.push([id, unconfirmed]));
    this.started = this.client.start();
    this.started.catch(() => {}); // tests look at it
  }

  /** The last socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket, "no WebSocket");
    return socket;
  }

  /** Opens the last socket, and welcomes the client. Returns its HELLO. */
  async welcome(fields: object = {}): Promise<Record<string, unknown>> {
    await settle();
    const hello = await this.socket.open();
    await this.socket.deliver(welcome(fields));
    return hello;
  }

  /** Loses the connection, and lets the client connect again. Returns its HELLO. */
  async reconnect(fields: object = {}): Promise<Record<string, unknown>> {
    const n = this.sockets.length;
    await this.socket.lose();
    await this.clock.advance(200);
    assert.equal(this.sockets.length, n + 1, "the client has not connected again");
    return this.welcome(fields);
  }
}
