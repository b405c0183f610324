import type { Bytes } from "./codec.js";

/** The part of a WebSocket that the client uses. Browsers, Node and the package `ws` have it. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(data: Bytes): void;
  close(): void;
}

/** The class of a WebSocket. */
export type WebSocketClass = new (url: string, protocols: string) => WebSocketLike;
