/** What the life of a page does to a client. */
export interface PageHandler {
  /** The page, the machine or the network is back: the connection can be dead. */
  onWake(): void;
  /** The page is about to be frozen. */
  onFreeze(): void;
}

/**
 * Listens to the events of the page, or of the worker, in which the client runs. Does nothing in
 * Node. The result removes the listeners.
 */
export function watchPage({ onWake, onFreeze }: PageHandler): () => void {
  const stop = new AbortController();
  const listen = (target: EventTarget | undefined, type: string, run: () => void) =>
    target?.addEventListener?.(type, run, { signal: stop.signal });
  const { document } = globalThis;
  listen(globalThis, "online", onWake);
  listen(globalThis, "offline", onWake); // a connection to this machine, for example, stays
  listen(globalThis, "pageshow", onWake);
  listen(document, "visibilitychange", () => document.hidden || onWake());
  listen(document, "resume", onWake);
  listen(document, "freeze", onFreeze);
  return () => stop.abort();
}
