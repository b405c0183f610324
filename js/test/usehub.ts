import { connect, type Hub } from "message-hub";
import { useEffect, useState } from "react";

/** Returns a client that lives as long as the component, or undefined while there is none. */
export function useHub(url: string): Hub | undefined {
  const [hub, setHub] = useState<Hub>();
  useEffect(() => {
    const unmount = new AbortController();
    const { signal } = unmount;
    connect(url, { signal, waitOnFirstConnect: true }).then(
      (hub) => {
        if (signal.aborted) return void hub.close();
        signal.addEventListener("abort", () => void hub.close());
        setHub(hub);
      },
      (error) => signal.aborted || console.error(error),
    );
    return () => {
      unmount.abort();
      setHub(undefined);
    };
  }, [url]);
  return hub;
}
