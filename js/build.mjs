// Bundles src/ into dist/: ESM, CommonJS, and one minified file for pages without a bundler. tsc
// has written the types to dist/esm before.
import { cp, mkdir, writeFile } from "node:fs/promises";
import { build } from "esbuild";

// The properties of internal classes, which get short names in all bundles: minifiers do not
// rename properties. None is part of the public API, of a JSON frame, or of the platform.
const internal = `
  ackAll after arm attach backlog before bytesIn canRenew confirmed conn cost current
  discard drop emit end enqueue event events expire expires fate flags flush frame
  getToken goAway handleAck handleError handlePage handlePong handlePresence handleRenewal
  handleReport handleWelcome handler hasUnconfirmed hello ids inbox isAcked isClean isOpen isSent
  isWaiting limits listener maxSendBody maybeSent more namesAssigned nextToken of onConnected
  onError onFlushed onFreeze onMessage onOpen onRefused onWake options outlet page ping
  pingNumber presence probe pump receivers requests restart revision sayBye sendAck sendQueue
  sender session setCost settings sinkFor size stamp start stop tick timeLeft url wantsReport
  watch welcome write`;

const common = {
  entryPoints: ["src/index.ts"],
  bundle: true,
  target: "es2022",
  mangleProps: new RegExp(`^(${internal.trim().split(/\s+/).join("|")})$`),
  logLevel: "warning",
};

await build({ ...common, format: "esm", outfile: "dist/esm/index.js", sourcemap: true });
await build({ ...common, format: "cjs", outfile: "dist/cjs/index.js", sourcemap: true });
await build({ ...common, format: "esm", outfile: "dist/message-hub.min.js", minify: true });

// The same types, as those of CommonJS modules.
await mkdir("dist/cjs", { recursive: true });
await cp("dist/esm", "dist/cjs", { recursive: true, filter: (path) => !/\.js(\.map)?$/.test(path) });
await writeFile("dist/cjs/package.json", '{ "type": "commonjs" }\n');
