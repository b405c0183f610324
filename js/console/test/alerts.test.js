import assert from "node:assert/strict";
import { test } from "node:test";

import { Alerts, severityOf } from "../src/alerts.js";
import definitions from "../src/alerts.json" with { type: "json" };
import { History } from "../src/history.js";
import { clusterWith, summaryWith } from "./summaries.js";

const day = 86_400;
const start = 1_800_000_000;

// Evaluates the alerts of a hub whose counters grow from the first summary to the second in 5 minutes.
function evaluate(before, after) {
  const history = new History();
  history.add(start, before && summaryWith(before));
  history.add(start + 299, after && summaryWith(after));
  return new Alerts().evaluate(history, start + 299);
}

const until = (seconds) => ({ certificate_not_after: new Date((start + 299 + seconds) * 1000).toISOString() });

// For each alert a hub just below its threshold, and one just above, as in alerts_test.yml.
const cases = {
  MessageHubDown: [[{}, {}], [{}, null]],
  MessageHubRestarted: [[{}, { started: "later", uptime_seconds: 300 }], [{}, { started: "later", uptime_seconds: 299 }]],
  MessageHubRefusesClients: [[{ refused: { "too many clients": 7 } }, { refused: { "too many clients": 7 } }], [{}, { refused: { "too many clients": 1 } }]],
  MessageHubRefusesAddresses: [[{}, { refused: { "too fast from its address": 300, "too many from its address": 300 } }], [{}, { refused: { "too fast from its address": 301 } }]],
  MessageHubHandshakesFail: [[{}, { disconnections: { "no handshake": 300, refused: 300, left: 9000 } }], [{}, { disconnections: { refused: 301 } }]],
  MessageHubCertificateEnds: [[{}, until(14 * day + 60)], [{}, until(14 * day - 60)]],
  MessageHubCertificateOver: [[{}, until(15 * day)], [{}, until(-1)]],
  MessageHubCannotAccept: [[{ accept_errors: 3 }, { accept_errors: 3 }], [{}, { accept_errors: 1 }]],
  MessageHubNearItsFiles: [[{}, { open_files: 900 }], [{}, { open_files: 901 }]],
  MessageHubNearItsMemory: [[{}, { queued_bytes: 800 }], [{}, { queued_bytes: 801 }]],
  MessageHubClientsStall: [[{}, { disconnections: { stalled: 30 } }], [{}, { disconnections: { "too slow for the memory it held": 31 } }]],
  MessageHubMessagesExpire: [[{}, { fates: { received: 990, expired: 10 } }], [{}, { fates: { received: 980, expired: 10, uncertain: 5, full: 5 } }]],
  MessageHubIsSlow: [
    [{}, { latency: { bounds: [0.001, 1, 2.5], counts: [0, 990, 10, 0] } }],
    [{}, { latency: { bounds: [0.001, 1, 2.5], counts: [0, 900, 100, 0] } }],
  ],
  MessageHubNotMember: [[{}, { cluster: clusterWith({}) }], [{}, { cluster: { ...clusterWith({ state: "lost" }, { state: "lost" }), error: "no lease" } }]],
  MessageHubLost: [
    [{}, { cluster: clusterWith({ state: "lost" }, { state: "connecting" }, { name: "b" }) }], // b was started again
    [{}, { cluster: clusterWith({ state: "lost" }, {}) }],
  ],
  MessageHubPartition: [[{}, { cluster: clusterWith({}, {}) }], [{}, { cluster: clusterWith({ state: "lost" }, { state: "lost" }) }]],
  MessageHubLinkIsSlow: [
    [{}, { cluster: clusterWith({ link: { lag_seconds: 1, round_trip_seconds: 0.5 } }) }],
    [{}, { cluster: clusterWith({ link: { lag_seconds: 1.1 } }, { link: { round_trip_seconds: 0.51 } }) }],
  ],
};

for (const [name, [below, above]] of Object.entries(cases)) {
  test(`Alerts: ${name}`, () => {
    assert.deepEqual(evaluate(...below).map((a) => a.name), []);
    const active = evaluate(...above);
    assert.deepEqual(active.map((a) => a.name), [name]);
    assert.ok(active[0].text.length > 10);
    assert.equal(severityOf(active, definitions[name].tile), definitions[name].severity);
    assert.equal(severityOf(active, "bytes"), undefined);
  });
}

test("Alerts: each has a case", () => {
  assert.deepEqual(Object.keys(cases).sort(), Object.keys(definitions).sort());
});

test("Alerts: one fires when its condition has held for its time, and begins anew after a break", () => {
  const history = new History();
  const alerts = new Alerts();
  const at = (time, queued) => {
    history.add(time, summaryWith({ queued_bytes: queued }));
    return alerts.evaluate(history, time).map((a) => [a.since, a.fires]);
  };
  assert.deepEqual(at(start, 900), [[start, start + 300]]);
  assert.deepEqual(at(start + 10, 900), [[start, start + 300]]);
  assert.deepEqual(at(start + 20, 0), []);
  assert.deepEqual(at(start + 30, 900), [[start + 30, start + 330]]);
});

test("Alerts: the worst comes first", () => {
  const names = evaluate({}, { queued_bytes: 900, accept_errors: 1, started: "later", uptime_seconds: 5 }).map((a) => a.severity);
  assert.deepEqual(names, ["critical", "warning", "info"]);
});
