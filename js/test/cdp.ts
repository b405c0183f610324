import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";
import { chromiumArgs, chromiumPath } from "./chromium.js";

/**
 * A page of a Chromium without Playwright, which keeps each page visible: such a page cannot be
 * frozen.
 */
export class BarePage {
  readonly #socket: WebSocket;
  readonly #close: () => Promise<void>;
  #session: string | undefined;
  #lastID = 0;
  #onLoad = () => {};
  #pending = new Map<number, { resolve: (result: any) => void; reject: (error: Error) => void }>();

  private constructor(socket: WebSocket, close: () => Promise<void>) {
    this.#socket = socket;
    this.#close = close;
    socket.on("message", (data) => {
      const { id, method, result, error } = JSON.parse(String(data));
      if (method === "Page.loadEventFired") this.#onLoad();
      const call = this.#pending.get(id);
      this.#pending.delete(id);
      if (error) call?.reject(new Error(error.message));
      else call?.resolve(result);
    });
  }

  /** Starts Chromium, and opens a page. */
  static async open(url: string): Promise<BarePage> {
    const profile = mkdtempSync(join(tmpdir(), "message-hub-chromium-"));
    const child = spawn(
      chromiumPath,
      [...chromiumArgs, "--headless", "--remote-debugging-port=0", `--user-data-dir=${profile}`],
      { stdio: ["ignore", "ignore", "pipe"] },
    );
    const exited = new Promise((resolve) => child.once("exit", resolve));
    const endpoint = await new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stderr }).on("line", (line) => {
        const found = /^DevTools listening on (ws:\S+)/.exec(line)?.[1];
        if (found) resolve(found);
      });
      child.once("exit", (code) => reject(new Error(`chromium ended with ${code}`)));
    });
    const socket = new WebSocket(endpoint);
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    const page = new BarePage(socket, async () => {
      page.#session = undefined;
      void page.send("Browser.close");
      await exited;
      await rm(profile, { recursive: true, force: true, maxRetries: 20 }); // its processes end a little later
    });
    const { targetId } = await page.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await page.send("Target.attachToTarget", { targetId, flatten: true });
    page.#session = sessionId;
    const loaded = new Promise<void>((resolve) => (page.#onLoad = resolve));
    await page.send("Page.enable");
    await page.send("Page.navigate", { url });
    await loaded;
    return page;
  }

  /** Calls a method of the DevTools protocol. */
  send(method: string, params: object = {}): Promise<any> {
    const id = ++this.#lastID;
    this.#socket.send(JSON.stringify({ id, method, params, sessionId: this.#session }));
    return new Promise((resolve, reject) => this.#pending.set(id, { resolve, reject }));
  }

  /** Evaluates an expression in the page, and waits for its promise. */
  async evaluate(expression: string): Promise<any> {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Freezes the page for some milliseconds. whileFrozen runs meanwhile. */
  async freeze(ms: number, whileFrozen: () => void): Promise<void> {
    await this.send("Page.setWebLifecycleState", { state: "frozen" });
    whileFrozen();
    await new Promise((resolve) => setTimeout(resolve, ms));
    await this.send("Page.setWebLifecycleState", { state: "active" });
  }

  close(): Promise<void> {
    return this.#close();
  }
}
