import { after } from "./clock.js";
import type { Bytes } from "./codec.js";
import { HubError, malformed } from "./errors.js";
import { type GoAway, renew, type Welcome } from "./frames.js";
import { type KeepAlive, newKeepAlive } from "./keepalive.js";
import type { Settings } from "./options.js";
import { type RenewalAnswer, startRenewal } from "./renewal.js";
import type { WebSocketClass, WebSocketLike } from "./websocket.js";

/** What a connection tells its session. */
export interface ConnectionHandler {
  /** The WebSocket is open: the session sends HELLO. */
  onOpen(conn: Connection): void;
  /** A message has arrived. A HubError ends the connection, and the client. */
  onMessage(conn: Connection, message: ArrayBuffer): void;
  /** Sends a PING. */
  ping(): void;
}

/** The subprotocol of version 2. */
const subprotocol = "message-hub.v2";

/** The close codes by which a hub says that it cannot understand this client: RFC 6455, 7.4.1. */
const fatalCodes = [1002, 1003, 1007, 1009, 1010];

/** One connection to the hub, from the opening of the WebSocket to its end. */
export class Connection {
  /** Why the connection has ended. Without retry, the client must not connect again. */
  readonly done: Promise<HubError>;
  /** Whether the hub has closed the WebSocket with a handshake. */
  isClean = false;
  welcome: Welcome | undefined;
  goAway: GoAway | undefined;
  /** The token that the next connection shows; "": ask the application. */
  nextToken = "";
  bytesIn = 0;

  #socket: WebSocketLike;
  #end!: (error: HubError) => void;
  #cancelTimer: () => void; // of the handshake
  #keepAlive: KeepAlive | undefined;
  #stopRenewal = () => {};
  #answerRenewal: ((answer: RenewalAnswer) => void) | undefined; // waits for RENEWED or its ERROR

  /** timeout: milliseconds until WELCOME. Throws an error of the WebSocket for an invalid URL. */
  constructor(
    readonly handler: ConnectionHandler,
    WebSocket: WebSocketClass,
    url: string,
    readonly token: string,
    timeout: number,
  ) {
    const socket = new WebSocket(url, subprotocol);
    this.#socket = socket;
    this.#cancelTimer = after(timeout, () => this.drop("no WELCOME in time"));
    this.done = new Promise((resolve) => (this.#end = resolve));
    let problem = ""; // browsers tell none
    socket.binaryType = "arraybuffer";
    socket.onopen = () => handler.onOpen(this);
    socket.onmessage = ({ data }) => this.#onMessage(data);
    socket.onerror = ({ message = "" }) => (problem = message); // onclose follows
    socket.onclose = ({ code, reason }) => this.#onClose(reason || problem, code);
  }

  /** Sends a frame. */
  write(frame: Bytes): void {
    this.#socket.send(frame);
  }

  /** The bytes that the network has not taken. */
  get backlog(): number {
    return this.#socket.bufferedAmount;
  }

  ping(): void {
    this.handler.ping();
  }

  /** Asks the hub for a sign of life: see KeepAlive. */
  probe(): void {
    this.#keepAlive?.probe();
  }

  /** Closes the connection, without waiting for the hub, which can be unreachable. */
  drop(reason: string): void {
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.onerror = () => {}; // for the package ws, closing an opening socket is an error
    socket.close();
    this.#onClose(reason);
  }

  #onMessage(data: ArrayBuffer | string): void {
    try {
      if (typeof data === "string") throw malformed("a text message");
      this.bytesIn += data.byteLength;
      this.handler.onMessage(this, data);
    } catch (error) {
      this.#end(error instanceof HubError ? error : new HubError("protocol", `${error}`, false, error));
      this.drop("");
    }
  }

  /** Handles WELCOME. */
  handleWelcome(welcome: Welcome, { canRenew, getToken }: Settings): void {
    this.welcome = welcome;
    this.#cancelTimer();
    this.#keepAlive = newKeepAlive(this, welcome.keepalive_ms);
    if (!canRenew) return;
    const show = (token: string) => {
      this.nextToken = token; // until the answer comes
      this.write(renew(token));
      return new Promise<RenewalAnswer>((resolve) => (this.#answerRenewal = resolve));
    };
    const reconnect = (token: string) => {
      this.nextToken = token;
      this.drop("reconnecting with a newer token");
    };
    this.#stopRenewal = startRenewal(
      { getToken, renew: welcome.renew ? show : undefined, reconnect },
      this.token,
      welcome.expires_ms,
    );
  }

  /** Handles RENEWED, or the ERROR that answers RENEW. */
  handleRenewal(answer: RenewalAnswer): void {
    this.nextToken = "";
    this.#answerRenewal?.(answer);
  }

  #onClose(reason: string, code = 1006): void {
    this.#cancelTimer();
    this.#keepAlive?.stop();
    this.#stopRenewal();
    this.isClean = code < 1006;
    this.#end(this.#error(reason, code));
  }

  #error(reason: string, code: number): HubError {
    if (this.goAway)
      return new HubError(
        this.goAway.code,
        `the hub ended the connection: ${this.goAway.reason}`,
        this.goAway.reconnect,
      );
    const isFatal = fatalCodes.includes(code);
    return new HubError(isFatal ? "protocol" : "connection", `no connection to the hub (${code}${reason && `: ${reason}`})`, !isFatal);
  }
}
