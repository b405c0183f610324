// A chat of all pages that are connected to one hub. Each message goes to all others, and its
// ticks show how far it has come.
import { connect } from "../../js/dist/message-hub.min.js";

const url = new URLSearchParams(location.search).get("hub") ?? "ws://localhost:9980/connect";
const maxReceivers = 255;

const element = (id) => document.getElementById(id);
const others = new Set(); // ids
const unread = []; // messages that came while the page was hidden

function addLine(text, className = "") {
  const line = document.createElement("li");
  line.textContent = text; // never HTML: it comes from others
  line.className = className;
  element("log").append(line);
  line.scrollIntoView();
  return line;
}

function showState(state) {
  element("state").textContent = state;
  element("state").dataset.state = state;
  if (state === "connected") element("problem").textContent = "";
}

/** Shows an error. The browser tells a page that there is no connection, but not why. */
function showError(error) {
  const hint = `No connection to ${url}. Does the hub run, with -web-origins=${location.origin}?`;
  element("problem").textContent = error.code === "connection" && error.retry ? hint : error.message;
}

function showClients(hub) {
  element("clients").textContent = `you are ${hub.id}, others: ${others.size}`;
}

/** Says to the sender that a message was read: as soon as it can be seen. */
function acknowledge(message) {
  if (document.hidden) unread.push(message);
  else message.ack();
}

/** Sends a message to everybody else, and shows its fates. */
async function say(hub, text) {
  const said = `${element("name").value}: ${text}`;
  const line = addLine(said);
  const ticks = document.createElement("span");
  ticks.className = "ticks";
  ticks.textContent = "…";
  line.append(ticks);
  const to = [...others].slice(0, maxReceivers);
  try {
    const { fates, list } = await hub.sendReport(to, said, { level: "processed" });
    const all = (...wanted) => list.length > 0 && list.every((fate) => wanted.includes(fate));
    ticks.textContent = all("processed") ? "✓✓" : all("processed", "received") ? "✓" : "✗";
    ticks.dataset.all = all("processed");
    ticks.title = [...fates].map(([id, fate]) => `${id}: ${fate}`).join("\n") || "nobody else is here";
  } catch (error) {
    ticks.textContent = "✗";
    ticks.title = error.message;
  }
}

async function readMessages(hub) {
  for await (const message of hub) {
    addLine(message.text()).title = `from ${message.from}, ${new Date(message.time).toLocaleTimeString()}`;
    acknowledge(message);
  }
}

element("name").value = `guest ${Math.ceil(Math.random() * 999)}`;
const hub = await connect(url, { name: "chat" }).catch((error) => {
  showError(error);
  if (!error.retry) {
    showState("closed");
    throw error;
  }
  return connect(url, { name: "chat", waitOnFirstConnect: true });
});
showState(hub.state);
showClients(hub);
hub.on("state", (state) => showState(state));
hub.on("id", () => {
  showClients(hub);
  addLine("You have a new id: the hub was restarted, or you were away too long. You may have missed messages.", "notice");
});
hub.on("error", showError);
hub.on("presence", ({ joined, left }) => {
  for (const id of joined) if (id !== hub.id) others.add(id);
  for (const id of left) others.delete(id);
  showClients(hub);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const message of unread.splice(0)) message.ack();
});
addEventListener("pagehide", ({ persisted }) => {
  if (!persisted) hub.close(); // otherwise others wait for the page until the resume window is over
});
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  say(hub, element("text").value);
  element("text").value = "";
});
readMessages(hub).catch(showError);
