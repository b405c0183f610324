import type { Bytes } from "./codec.js";

/** The present connection, as the parts of a session see it. */
export interface Outlet {
  /** Whether there is a connection after WELCOME. */
  readonly isOpen: boolean;
  /** Sends a frame. Drops it without a connection. */
  write(frame: Bytes): void;
  /** The bytes that the network has not taken. */
  readonly backlog: number;
  /** Sends a PING: the hub then acknowledges SENDs and confirms verdicts. */
  ping(): void;
  /** Arms the tick of the session. */
  arm(): void;
}
