import { type Bytes, headerSize, type Payload, split } from "./codec.js";
import type { Connection, ConnectionHandler } from "./connection.js";
import type { Emitter } from "./emitter.js";
import { HubError, malformed } from "./errors.js";
import type { HubEvents } from "./events.js";
import {
  ack,
  bye,
  deliver,
  ErrorCode,
  error,
  goAway,
  hello,
  listPage,
  ping,
  pong,
  presence,
  renewed,
  report,
  Type,
  u64,
  type Welcome,
  welcome,
} from "./frames.js";
import { Inbox } from "./inbox.js";
import { Message } from "./message.js";
import type { Outlet } from "./outlet.js";
import type { Settings } from "./options.js";
import { Presence } from "./presence.js";
import { Requests } from "./requests.js";
import { SendQueue } from "./sendqueue.js";
import { newTicker } from "./ticker.js";
import { Verdicts } from "./verdicts.js";

/**
 * Ticks between two requests for a confirmation that is missing: 1 s. Slow receivers can delay an
 * ACK for minutes.
 */
const ticksPerProbe = 20;

/**
 * What a client keeps over its connections: id, secret, and the parts that outlive a connection.
 */
export class Session implements ConnectionHandler, Outlet {
  readonly inbox = new Inbox(this);
  readonly sendQueue = new SendQueue(this, this.settings.resend, (error) => this.onError(error), this.onFlushed);
  readonly presence = new Presence(this, (change) => this.events.emit("presence", change));
  readonly requests = new Requests(this);
  /** The id of this client; "": there was no WELCOME yet. */
  id = "";
  /** The largest body to send, in bytes. */
  maxSendBody = 0;
  /** The connection after its WELCOME. */
  conn: Connection | undefined;

  #verdicts = new Verdicts(this);
  #ticker = newTicker(() => this.#tick());
  #duplicates = 0; // the number of reliable frames that come a second time
  #ticks = 0; // with a confirmation missing
  #secret = ""; // "": no session to resume
  #epoch = "";
  #hadWelcome = false; // on the connection of the last HELLO

  constructor(
    readonly settings: Settings,
    readonly events: Emitter<HubEvents>,
    /** Called after each WELCOME. */
    readonly onConnected: () => void,
    /** Called when every message is in flight on the connection. */
    readonly onFlushed: () => void,
  ) {}

  /** Sends the delayed ACK, and asks for confirmations that are missing. */
  #tick(): boolean {
    const hasUnsaid = this.inbox.tick();
    const isWaiting = this.sendQueue.tick() || this.#verdicts.hasUnconfirmed;
    this.#ticks = isWaiting ? this.#ticks + 1 : 0;
    if (this.#ticks % ticksPerProbe === 2) this.ping();
    return hasUnsaid || isWaiting;
  }

  get isOpen(): boolean {
    return !!this.conn;
  }

  write(frame: Bytes): void {
    this.conn?.write(frame);
  }

  get backlog(): number {
    return this.conn?.backlog ?? 0;
  }

  ping(): void {
    this.write(ping(this.#verdicts.pingNumber));
  }

  arm(): void {
    this.#ticker.arm();
  }

  onError(error: HubError): void {
    this.events.emit("error", error);
  }

  /** Sends HELLO. */
  onOpen(conn: Connection): void {
    const { read, received } = this.inbox.hello();
    this.#duplicates = read - received;
    const resumed = this.#secret && {
      id: this.id,
      resume: this.#secret,
      received: `${received}`,
      read: this.#hadWelcome ? `${read}` : undefined,
    };
    conn.write(hello({ name: this.settings.name, token: conn.token, confirms: true, skip: true, ...(resumed || {}) }));
    this.#hadWelcome = false;
  }

  /** Handles the frames of one message. Throws a HubError if the hub violates the protocol. */
  onMessage(conn: Connection, message: ArrayBuffer): void {
    split(message, (type, payload) => {
      const isWelcome = type === Type.Welcome; // comes once, before all frames but GOAWAY
      if (isWelcome !== !conn.welcome && type !== Type.GoAway) throw unexpected(type);
      this.#handleFrame(conn, type, payload);
    });
  }

  #handleFrame(conn: Connection, type: number, payload: Payload): void {
    switch (type) {
      case Type.Deliver: {
        const d = deliver(payload);
        this.#count(payload, new Message(d, d.flags & 2 ? this.#verdicts.sinkFor(d) : undefined), d.flags > 0);
        return;
      }
      case Type.Report: {
        const { seq, fates } = report(payload);
        if (this.#count(payload)) this.sendQueue.handleReport(seq, fates);
        return;
      }
      case Type.Skip:
        this.#count(payload);
        return;
      case Type.Ack:
        return this.sendQueue.handleAck(Number(u64(payload)));
      case Type.Ping:
        this.inbox.sendAck(); // the hub can be short of memory: rule K2
        return this.write(pong(u64(payload)));
      case Type.Pong:
        return this.#verdicts.handlePong(Number(u64(payload)));
      case Type.Welcome:
        return this.#handleWelcome(conn, welcome(payload));
      case Type.GoAway:
        conn.goAway = goAway(payload); // further frames can follow
        return;
      case Type.Presence:
        return this.presence.handlePresence(presence(payload));
      case Type.ListPage:
        return this.requests.handlePage(listPage(payload));
      case Type.Error:
        return this.#handleError(conn, payload);
      case Type.Renewed: {
        const { expires_ms, max_body } = renewed(payload);
        this.maxSendBody = max_body;
        return conn.handleRenewal(expires_ms);
      }
      default:
        if (type && type < Type.FirstUnknown) throw unexpected(type); // rule F8
    }
  }

  /**
   * Counts a reliable frame, and passes its message on. Reports false for one that has arrived on
   * an earlier connection.
   */
  #count(payload: Payload, message?: Message, isUrgent?: boolean): boolean {
    if (this.#duplicates) return !this.#duplicates--;
    this.inbox.push(headerSize + payload.byteLength, message, isUrgent);
    return true;
  }

  #handleError(conn: Connection, payload: Payload): void {
    const { seq, code, text } = error(payload);
    if (seq) return this.sendQueue.handleError(seq, text);
    if (code === ErrorCode.Forbidden || code === ErrorCode.TooManyWatchers) {
      this.presence.watch(false); // the ERROR can be for an earlier WATCH
      const isForbidden = code === ErrorCode.Forbidden;
      this.onError(
        new HubError(
          isForbidden ? "watch_forbidden" : "too_many_watchers",
          `cannot watch presence: ${text}`,
          !isForbidden,
        ),
      );
    }
    if (code >= ErrorCode.RenewalRefused && code <= ErrorCode.RenewalLater)
      conn.handleRenewal(code === ErrorCode.RenewalLater ? "later" : "refused");
  }

  /** Begins a session on a connection, or resumes one. */
  #handleWelcome(conn: Connection, w: Welcome): void {
    const { id, resumed } = w;
    const isNewHub = w.epoch !== this.#epoch;
    const isFirst = !this.id;
    if (resumed && (id !== this.id || !this.#secret)) throw malformed(`unexpected session ${id}`);
    this.id = id;
    this.#secret = w.resume;
    this.#epoch = w.epoch;
    this.#hadWelcome = true;
    this.maxSendBody = w.max_body;
    conn.handleWelcome(w, this.settings);
    this.conn = conn;
    if (!resumed) {
      this.#duplicates = 0;
      this.write(ack(0)); // HELLO has announced it: rule H6
    }
    this.inbox.attach(w.window, resumed);
    this.#verdicts.attach(resumed);
    this.presence.attach(isNewHub);
    this.requests.attach();
    let unconfirmed = 0;
    if (resumed) {
      this.sendQueue.resume(w, +w.seq, +w.taken);
    } else {
      unconfirmed = this.sendQueue.restart(w, isNewHub);
    }
    this.arm();
    this.onConnected();
    if (!resumed && !isFirst) this.events.emit("id", id, unconfirmed);
  }

  /** Sends the last ACK and BYE: the hub closes the connection. */
  sayBye(): void {
    this.inbox.sendAck();
    this.#verdicts.flush();
    this.write(bye());
  }

  /** Ends all parts. Without a cause, the application has ended the client. */
  end(error: HubError, cause?: HubError): void {
    this.#ticker.stop();
    this.inbox.end(cause);
    this.sendQueue.end(error);
    this.requests.end(error);
  }
}

function unexpected(type: number): HubError {
  return malformed(`unexpected frame of type ${type}`);
}
