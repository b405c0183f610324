/** The longest delay of a timer, in milliseconds: 2³¹ − 1, in browsers and in Node. */
const maxDelay = 0x7fffffff;

/** Returns milliseconds that never go back. They can stand still while the machine sleeps. */
export const now = () => performance.now();

/** Runs a function once, after some milliseconds. The result cancels it. */
export function after(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, Math.min(ms, maxDelay));
  return () => clearTimeout(timer);
}
