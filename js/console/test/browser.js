// Chromium for the tests, without the internet.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const program = process.env.CHROMIUM ?? "/usr/bin/chromium";
const flags = [
  "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run",
  "--disable-component-update", "--disable-sync",
];

// Browser is a Chromium with a profile of its own.
export class Browser {
  static async start() {
    const browser = new Browser();
    browser.folder = await mkdtemp(join(tmpdir(), "chromium-"));
    browser.context = await chromium.launchPersistentContext(browser.folder, {
      executablePath: program, args: flags, viewport: { width: 1280, height: 900 },
    });
    return browser;
  }

  // open opens the console of a hub. problems has what the page must not do: requests to another
  // origin, violations of its policy, and errors.
  async open(hub, path = "/console/") {
    const page = await this.context.newPage();
    page.problems = [];
    page.on("request", (r) => {
      if (new URL(r.url()).origin !== hub.url) page.problems.push(`request to ${r.url()}`);
    });
    page.on("pageerror", (error) => page.problems.push(`error ${error.stack}`));
    page.on("console", (message) => {
      const text = message.text();
      // The browser logs each response with an error, and each request without an answer.
      if (message.type() === "error" && !/^Failed to load resource/.test(text)) page.problems.push(`console: ${text}`);
    });
    await page.addInitScript(() => {
      window.violations = [];
      document.addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
    });
    await page.goto(hub.url + path);
    return page;
  }

  async close() {
    await this.context.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}
