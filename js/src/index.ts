/// <reference lib="esnext.disposable" preserve="true" />

/**
 * The client of the message hub for browsers and Node.
 *
 * @packageDocumentation
 */

export { connect } from "./connect.js";
export { HubError, type HubErrorCode } from "./errors.js";
export type { HubEvents, HubState } from "./events.js";
export type { Fate } from "./fates.js";
export type { Body, Hub } from "./hub.js";
export type { Message } from "./message.js";
export type { ConnectOptions, Report, SendOptions, SendReportOptions } from "./options.js";
export type { PresenceChange } from "./presence.js";
export type { WebSocketClass, WebSocketLike } from "./websocket.js";
