import { Client } from "./client.js";
import { Hub } from "./hub.js";
import { type ConnectOptions, settingsOf } from "./options.js";

/**
 * Connects to a hub over WebSocket.
 *
 * ```ts
 * const hub = await connect("wss://hub.example/connect", { token: getToken });
 * for await (const m of hub) {
 *   console.log(m.from, m.text());
 *   m.ack();
 * }
 * ```
 *
 * @param url the endpoint of the hub. In a page it can be relative to the page, as for `WebSocket`.
 * @returns the client, as soon as it has its id.
 * @throws HubError if the first attempt fails (`retry` says whether another one can succeed), with
 *   `waitOnFirstConnect` only for an error that no retry can mend; the reason of the signal; a
 *   RangeError or TypeError for an invalid option. No socket stays open then.
 */
export async function connect(url: string | URL, options: ConnectOptions = {}): Promise<Hub> {
  const { signal } = options;
  signal?.throwIfAborted();
  const client = new Client(String(url), settingsOf(options));
  const onAbort = () => client.stop();
  signal?.addEventListener("abort", onAbort);
  try {
    await client.start();
    return new Hub(client);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
  }
}
