import { after, now } from "./clock.js";
import { Connection } from "./connection.js";
import { Emitter } from "./emitter.js";
import { HubError } from "./errors.js";
import type { HubEvents, HubState } from "./events.js";
import type { Settings } from "./options.js";
import { watchPage } from "./page.js";
import { Session } from "./session.js";

/** How long close waits for queued messages to be sent, in milliseconds. */
const closeTimeout = 5000;

/**
 * The limit of the first attempt to reconnect, in milliseconds. It doubles with each attempt, up to
 * that of a first connection.
 */
const minAttemptTimeout = 3000;
const maxAttemptTimeout = 10_000;

/** How long after a wake the loss of a connection belongs to the sleep, in milliseconds. */
const wakeTime = 1000;

/**
 * A client: it makes one connection of its session after the other, and owns the state. The public
 * class is Hub.
 */
export class Client {
  readonly events = new Emitter<HubEvents>();
  readonly session = new Session(
    this.settings,
    this.events,
    () => this.#onConnected(),
    () => this.#onFlushed(),
  );
  state: HubState = "connecting";

  #conn: Connection | undefined; // from its WebSocket on
  #attempts = 0; // since the last WELCOME
  #nextToken = ""; // for the next HELLO; "": ask the application
  #cancelToken = (_: HubError) => {}; // ends the wait for a token
  #earliest = 0; // when the hub permits the next attempt
  #wokenAt = -Infinity; // when the page, the machine or the network was back
  #endPause = (_delay: number) => {}; // ends the wait before an attempt, after milliseconds
  #stopped: HubError | undefined;
  #isClosing = false;
  #ended: Promise<void> | undefined;
  #byeSent = false; // on the present connection
  #onFirst = () => {}; // called with the first WELCOME

  constructor(
    readonly url: string,
    readonly settings: Settings,
  ) {}

  /** Connects. The result resolves with the first WELCOME. */
  start(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#onFirst = resolve;
      this.#ended = this.#run().then(reject);
    });
  }

  /** Makes one connection after the other until the client ends. The result is why. */
  async #run(): Promise<HubError> {
    const stopPage = watchPage({
      onWake: () => {
        this.#wokenAt = now();
        this.#endPause(this.#earliest - now());
        this.#conn?.probe();
      },
      onFreeze: () => this.session.inbox.flush(),
    });
    let error: HubError;
    do {
      this.#conn = undefined;
      if (this.#attempts || this.session.id) await this.#pause();
      error = await this.#attempt();
      this.session.conn = undefined;
    } while (!this.#stopped && error.retry && this.#onLost(error));
    stopPage();
    return this.#end(error);
  }

  /** Opens a connection. The result is why it has ended, or why there was none. */
  async #attempt(): Promise<HubError> {
    const { WebSocket } = this.settings;
    const timeout = Math.min(maxAttemptTimeout, this.session.id ? minAttemptTimeout * 2 ** this.#attempts : Infinity);
    const deadline = now() + timeout;
    this.#attempts++;
    try {
      await undefined; // a client that is stopped in the task of its start opens no socket
      const token = this.#stopped ? "" : this.#nextToken || (await this.#getToken(timeout));
      if (this.#stopped) return this.#stopped;
      this.#conn = new Connection(this.session, WebSocket, this.url, token, deadline - now());
      return await this.#conn.done;
    } catch (error) {
      return error instanceof HubError
        ? error
        : new HubError("connection", `cannot open a WebSocket: ${error}`, false, error);
    }
  }

  /** Returns the token for HELLO, within a time. Throws a HubError. */
  async #getToken(timeout: number): Promise<string> {
    const abort = new AbortController();
    let cancelTimer = () => {};
    try {
      return await new Promise<string>((resolve, reject) => {
        this.#cancelToken = reject;
        cancelTimer = after(timeout, () => reject(new Error("timeout")));
        this.settings.getToken(abort.signal).then(resolve, reject);
      });
    } catch (error) {
      abort.abort(error);
      throw new HubError("token", `cannot get a token: ${error}`, true, error);
    } finally {
      cancelTimer();
    }
  }

  /**
   * Tells that a connection was lost, or that an attempt has failed. Reports whether the client
   * connects again.
   */
  #onLost(error: HubError): boolean {
    const { sendQueue, id } = this.session;
    const conn = this.#conn;
    const wasConnected = !!conn?.welcome;
    if (this.#byeSent && conn?.isClean && !conn.goAway) sendQueue.ackAll(); // the hub has handled all frames before BYE
    this.#byeSent = false;
    const isDone = this.#isClosing && !sendQueue.length; // otherwise it connects again to send the rest
    if (isDone || !(id || this.settings.waitOnFirstConnect) || (error.code === "expired" && !this.settings.canRenew))
      return false;
    if (wasConnected) this.#setState("reconnecting", error);
    else this.events.emit("error", error);
    if (wasConnected) this.#attempts = 0;
    this.#nextToken = conn?.nextToken ?? "";
    this.#earliest = now() + (conn?.goAway?.after_ms ?? 0);
    return true;
  }

  /**
   * Waits as long as the hub has asked for, and a random time (full jitter). A client with a newer
   * token leaves out the random time once, and so does one that has just woken: other clients do
   * not do the same at that moment. Browsers slow the timers of hidden pages down to one second.
   */
  async #pause(): Promise<void> {
    const { minDelay, maxDelay } = this.settings;
    const isHurried = !this.#attempts && (this.#nextToken || now() - this.#wokenAt < wakeTime);
    const jitter = isHurried ? 0 : Math.random() * Math.min(maxDelay, minDelay * 2 ** this.#attempts);
    await new Promise<void>((resolve) => {
      let cancel = () => {};
      this.#endPause = (delay) => {
        cancel();
        if (delay > 0) cancel = after(delay, resolve);
        else resolve();
      };
      this.#endPause(this.#earliest - now() + jitter);
    });
    this.#endPause = () => {};
  }

  /** Ends the client at once. */
  stop(): void {
    this.#stopped ??= closedError();
    this.#cancelToken(this.#stopped);
    this.#endPause(0);
    this.#conn?.drop("");
  }

  /** See Hub.close. */
  async close(): Promise<void> {
    const { inbox, sendQueue, isOpen } = this.session;
    this.#isClosing = true;
    inbox.discard();
    sendQueue.close(closedError());
    if (!isOpen && !sendQueue.length) this.stop();
    const cancel = after(closeTimeout, () => this.stop());
    await this.#ended;
    cancel();
    if (sendQueue.length) throw new HubError("unsent", `${sendQueue.length} messages may not have reached the hub`);
  }

  /** Ends all parts. Returns why the client has ended. */
  #end(error: HubError): HubError {
    const cause = this.#isClosing || this.#stopped ? undefined : error;
    const reason = cause ?? closedError();
    this.session.end(reason, cause);
    if (cause) this.events.emit("error", cause);
    this.#setState("closed", cause);
    return reason;
  }

  #setState(state: HubState, reason?: HubError): void {
    this.state = state;
    this.events.emit("state", state, reason);
  }

  #onConnected(): void {
    this.#setState("connected");
    this.#onFirst();
  }

  /** Every message is in flight. */
  #onFlushed(): void {
    if (!this.#isClosing || this.#byeSent) return;
    this.#byeSent = true;
    this.session.sayBye();
  }
}

function closedError(): HubError {
  return new HubError("closed", "the client is closed");
}
