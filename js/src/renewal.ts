import { after } from "./clock.js";

/**
 * The longest time before the expiry at which a newer token is asked for, in milliseconds. For a
 * shorter lifetime: a fifth of it.
 */
const maxMargin = 60_000;

/** The shortest time between two requests for a token, in milliseconds. */
const minDelay = 1000;

/**
 * The longest time between two looks at the wall clock, in milliseconds: timers stand still while
 * the machine sleeps.
 */
const maxLookInterval = 30_000;

/** How long the hub has to answer RENEW, in milliseconds. */
const answerTimeout = 10_000;

/** The answer of the hub to RENEW. */
export type RenewalAnswer =
  | number // accepted. The new lifetime, in milliseconds; 0: for ever
  | "refused"
  | "later"; // the same token can be shown again

/** What a renewal does on its connection. */
export interface Renewable {
  /** Gets a token from the application. */
  getToken(signal: AbortSignal): Promise<string>;
  /** Sends RENEW. Undefined: the hub does not know it. */
  renew: ((token: string) => Promise<RenewalAnswer>) | undefined;
  /** Reconnects, and resumes with a token. */
  reconnect(token: string): void;
}

/**
 * Gets a newer token before that of a connection expires, and shows it to the hub: by RENEW if
 * the hub knows it, and otherwise by a reconnect, which loses nothing. shown is the token of the
 * connection, and expires its lifetime in milliseconds; 0: for ever. The result ends the renewal.
 */
export function startRenewal(conn: Renewable, shown: string, expires: number): () => void {
  const stopped = new AbortController();
  let cancel = () => {};
  // After the end, it never resolves, and run goes no further.
  const sleep = (ms: number) => {
    cancel();
    return new Promise<undefined>((resolve) => (cancel = after(ms, () => resolve(undefined))));
  };
  const run = async () => {
    for (let expiry = 0, margin = 0; expires;) {
      if (!expiry) {
        expiry = Date.now() + expires;
        margin = Math.min(maxMargin, expires / 5);
      }
      const left = expiry - Date.now();
      if (left > margin) {
        await sleep(Math.min(left - margin, maxLookInterval));
        continue;
      }
      const token = await conn.getToken(stopped.signal).catch(() => "");
      if (stopped.signal.aborted) return;
      if (token && token !== shown) {
        const answer = await (conn.renew && Promise.race([conn.renew(token), sleep(answerTimeout)]));
        if (answer === undefined) return conn.reconnect(token);
        if (answer !== "later") shown = token;
        if (typeof answer === "number") {
          expires = answer;
          expiry = 0;
          continue;
        }
      }
      await sleep(minDelay);
      margin = left / 2; // again when half of the rest has passed
    }
  };
  void run();
  return () => {
    stopped.abort();
    cancel();
  };
}
