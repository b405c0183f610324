// Builds the files of the console into internal/admin/console, or into the folder that the first
// argument names. The same sources give the same bytes.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

import { buildRunbooks } from "./runbooks.js";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const out = resolve(process.argv[2] ?? join(root, "internal", "admin", "console"));

const { page, links } = buildRunbooks(await readFile(join(root, "docs", "OPERATIONS.md"), "utf8"));

// The module "runbooks" says where the page of the runbooks handles each alert.
const runbookLinks = {
  name: "runbooks",
  setup(build) {
    build.onResolve({ filter: /^runbooks$/ }, ({ path }) => ({ path, namespace: "runbooks" }));
    build.onLoad({ filter: /.*/, namespace: "runbooks" }, () => ({ contents: JSON.stringify(links), loader: "json" }));
  },
};

// The notices of the libraries that the bundle contains.
async function licenses() {
  const notices = [];
  for (const name of ["htm", "preact", "uplot"]) {
    const { version } = JSON.parse(await readFile(join(here, "node_modules", name, "package.json"), "utf8"));
    const text = await readFile(join(here, "node_modules", name, "LICENSE"), "utf8");
    notices.push(`==== ${name} ${version} ====\n\n${text.replaceAll("\r\n", "\n").trim()}\n`);
  }
  return notices.join("\n\n");
}

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await build({
  absWorkingDir: here,
  entryPoints: { console: "src/main.js" },
  outdir: out,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2023", "chrome117", "firefox115", "safari17"],
  charset: "utf8",
  legalComments: "none", // licenses.txt has them
  banner: { js: "// The licenses of the libraries in this file: licenses.txt" },
  plugins: [runbookLinks],
  logLevel: "warning",
});
// The line breaks of the templates are the only ones that the minifier leaves. htm drops them between
// elements, and within a tag each is a space.
const bundle = join(out, "console.js");
await writeFile(bundle, (await readFile(bundle, "utf8")).replace(/\n\s+(?=[<$`])/g, "").replace(/\n\s+/g, " "));
await writeFile(join(out, "licenses.txt"), await licenses());
await writeFile(join(out, "runbooks.html"), page);
for (const name of ["index.html", "icon.svg"]) await writeFile(join(out, name), await readFile(join(here, "src", name)));
