import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

/** The largest size of the minified package, compressed by gzip, in bytes. */
const maxSize = 8192;

test("the minified package has at most 8 KB, compressed", (t) => {
  const size = gzipSync(readFileSync("dist/message-hub.min.js"), { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size <= maxSize, `${size} bytes, at most ${maxSize} are allowed`);
});

test("the package loads as ESM, as CommonJS and minified, and exports the same", async () => {
  const require = createRequire(import.meta.url);
  const builds = [
    await import("message-hub"),
    require("message-hub"),
    await import(pathToFileURL("dist/message-hub.min.js").href),
  ] as Record<string, unknown>[];
  for (const build of builds) {
    const names = Object.keys(build).filter(
      (name) => name !== "__esModule" && name !== "default" && name !== "module.exports",
    );
    assert.deepEqual(names.sort(), ["HubError", "connect"]);
    const { connect, HubError } = build as typeof import("message-hub");
    await assert.rejects(
      connect("ws://localhost:1/connect", { WebSocket: undefined as never }),
      "WebSocket" in globalThis ? HubError : TypeError,
    );
  }
});

test("the package has no dependency, and its lockfile names no registry", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as Record<string, unknown>;
  assert.equal(manifest.dependencies, undefined);
  assert.equal(manifest.peerDependencies, undefined);
  assert.ok(!readFileSync("package-lock.json", "utf8").includes('"resolved"'));
});
