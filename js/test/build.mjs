// Bundles the tests into build/. The unit tests contain src/, the others load the package.
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

rmSync("build", { recursive: true, force: true });
const common = { bundle: true, format: "esm", sourcemap: true, logLevel: "warning" };
const tests = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
await build({
  ...common,
  entryPoints: tests.map((name) => `test/${name}`),
  platform: "node",
  target: "node20",
  packages: "external",
  outdir: "build/test",
});
await build({
  ...common,
  entryPoints: ["test/page.ts", "test/react.ts"],
  external: ["message-hub"],
  define: { "process.env.NODE_ENV": '"development"' }, // in which StrictMode mounts twice
  outdir: "build",
});
