import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";

import { bytes, count, number, seconds } from "./format.js";
import { historySeconds } from "./history.js";
import { useMedia } from "./hooks.js";
import { html } from "./html.js";

const latencyWindow = 10; // seconds behind each point of the latency
const maxReasons = 6; // series of a plot by reason; the colours are not more
const spans = [60, 120, 300, historySeconds]; // seconds that a plot shows, with the growing history

// The fates of reported messages that are not delivered for a reason that no drop reason names.
const lostFates = ["full", "expired", "uncertain", "unreachable", "rejected"];

const plain = (fields) => fields.map(([label, read]) => ({ label, read }));

// The series of a plot by reason: the reasons that occur in the history, the most frequent first.
function byReason(history, reasons) {
  return reasons
    .map(([label, read]) => ({ label, read, total: history.increase(historySeconds, read) }))
    .filter((s) => s.total > 0)
    .sort((a, b) => b.total - a.total)
    .slice(0, maxReasons);
}

const names = (counts) => Object.keys(counts ?? {});

// The plots. series returns what one shows, columns its data.
const plots = [
  {
    title: "Messages", unit: "frames a second", format: number,
    series: () => plain([["in", (s) => s.messages_in], ["out", (s) => s.messages_out], ["delivered", (s) => s.delivered]]),
  },
  {
    title: "Bytes", unit: "a second", format: bytes, binary: true,
    series: () => plain([["in", (s) => s.bytes_in], ["out", (s) => s.bytes_out]]),
  },
  {
    title: "Latency", unit: "of deliveries", format: seconds,
    series: () => plain([["p50", 0.5], ["p99", 0.99]]),
    columns: (history, reads) => history.quantileColumns(reads, latencyWindow),
  },
  {
    title: "Queued", unit: "memory held for clients", format: bytes, binary: true, limit: 1,
    series: () => plain([["queued", (s) => s.queued_bytes], ["limit", (s) => s.queued_bytes_limit]]),
    columns: (history, reads) => history.valueColumns(reads),
  },
  {
    title: "Not delivered", unit: "a second, by reason", format: number, empty: "Every message was delivered.",
    series: (history) =>
      byReason(history, [
        ...names(history.summary?.dropped).map((r) => [r, (s) => s.dropped[r] ?? 0]),
        ...lostFates.map((f) => [f, (s) => s.fates[f] ?? 0]),
      ]),
  },
  {
    title: "Clients", unit: "connected", format: count, whole: true,
    series: () => plain([["clients", (s) => s.clients]]),
    columns: (history, reads) => history.valueColumns(reads),
  },
  {
    title: "Connections ended", unit: "a second, by reason", format: number, empty: "No connection has ended.",
    series: (history) => byReason(history, names(history.summary?.disconnections).map((r) => [r, (s) => s.disconnections[r] ?? 0])),
  },
  {
    title: "Connections", unit: "a second", format: number,
    series: (history) => [
      ...plain([["accepted", (s) => s.connections], ["resumed", (s) => s.resumptions]]),
      ...byReason(history, names(history.summary?.refused).map((r) => [r, (s) => s.refused[r] ?? 0])),
    ],
  },
];

export function Plots({ history }) {
  const dark = useMedia("(prefers-color-scheme: dark)");
  return html`
    <section class="plots" aria-label="The last 15 minutes">
      ${plots.map((plot) => html`<${Plot} key=${plot.title} plot=${plot} history=${history} dark=${dark} />`)}
    </section>
  `;
}

// One plot. Its legend has the values at the cursor, or the latest ones, as text.
function Plot({ plot, history, dark }) {
  const frame = useRef();
  const chart = useRef(null);
  const [index, setIndex] = useState(null); // of the cursor
  const series = plot.series(history);
  const reads = series.map((s) => s.read);
  const columns = plot.columns ? plot.columns(history, reads) : history.rateColumns(reads);
  const labels = series.map((s) => s.label).join("\n");

  useEffect(() => {
    const u = new uPlot(optionsOf(plot, series, frame.current, setIndex), columns, frame.current);
    chart.current = u;
    const observer = new ResizeObserver(() => u.setSize(sizeOf(frame.current)));
    observer.observe(frame.current);
    return () => {
      observer.disconnect();
      u.destroy();
      chart.current = null;
    };
  }, [labels, dark]);

  useEffect(() => {
    if (!document.hidden) chart.current?.setData(columns);
  });

  const at = index ?? columns[0].length - 1;
  const values = series.map((s, i) => [s.label, columns[i + 1][at]]);
  const text = (v) => (v === null || v === undefined ? "–" : plot.format(v));
  return html`
    <figure class="plot">
      <figcaption>
        <h2>${plot.title} <small>${plot.unit}</small></h2>
        <ul class="legend">
          ${values.map(([label, value], i) => html`<li key=${label}><i class="series-${i + 1}"></i>${label} <b>${text(value)}</b></li>`)}
          ${series.length === 0 && html`<li>${plot.empty}</li>`}
        </ul>
      </figcaption>
      <div class="canvas" ref=${frame} aria-hidden="true"></div>
    </figure>
  `;
}

// The part of the time that a plot shows: up to the last sample.
function timeRange(u, min, max) {
  const last = max ?? Date.now() / 1000;
  const span = last - (min ?? last);
  return [last - spans.find((s) => s >= Math.min(span, historySeconds - 5)), last];
}

// The distances between two lines of an axis: of bytes, powers of two.
const powersOfTwo = Array.from({ length: 50 }, (_, i) => 2 ** i);

const wholeSteps = [1, 2, 5].flatMap((n) => Array.from({ length: 9 }, (_, i) => n * 10 ** i)).sort((a, b) => a - b);

const clock = (t, withSeconds) => new Date(t * 1000).toTimeString().slice(0, withSeconds ? 8 : 5);

const sizeOf = (element) => ({ width: element.clientWidth, height: element.clientHeight });

function optionsOf(plot, series, element, setIndex) {
  const style = getComputedStyle(element);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { show: false }, font: `11px ${style.fontFamily}` };
  return {
    ...sizeOf(element),
    legend: { show: false },
    padding: [8, 22, 0, 0],
    cursor: { sync: { key: "console" }, drag: { x: false, y: false }, points: { size: 6 } },
    scales: {
      x: { range: timeRange },
      y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] },
    },
    series: [
      {},
      ...series.map((s, i) => ({
        label: s.label,
        stroke: color(`series-${i + 1}`),
        width: 1.5,
        points: { show: false },
        ...(plot.limit === i ? { dash: [4, 4] } : { fill: series.length === 1 || plot.limit === 1 ? color("fill") : undefined }),
      })),
    ],
    axes: [
      { ...axis, size: 24, values: (_, splits, __, ___, step) => splits.map((t) => clock(t, step < 60)), incrs: [15, 30, 60, 300], space: 60 },
      {
        ...axis,
        size: 62,
        space: 30,
        values: (_, splits) => splits.map((v) => (v === 0 ? "0" : plot.format(v))),
        ...(plot.binary && { incrs: powersOfTwo }),
        ...(plot.whole && { incrs: wholeSteps }),
      },
    ],
    hooks: { setCursor: [(u) => setIndex(u.cursor.idx ?? null)] },
  };
}
