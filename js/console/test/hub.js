// A real hub for the tests, and clients of it.
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

// Program is the hub that test.sh has built.
const program = process.env.START_SERVER;
if (!program) throw new Error("START_SERVER must name start_server: run test.sh");

const startTimeout = 10_000; // ms

// Waits until a condition returns something true, and returns that.
export async function eventually(what, condition, timeout = 10_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`timeout waiting until ${what}`);
    await sleep(20);
  }
}

// freePort returns a port that is free now.
async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

// Hub is a start_server with an admin address. It keeps its ports when it is started again.
export class Hub {
  static async start({ token, flags = [] } = {}) {
    const hub = new Hub();
    hub.folder = await mkdtemp(join(tmpdir(), "console-"));
    [hub.port, hub.adminPort] = [await freePort(), await freePort()];
    hub.url = `http://127.0.0.1:${hub.adminPort}`;
    hub.token = token;
    hub.flags = [`-port=${hub.port}`, "-addr=127.0.0.1", `-admin=127.0.0.1:${hub.adminPort}`, "-stat=false", "-drain=100ms", ...flags];
    if (token) {
      const file = join(hub.folder, "token");
      await writeFile(file, token);
      hub.flags.push(`-admin-token-file=${file}`);
    }
    await hub.run();
    return hub;
  }

  // run starts the process.
  async run() {
    this.log = "";
    this.process = spawn(program, this.flags, { stdio: ["ignore", "ignore", "pipe"], env: { PATH: process.env.PATH } });
    this.ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.stderr.on("data", (text) => (this.log += text));
    try {
      await eventually("the hub is ready", () => fetch(`${this.url}/readyz`).then((r) => r.ok, () => false), startTimeout);
    } catch (error) {
      throw new Error(`${error.message}\n${this.log}`);
    }
  }

  // end stops the process.
  async end() {
    this.process.kill("SIGTERM");
    await this.ended;
  }

  async close() {
    await this.end();
    await rm(this.folder, { recursive: true });
  }

  async get(path) {
    const response = await fetch(this.url + path, { headers: this.token ? { Authorization: `Bearer ${this.token}` } : {} });
    return response.json();
  }
}

// The types of frames, as in docs/PROTOCOL.md.
const [identity, relay, hello, welcome, send, deliver, report, ping, pong, goAway, ack] = [1, 3, 0x10, 0x11, 0x12, 0x13, 0x14, 0x1a, 0x1b, 0x1e, 0x1f];

function frame(type, payload) {
  const header = Buffer.alloc(5);
  header.writeUInt32BE(payload.length + 1);
  header[4] = type;
  return Buffer.concat([header, payload]);
}

function u64(n) {
  const b = Buffer.alloc(8);
  b.writeBigUInt64BE(BigInt(n));
  return b;
}

// Peer is a client of a hub.
export class Peer {
  received = 0; // reliable frames
  seq = 0n;
  input = Buffer.alloc(0);
  reports = 0;
  goAway = null;

  // connect connects a client of version 2 with a name, or of version 1 without one.
  static async connect(hub, name) {
    const peer = new Peer();
    peer.socket = net.connect(hub.port, "127.0.0.1");
    peer.socket.on("error", () => {}); // the end follows
    peer.ended = new Promise((resolve) => peer.socket.once("close", resolve));
    const id = new Promise((resolve, reject) => {
      peer.onID = resolve;
      peer.socket.once("close", () => reject(new Error("the hub closed the connection")));
    });
    peer.socket.on("data", (data) => peer.read(data));
    peer.socket.write(name === undefined ? frame(identity, Buffer.alloc(0)) : frame(hello, Buffer.from(JSON.stringify({ version: 2, name }))));
    peer.id = await id;
    return peer;
  }

  read(data) {
    this.input = Buffer.concat([this.input, data]);
    while (this.input.length >= 5) {
      const end = 4 + this.input.readUInt32BE();
      if (this.input.length < end) return;
      this.handle(this.input[4], this.input.subarray(5, end));
      this.input = this.input.subarray(end);
    }
  }

  handle(type, payload) {
    if (type === identity) this.onID(String(payload.readBigUInt64BE()));
    if (type === welcome) this.onID(String(JSON.parse(payload).id));
    if (type === ping) this.socket.write(frame(pong, payload));
    if (type === goAway) this.goAway = JSON.parse(payload);
    if (type === deliver || type === report) this.socket.write(frame(ack, u64(++this.received)));
    if (type === report) this.reports++;
  }

  // relay sends bodies by version 1.
  relay(to, size, times = 1) {
    const body = frame(relay, Buffer.concat([Buffer.from([1]), u64(to), Buffer.alloc(size)]));
    for (let i = 0; i < times; i++) this.socket.write(body);
  }

  // send sends a body by version 2, with a report of when it is received.
  send(to, size) {
    const options = Buffer.alloc(9);
    options.writeUInt32BE(2);
    options[8] = 1;
    this.socket.write(frame(send, Buffer.concat([u64(++this.seq), options, u64(to), Buffer.alloc(size)])));
  }

  // stall stops reading.
  stall() {
    this.socket.pause();
  }

  close() {
    this.socket.destroy();
  }
}
