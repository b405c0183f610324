import { useEffect, useRef, useState } from "preact/hooks";

// Calls a function now and then once an interval, the next call never before the last has ended.
// While the page is hidden it is not called, unless background is set.
export function usePolling(poll, interval, dependencies, { background = false } = {}) {
  const latest = useRef();
  latest.current = poll;
  useEffect(() => {
    let ended = false;
    let timer = 0;
    const run = async () => {
      if (background || !document.hidden) await latest.current(() => ended);
      if (!ended) timer = setTimeout(run, interval);
    };
    run();
    return () => {
      ended = true;
      clearTimeout(timer);
    };
  }, dependencies);
}

// Whether a media query matches.
export function useMedia(query) {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const update = () => setMatches(list.matches);
    update();
    list.addEventListener("change", update);
    return () => list.removeEventListener("change", update);
  }, [query]);
  return matches;
}
