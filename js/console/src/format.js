// Numbers for people.

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const count = (n) => whole.format(n);

export const number = (n) => (n >= 10_000 ? compact.format(n) : fine.format(n));

export const percent = (share) => `${fine.format(share * 100)} %`;

const binary = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(n) {
  let unit = 0;
  while (n >= 1000 && unit < binary.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${fine.format(n)} ${binary[unit]}`;
}

// A latency in seconds.
export function seconds(s) {
  if (s < 0.9995e-3) return `${fine.format(s * 1e6)} µs`;
  if (s < 0.9995) return `${fine.format(s * 1e3)} ms`;
  return `${fine.format(s)} s`;
}

// A longer time in seconds, in its two largest units.
export function duration(s) {
  s = Math.max(0, Math.floor(s));
  const parts = [
    [Math.floor(s / 86_400), "d"],
    [Math.floor(s / 3600) % 24, "h"],
    [Math.floor(s / 60) % 60, "min"],
    [s % 60, "s"],
  ];
  const first = parts.findIndex(([n]) => n > 0);
  if (first < 0) return "0 s";
  return parts
    .slice(first, first + 2)
    .filter(([n], i) => i === 0 || n > 0)
    .map(([n, unit]) => `${n} ${unit}`)
    .join(" ");
}
