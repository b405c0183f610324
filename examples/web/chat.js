// A chat of all pages that are connected to one hub. Each message goes to everybody else, and its
// ticks show what became of it.
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
}

/** Says to the sender that a message was read: as soon as somebody can see it. */
function acknowledge(message) {
  if (document.hidden) unread.push(message);
  else message.ack();
}

/** Sends a message to everybody else, and shows its fates. */
async function say(hub, text) {
  const line = addLine(`${element("name").value}: ${text}`);
  const ticks = document.createElement("span");
  ticks.className = "ticks";
  ticks.textContent = "…";
  line.append(ticks);
  const to = [...others].slice(0, maxReceivers);
  try {
    const { fates, list } = await hub.sendReport(to, JSON.stringify({ name: element("name").value, text }), {
      level: "processed",
    });
    const isRead = list.every((fate) => fate === "processed");
    const hasArrived = list.every((fate) => fate === "processed" || fate === "received");
    ticks.textContent = isRead ? "✓✓" : hasArrived ? "✓" : "✗";
    ticks.dataset.all = isRead;
    ticks.title = [...fates].map(([id, fate]) => `${id}: ${fate}`).join("\n") || "nobody else is here";
  } catch (error) {
    ticks.textContent = "✗";
    ticks.title = error.message;
  }
}

async function readMessages(hub) {
  for await (const message of hub) {
    try {
      const { name, text } = message.json();
      addLine(`${name}: ${text}`).title = `from ${message.from}, ${new Date(message.time).toLocaleTimeString()}`;
      acknowledge(message);
    } catch {
      message.nak(); // not of this program
    }
  }
}

element("name").value = `guest ${Math.ceil(Math.random() * 999)}`;
const hub = await connect(url, { name: "chat", waitOnFirstConnect: true });
showState(hub.state);
hub.on("state", (state) => showState(state));
hub.on("id", () => addLine("You were away too long: messages to you can be lost.", "notice"));
hub.on("error", (error) => console.warn(error));
hub.on("presence", ({ joined, left }) => {
  for (const id of joined) if (id !== hub.id) others.add(id);
  for (const id of left) others.delete(id);
  element("others").textContent = `${others.size} others`;
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) for (const message of unread.splice(0)) message.ack();
});
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  say(hub, element("text").value);
  element("text").value = "";
});
await readMessages(hub);
