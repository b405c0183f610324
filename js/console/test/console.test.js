// The console in a browser, with a real hub.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";

import { Browser } from "./browser.js";
import { eventually, Hub, Peer } from "./hub.js";
import { clusterWith } from "./summaries.js";

const token = "0123456789abcdef0123456789abcdef";

let browser;
let cleanups = [];

before(async () => {
  browser = await Browser.start();
});
after(() => browser.close());
afterEach(async () => {
  const last = cleanups.reverse();
  cleanups = [];
  const results = [];
  for (const cleanup of last) results.push(...(await Promise.allSettled([cleanup()])));
  for (const { reason } of results) if (reason) throw reason;
});

async function startHub(options) {
  const hub = await Hub.start(options);
  cleanups.push(() => hub.close());
  return hub;
}

// Opens the console, and checks in the end that it has kept its rules.
async function openConsole(hub, path) {
  const page = await browser.open(hub, path);
  cleanups.push(async () => {
    const violations = await page.evaluate(() => window.violations);
    await page.close();
    assert.deepEqual(page.problems, []);
    assert.deepEqual(violations, []);
  });
  return page;
}

async function connect(hub, name) {
  const peer = await Peer.connect(hub, name);
  cleanups.push(() => peer.close());
  return peer;
}

const row = (page, id) => page.locator(".clients tbody tr").filter({ has: page.getByRole("button", { name: id, exact: true }) });
const tile = (page, name) => page.locator(`#tile-${name} dd`).first();

// Waits for a text in an element.
async function waitForText(locator, pattern, timeout = 10_000) {
  let text;
  try {
    return await eventually("", async () => pattern.test((text = (await locator.textContent({ timeout: 1000 }).catch(() => null)) ?? "")) && text, timeout);
  } catch {
    throw new Error(`the text is ${JSON.stringify(text)}, want ${pattern}`);
  }
}

test("the state of the hub is shown", async () => {
  const hub = await startHub();
  const page = await openConsole(hub);
  await waitForText(tile(page, "clients"), /^0$/);
  await waitForText(page.locator(".clients"), /No client is connected/);
  const [sender, receiver] = [await connect(hub, "sender"), await connect(hub, "receiver")];
  await waitForText(tile(page, "clients"), /^2$/);
  for (let i = 0; i < 200; i++) sender.send(receiver.id, 1000);
  await eventually("the reports arrive", () => sender.reports === 200);
  await waitForText(page.locator(".plot").filter({ hasText: "Messages" }).locator(".legend"), /delivered [1-9]/);
  assert.equal(await page.locator(".plot canvas").count(), 8);
});

test("a stalled receiver is visible within 2 s", async () => {
  const hub = await startHub({ flags: ["-stall=60s"] });
  const [sender, receiver] = [await connect(hub), await connect(hub, "stalled")];
  for (let i = 0; i < 30; i++) await connect(hub, `other ${i}`);
  const page = await openConsole(hub);
  await waitForText(page.locator(".range"), /of 32/);
  receiver.stall();
  sender.relay(receiver.id, 1_000_000, 15);
  await eventually("the hub has queued for it", async () => (await hub.get(`/api/clients/${receiver.id}`)).queued_bytes > 512 << 10);
  const start = performance.now();
  await waitForText(row(page, receiver.id), /slow|reads nothing/, 5000);
  const took = performance.now() - start;
  assert.ok(took < 2000, `after ${took} ms`);
  await waitForText(row(page, receiver.id), /stalled.*reads nothing/);

  // The page asks for the list and for the summary once a second, and for nothing else.
  const requests = [];
  page.on("request", (r) => requests.push(r.url()));
  await page.waitForTimeout(3000);
  assert.ok(requests.length >= 4 && requests.length <= 8, `${requests.length} requests in 3 s`);
  assert.equal(await page.locator(".clients tbody tr th").first().textContent(), receiver.id); // the largest queue comes first
});

for (const reconnect of [true, false]) {
  test(`ending a client works, ${reconnect ? "with" : "without"} the advice to reconnect`, async () => {
    const hub = await startHub({ token });
    const [other, peer] = [await connect(hub, "other"), await connect(hub, "to be ended")];
    const page = await openConsole(hub);
    await page.getByLabel("Token of the admin address").fill(token);
    await page.keyboard.press("Enter");
    await row(page, peer.id).getByRole("button").click();
    const dialog = page.getByRole("dialog", { name: `Client ${peer.id}` });
    await waitForText(dialog, /to be ended.*version 2/s);
    await dialog.getByRole("button", { name: reconnect ? "End, to reconnect" : "End", exact: true }).click();
    await dialog.getByRole("button", { name: "Keep it" }).click();
    assert.equal((await hub.get(`/api/clients/${peer.id}`)).id, peer.id);
    await dialog.getByRole("button", { name: reconnect ? "End, to reconnect" : "End", exact: true }).click();
    await dialog.getByRole("button", { name: `End client ${peer.id}` }).click();
    await peer.ended;
    assert.deepEqual([peer.goAway.code, peer.goAway.reconnect], ["disconnected", reconnect]);
    await waitForText(dialog, /has left/);
    await page.keyboard.press("Escape");
    await eventually("its row is gone", async () => (await row(page, peer.id).count()) === 0);
    assert.equal(await row(page, other.id).count(), 1);
  });
}

test("one client has its rates and fates", async () => {
  const hub = await startHub();
  const [sender, receiver] = [await connect(hub, "sender"), await connect(hub, "receiver")];
  const page = await openConsole(hub);
  await row(page, sender.id).click();
  const dialog = page.getByRole("dialog");
  await waitForText(dialog, /It has requested no report/);
  for (let i = 0; i < 50; i++) sender.send(i % 2 ? receiver.id : "999", 1000);
  await waitForText(dialog, /received25.*unknown25/s);
  const frames = dialog.getByRole("row", { name: /^Frames/ });
  await waitForText(frames, /[1-9][\d.]*\/s/);
});

test("a test message shows its fates", async () => {
  const hub = await startHub();
  const receiver = await connect(hub, "receiver");
  const page = await openConsole(hub);
  await row(page, receiver.id).click();
  await page.getByRole("dialog").getByRole("button", { name: "Send a test message" }).click();
  const dialog = page.getByRole("dialog", { name: "Send a test message" });
  assert.equal(await dialog.getByLabel("Receivers").inputValue(), receiver.id);
  await dialog.getByLabel("Receivers").fill(`${receiver.id}, 999`);
  await dialog.getByRole("button", { name: "Send", exact: true }).click();
  await waitForText(dialog.locator(".fates tbody"), new RegExp(`^${receiver.id}received999unknown$`));
  assert.equal(receiver.received, 1);
  await dialog.getByLabel("Receivers").fill("boiler");
  await dialog.getByRole("button", { name: "Send", exact: true }).click();
  await waitForText(dialog, /invalid id "boiler"/);
});

test("a wrong token says so, and the right one is kept for the tab only", async () => {
  const hub = await startHub({ token });
  const page = await openConsole(hub);
  const input = page.getByLabel("Token of the admin address");
  await input.waitFor();
  assert.equal(await page.getByRole("alert").count(), 0);
  await input.fill("0123456789abcdef0123456789abcdee");
  await page.keyboard.press("Enter");
  await waitForText(page.getByRole("alert"), /does not accept this token/);
  assert.equal(await page.locator(".tile").count(), 0);
  await input.fill(token);
  await page.getByRole("button", { name: "Show the hub" }).click();
  await waitForText(tile(page, "clients"), /^0$/);
  await page.reload();
  await waitForText(tile(page, "clients"), /^0$/);
  assert.ok(!page.url().includes(token));
  const other = await openConsole(hub);
  await other.getByLabel("Token of the admin address").waitFor();
  await page.getByRole("button", { name: "Forget the token" }).click();
  await input.waitFor();
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
});

test("a restart of the hub is survived", async () => {
  const hub = await startHub({ token });
  await connect(hub, "before");
  const page = await openConsole(hub);
  await page.getByLabel("Token of the admin address").fill(token);
  await page.keyboard.press("Enter");
  await waitForText(tile(page, "clients"), /^1$/);
  await waitForText(page.locator(".live"), /^live$/);
  await hub.end();
  await waitForText(page.locator(".live"), /no answer/);
  const warnings = page.getByRole("region", { name: "Warnings" });
  await waitForText(warnings, /The hub has not answered for/);
  assert.equal(await page.locator("#tile-uptime").getAttribute("data-severity"), "critical");
  await hub.run();
  await waitForText(page.locator(".live"), /^live$/);
  await waitForText(warnings, /The hub was restarted/);
  const after = await connect(hub, "after");
  await waitForText(row(page, after.id), /after/);
  assert.equal(await page.locator("#tile-uptime").getAttribute("data-severity"), "info");
});

test("a warning links to its runbook, and colours its value", async () => {
  const hub = await startHub({ flags: ["-max-memory=8MiB", "-stall=60s", "-max-clients=40"] });
  const page = await openConsole(hub);
  await waitForText(tile(page, "clients"), /^0$/);
  const sender = await connect(hub);
  const receivers = [];
  for (let i = 0; i < 12; i++) {
    receivers.push(await connect(hub, "slow"));
    receivers[i].stall();
    (await connect(hub)).relay(receivers[i].id, 1_000_000, 10);
  }
  sender.relay(receivers[0].id, 10);
  const warning = page.getByRole("listitem").filter({ hasText: "MessageHubNearItsMemory" });
  await waitForText(warning, /warning.*of its limit/);
  assert.equal(await page.locator("#tile-queued").getAttribute("data-severity"), "warning");
  const [runbook] = await Promise.all([page.context().waitForEvent("page"), warning.getByRole("link", { name: "Runbook: The memory is full" }).click()]);
  await runbook.waitForLoadState();
  assert.equal(new URL(runbook.url()).origin, hub.url);
  assert.equal(await runbook.locator(":target").textContent(), "The memory is full");
  await runbook.close();
});

// Has the page see its hub in a cluster: the hub is alone, and the page gets this cluster with its state.
async function openInCluster(hub, cluster) {
  const page = await openConsole(hub, "/console/runbooks.html");
  await page.route("**/api/summary", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...(await response.json()), cluster: cluster() } });
  });
  await page.goto(`${hub.url}/console/`);
  return page;
}

const nodes = (page) => page.locator("section[aria-labelledby=nodes-title]");
const nodeRow = (page, name) => nodes(page).locator("tbody tr").filter({ hasText: name });

test("the hubs of a cluster are shown, and one that is lost", async () => {
  const hub = await startHub();
  let messages = 1000;
  let state = "up";
  const page = await openInCluster(hub, () =>
    clusterWith({ clients: 12_345, link: { messages: (messages += 500), bytes: messages * 1024, under_way_bytes: 2 << 20, resent_bytes: 4096 } }, { state }, { link: { lag_seconds: 1.5 } }),
  );
  await waitForText(nodeRow(page, "this hub"), /^a this hub ?up /);
  await waitForText(nodeRow(page, "12,345"), /^bup .*1 ms.*0 µs.*2 MiB.*[1-9][\d.]*K?\/s.*[1-9][\d.]* [KM]iB\/s4 KiB$/);
  await waitForText(nodeRow(page, "slow"), /^dslow /);
  const warnings = page.getByRole("region", { name: "Warnings" });
  await waitForText(warnings, /The link is slow to d\..*Runbook: A link is slow/);
  assert.equal(await nodeRow(page, "slow").getAttribute("data-severity"), "warning");
  state = "lost";
  await waitForText(nodeRow(page, "lost"), /^clost/);
  assert.equal(await nodeRow(page, "lost").getAttribute("data-severity"), "critical");
  await waitForText(warnings, /The cluster has lost c\..*Runbook: A hub is lost/);
});

test("a hub that is alone shows no hubs", async () => {
  const hub = await startHub();
  const page = await openConsole(hub);
  await waitForText(tile(page, "clients"), /^0$/);
  assert.equal(await nodes(page).count(), 0);
});

test("names of clients stay text", async () => {
  const hub = await startHub();
  const names = ["<script>window.violations.push('executed')</script>", "<img src=x onerror=window.violations.push('executed')>", "${alert(1)}"];
  const peers = [];
  for (const name of names) peers.push(await connect(hub, name));
  const page = await openConsole(hub);
  for (const [i, peer] of peers.entries()) {
    assert.ok((await waitForText(row(page, peer.id), /\d/)).includes(names[i]));
    await row(page, peer.id).click();
    await waitForText(page.getByRole("dialog"), /version 2/);
    assert.ok((await page.getByRole("dialog").textContent()).includes(names[i]));
    await page.keyboard.press("Escape");
  }
  assert.equal(await page.locator("table script, table img, dialog script, dialog img").count(), 0);
});

test("clients are filtered, sorted and shown page by page", async () => {
  const hub = await startHub();
  const peers = [];
  for (let i = 0; i < 60; i++) peers.push(await connect(hub, `sensor ${i}`));
  const page = await openConsole(hub);
  const range = page.locator(".range");
  await waitForText(range, /^1–25 of 60$/);
  await page.getByRole("button", { name: "Next" }).click();
  await waitForText(range, /^26–50 of 60$/);
  await page.getByRole("button", { name: "Next" }).click();
  await waitForText(range, /^51–60 of 60$/);
  assert.ok(await page.getByRole("button", { name: "Next" }).isDisabled());
  const filter = page.getByRole("searchbox");
  await filter.fill("SENSOR 5");
  await waitForText(range, /^1–11 of 11$/);
  await filter.fill(peers[7].id);
  await waitForText(range, /^1–1 of 1$/);
  assert.equal(await row(page, peers[7].id).count(), 1);
  await filter.fill("nobody");
  await waitForText(page.locator(".clients"), /No client matches the filter/);
  await filter.fill("");
  await waitForText(range, /^1–25 of 60$/);
  const heading = page.getByRole("columnheader", { name: "Bytes out" });
  await heading.getByRole("button").click();
  assert.equal(await heading.getAttribute("aria-sort"), "descending");
});

test("everything can be done with the keyboard", async () => {
  const hub = await startHub({ token });
  const peer = await connect(hub, "only");
  const page = await openConsole(hub);
  await page.getByLabel("Token of the admin address").waitFor();
  await page.keyboard.type(token); // the focus is in the field
  await page.keyboard.press("Enter");
  await row(page, peer.id).waitFor();
  const focused = () => page.evaluate(() => document.activeElement.textContent || document.activeElement.getAttribute("placeholder"));
  const path = [];
  for (let i = 0; i < 20 && (await focused()) !== peer.id; i++) {
    await page.keyboard.press("Tab");
    path.push(await focused());
  }
  assert.deepEqual(path.slice(0, 3), ["Send a test message", "Forget the token", "Filter by id, name, subject or address"]);
  assert.equal(path.at(-1), peer.id);
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: `Client ${peer.id}` });
  await dialog.getByRole("button", { name: "End", exact: true }).waitFor();
  for (let i = 0; i < 10 && (await focused()) !== "End"; i++) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), `End client ${peer.id}`);
  await page.keyboard.press("Enter");
  await peer.ended;
  await waitForText(dialog, /has left/);
  await page.keyboard.press("Escape");
  await eventually("the dialog is closed", async () => (await dialog.count()) === 0);
});

test("a row that has the focus keeps its place", async () => {
  const hub = await startHub({ flags: ["-stall=60s"] });
  const [sender, first, second] = [await connect(hub), await connect(hub, "first"), await connect(hub, "second")];
  const page = await openConsole(hub);
  const order = () => page.locator(".clients tbody tr th").allTextContents();
  await row(page, second.id).getByRole("button").focus();
  const before = await order();
  second.stall();
  sender.relay(second.id, 1_000_000, 15);
  await waitForText(row(page, second.id), /reads nothing/);
  assert.deepEqual(await order(), before);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), second.id);
  await page.getByRole("searchbox").focus();
  await eventually("the largest queue comes first", async () => (await order())[0] === second.id);
  assert.ok((await order()).includes(first.id));
});

test("screen readers get labels and roles", async () => {
  const hub = await startHub();
  await connect(hub, "one");
  const page = await openConsole(hub);
  await waitForText(page.locator(".range"), /1 of 1|1–1 of 1/);
  const unnamed = await page.evaluate(() =>
    Array.from(document.querySelectorAll("button, input, select, a"))
      .filter((e) => !(e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.getAttribute("aria-label")))
      .map((e) => e.outerHTML),
  );
  assert.deepEqual(unnamed, []);
  for (const name of ["Clients", "The last 15 minutes"]) assert.ok((await page.getByRole("region", { name }).count()) > 0, name);
  assert.equal(await page.locator("[aria-live=polite]").count() > 0, true);
  assert.equal(await page.locator("canvas").evaluateAll((list) => list.every((c) => c.closest("[aria-hidden=true]"))), true);
});

for (const colorScheme of ["light", "dark"]) {
  test(`texts have the contrast of WCAG AA, ${colorScheme}`, async () => {
    const hub = await startHub();
    await connect(hub, "one");
    const page = await openConsole(hub);
    await page.emulateMedia({ colorScheme });
    await waitForText(page.locator(".range"), /of 1$/);
    assert.deepEqual(await page.evaluate(lowContrasts), []);
  });
}

// Returns the texts of the page whose contrast with their background is below 4.5.
function lowContrasts() {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) =>
    [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (e) => {
    for (; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!Array.from(e.childNodes).some((n) => n.nodeType === 3 && n.data.trim()) || e.closest("noscript") || e.disabled) continue;
    const [a, b] = [luminance(parse(getComputedStyle(e).color)), luminance(background(e))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) low.push(`${contrast.toFixed(2)}: ${e.textContent.trim().slice(0, 40)}`);
  }
  return low;
}

test("the page fits narrow screens", async () => {
  const hub = await startHub();
  await connect(hub, "a name that is as long as the hub allows the name of a client to be");
  const page = await openConsole(hub);
  await waitForText(page.locator(".range"), /of 1$/);
  for (const width of [320, 390, 768, 1280, 1920]) {
    await page.setViewportSize({ width, height: 800 });
    const scrolls = await eventually("the layout", () => page.evaluate(() => [document.documentElement.scrollWidth]));
    assert.ok(scrolls[0] <= width, `${scrolls[0]} pixels at a width of ${width}`);
  }
});
