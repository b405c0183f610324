import type { HubError } from "./errors.js";
import type { PresenceChange } from "./presence.js";

/**
 * The state of a client.
 *
 *     connecting ──► connected ◄──► reconnecting
 *         │              │               │
 *         └──────────────┴───► closed ◄──┘
 */
export type HubState = "connecting" | "connected" | "reconnecting" | "closed";

/** The events of a client, with the arguments of their listeners. */
export interface HubEvents {
  /**
   * The state has changed. reason: why, for `reconnecting`, and for `closed` without a call of
   * `close`.
   */
  state: [state: HubState, reason?: HubError];
  /**
   * The session was lost, and the client has a new id. Messages to the old id that had not arrived
   * are lost. unconfirmed: the number of messages of `send` that may not have reached the hub and
   * are not sent again.
   */
  id: [id: string, unconfirmed: number];
  /** Clients have joined or left. A new listener first gets all connected clients as joined. */
  presence: [change: PresenceChange];
  /**
   * An attempt to reconnect has failed, a message of `send` or a watch was refused, or the client
   * has ended.
   */
  error: [error: HubError];
}
