import assert from "node:assert/strict";
import { test } from "node:test";

import { History, historySeconds } from "../src/history.js";
import { summaryWith } from "./summaries.js";

const filled = (summaries, start = 1000) => {
  const history = new History();
  summaries.forEach((summary, i) => history.add(start + i, summary && summaryWith(summary)));
  return history;
};

test("History: an increase counts from before the window, and goes on after a restart", () => {
  const read = (s) => s.delivered;
  const history = filled([{ delivered: 100 }, { delivered: 150 }, null, { delivered: 170 }, { delivered: 7, started: "later" }, { delivered: 10, started: "later" }]);
  assert.equal(history.increase(300, read), 50 + 20 + 7 + 3);
  assert.equal(history.increase(2, read), 7 + 3); // since the sample before the last two seconds
  assert.equal(history.rate(300, read), 80 / 300);
  assert.equal(history.restartedAt, 1004);
});

test("History: keeps 15 minutes", () => {
  const history = filled(Array.from({ length: historySeconds + 100 }, (_, i) => ({ delivered: i })));
  assert.equal(history.samples.length, historySeconds);
  assert.equal(history.samples[0].summary.delivered, 100);
});

test("History: silence begins with the first sample without an answer", () => {
  assert.equal(filled([{}, null, null]).silentSince, 1001);
  assert.equal(filled([null]).silentSince, 1000);
  assert.equal(filled([null, {}]).silentSince, null);
  assert.equal(filled([null, {}]).restartedAt, null);
});

test("History: rates are per second, and unknown next to silence", () => {
  const history = filled([{ delivered: 0 }, { delivered: 5 }, null, { delivered: 9 }, { delivered: 10 }]);
  assert.deepEqual(history.rateColumns([(s) => s.delivered]), [
    [1001, 1002, 1003, 1004],
    [5, null, null, 1],
  ]);
});

// The expected values are those of histogram_quantile of Prometheus.
test("History: quantiles are interpolated within a bucket", () => {
  const latency = (...counts) => ({ latency: { bounds: [0.001, 0.01, 0.1], counts } });
  const history = filled([latency(5, 5, 5, 5), latency(5, 105, 5, 5)]);
  const near = (got, want) => assert.ok(Math.abs(got - want) < 1e-12, `${got}, want ${want}`);
  near(history.quantile(0.5, 60), 0.001 + 0.5 * 0.009);
  near(history.quantile(0.99, 60), 0.001 + 0.99 * 0.009);
  near(filled([latency(0, 0, 0, 0), latency(50, 0, 50, 0)]).quantile(0.75, 60), 0.01 + 0.5 * 0.09);
  near(filled([latency(0, 0, 0, 0), latency(50, 0, 50, 0)]).quantile(0.5, 60), 0.001);
  near(filled([latency(0, 0, 0, 0), latency(0, 0, 0, 3)]).quantile(0.5, 60), 0.1); // above all bounds
  assert.equal(filled([latency(1, 1, 1, 1), latency(1, 1, 1, 1)]).quantile(0.5, 60), null);
  assert.equal(filled([{ latency: null }, { latency: null }]).quantile(0.5, 60), null);
  const [times, [first, second]] = history.quantileColumns([1], 10);
  assert.deepEqual([times, first], [[1000, 1001], null]);
  near(second, 0.01);
});
