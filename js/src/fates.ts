/**
 * How far a message has come for one receiver, or why it cannot reach it.
 *
 * | fate | meaning |
 * |---|---|
 * | `pending`, `queued` | the report timeout passed while the message waited in a hub |
 * | `written` | written to the connection of the receiver |
 * | `received` | handed to the application of the receiver |
 * | `processed`, `rejected` | the application of the receiver called `ack` or `nak` |
 * | `unknown` | there is no such client |
 * | `gone` | the receiver left before the message was written |
 * | `uncertain` | the message was written, and the receiver left before it said more; or its hub was lost |
 * | `full` | there was no room, and `ifFull` was not `"block"` |
 * | `expired` | its time to live passed before it was written |
 * | `refused` | this client is not permitted to send to the receiver |
 * | `unreachable` | no connection of the receiver carried the message, or its hub cannot be reached |
 * | `too large` | the receiver accepts only smaller messages |
 *
 * The fate of a later hub that this client does not know is `fate` and its number.
 */
export type Fate = KnownFate | `fate ${number}`;

type KnownFate =
  | "pending"
  | "queued"
  | "written"
  | "received"
  | "processed"
  | "unknown"
  | "gone"
  | "uncertain"
  | "full"
  | "expired"
  | "refused"
  | "rejected"
  | "stored"
  | "unreachable"
  | "too large";

/** Numbers of fates that this client sends or makes itself. */
export const processed = 4;
export const uncertain = 18;
export const expired = 20;
export const rejected = 22;

/** The names of the fates from 0 to 4, and from 16 on. */
const names =
  "pending,queued,written,received,processed,,,,,,,,,,,,unknown,gone,uncertain,full,expired,refused,rejected,stored,unreachable,too large".split(
    ",",
  );

/** Returns the name of a fate. */
export function fateName(fate: number): Fate {
  return (names[fate] || `fate ${fate}`) as Fate;
}
