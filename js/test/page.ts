// What the pages of the browser tests run.
import { connect } from "message-hub";
import { Peer } from "./traffic.js";

const peers: Peer[] = [];

const api = {
  connect,
  /** Connects one client to each URL. Returns their ids. */
  async join(urls: string[]): Promise<string[]> {
    peers.push(...(await Promise.all(urls.map((url) => Peer.connect(url)))));
    return peers.map((peer) => peer.hub.id);
  },
  /** Lets each client send to its receivers. */
  async send(to: string[][], n: number, interval: number): Promise<void> {
    await Promise.all(peers.map((peer, i) => peer.send(to[i] as string[], n, interval)));
  },
  close: () => Promise.all(peers.map((peer) => peer.close())),
};

export type PageAPI = typeof api;

Object.assign(globalThis, { api });
