import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A hub that a test has started. */
export interface TestHub {
  /** Where browsers connect: ws://localhost:PORT/connect. */
  url: string;
  port: number;
  /** Ends the hub, and waits for its end. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

let binary = process.env.START_SERVER ?? "";

/** Builds start_server once for this process, unless START_SERVER names one. */
function serverBinary(): string {
  if (binary) return binary;
  const directory = mkdtempSync(join(tmpdir(), "message-hub-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  binary = join(directory, "start_server");
  execFileSync("go", ["build", "-o", binary, "./cmd/start_server"], { cwd: "..", stdio: "inherit" });
  return binary;
}

/** Starts a hub with free ports, and waits until it listens. */
export async function startHub(...flags: string[]): Promise<TestHub> {
  const defaults = ["-port=0", "-addr=127.0.0.1", "-web=127.0.0.1:0", "-admin=off", "-web-origins=*"];
  const child = spawn(serverBinary(), [...defaults, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  const port = await webPort(child);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    url: `ws://127.0.0.1:${port}/connect`,
    port,
    stop: async (signal = "SIGKILL") => {
      child.kill(signal);
      await exited;
    },
  };
}

/** Returns the port of -web from the log of a hub. */
function webPort(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    const log: string[] = [];
    createInterface({ input: child.stderr as NodeJS.ReadableStream }).on("line", (line) => {
      log.push(line);
      const port = /msg="web address open" addr=\S+:(\d+)/.exec(line)?.[1];
      if (port) resolve(Number(port));
    });
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`start_server ended with ${code}:\n${log.join("\n")}`)));
  });
}
