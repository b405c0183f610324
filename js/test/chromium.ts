import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";

/** Where Chromium is, and its flags: a test needs no other host. */
export const chromiumPath = process.env.CHROMIUM ?? "/usr/bin/chromium";
export const chromiumArgs = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-quic",
  "--no-first-run",
  "--disable-component-update",
  "--disable-sync",
];

/** The files that the pages load, by their path. */
const files: Record<string, [type: string, path: string]> = {
  "/message-hub.min.js": ["text/javascript", "dist/message-hub.min.js"],
  "/page.js": ["text/javascript", "build/page.js"],
  "/react.js": ["text/javascript", "build/react.js"],
  "/js/dist/message-hub.min.js": ["text/javascript", "dist/message-hub.min.js"],
  "/examples/web/": ["text/html", "../examples/web/index.html"],
  "/examples/web/chat.js": ["text/javascript", "../examples/web/chat.js"],
  "/examples/web/style.css": ["text/css", "../examples/web/style.css"],
};

function html(script: string): string {
  return `<!doctype html><meta charset="utf-8"><title>test</title><body><div id="root"></div>
<script type="importmap">{"imports":{"message-hub":"/message-hub.min.js"}}</script>
<script type="module" src="/${script}.js"></script>`;
}

/** Serves the pages. */
export async function servePages(): Promise<{ url: string; stop: () => void }> {
  const server = createServer((request, response) => {
    const [path = ""] = (request.url ?? "").split("?");
    const file = files[path];
    response.setHeader("Content-Type", file?.[0] ?? "text/html");
    response.end(file ? readFileSync(file[1]) : html(path.slice(1)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, stop: () => server.close() };
}

/** Chromium, and a server for its pages. */
export interface Browser {
  /** Opens a page: page, react, or a path. */
  open(path?: string): Promise<Page>;
  context: BrowserContext;
  close(): Promise<void>;
}

export async function startBrowser(): Promise<Browser> {
  const server = await servePages();
  const profile = mkdtempSync(join(tmpdir(), "message-hub-chromium-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath: chromiumPath, args: chromiumArgs });
  return {
    context,
    async open(path = "page") {
      const page = await context.newPage();
      page.on("pageerror", (error) => console.error("error in the page:", error));
      await page.goto(`${server.url}/${path}`);
      if (path === "page") await page.waitForFunction("globalThis.api");
      return page;
    },
    async close() {
      await context.close();
      server.stop();
      rmSync(profile, { recursive: true, force: true, maxRetries: 10 }); // its processes end a little later
    },
  };
}
