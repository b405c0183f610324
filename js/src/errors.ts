/**
 * Why a call failed or the client has ended.
 *
 * | code | meaning |
 * |---|---|
 * | `closed` | the application has closed the client |
 * | `connection` | a connection could not be opened, or was lost |
 * | `token` | the option `token` has failed |
 * | `protocol` | one side has sent a frame that the protocol does not allow |
 * | `session_lost` | the session ended, or the hub was restarted: the fate is not known |
 * | `message_refused` | the hub has refused the message: its limits are lower than before |
 * | `unsent` | `close` could not send all messages |
 * | `watch_forbidden` | this client is not permitted to watch presence |
 * | `too_many_watchers` | the hub has its maximum number of watchers |
 *
 * The hub ends connections with these codes as well: `shutdown`, `taken_over`, `version`,
 * `disconnected`, `refused`, `expired`, `busy`. A later hub can have more.
 */
export type HubErrorCode =
  | "closed"
  | "connection"
  | "token"
  | "protocol"
  | "session_lost"
  | "message_refused"
  | "unsent"
  | "watch_forbidden"
  | "too_many_watchers"
  | "shutdown"
  | "taken_over"
  | "version"
  | "disconnected"
  | "refused"
  | "expired"
  | "busy"
  | (string & {});

/** The error of this package. Wrong arguments are a `RangeError` or a `TypeError` instead. */
export class HubError extends Error {
  /** Why: see {@link HubErrorCode}. */
  readonly code: HubErrorCode;
  /** Whether the same call can succeed later. */
  readonly retry: boolean;

  /** @internal */
  constructor(code: HubErrorCode, message: string, retry = false, cause?: unknown) {
    super(message, { cause });
    this.name = "HubError";
    this.code = code;
    this.retry = retry;
  }
}

/** Returns the error for a frame of the hub that the protocol does not allow. */
export function malformed(what: string): HubError {
  return new HubError("protocol", `the hub broke the protocol: ${what}`);
}
