// The runbooks of docs/OPERATIONS.md as a page of the console, because a machine of an operator can be
// without the internet.
import { createHash } from "node:crypto";
import { Marked } from "marked";

// The chapters of the text that the page has, as they stand there. The Go test
// TestConsole_RunbooksAreCurrent takes the same part.
function sectionsOf(operations) {
  const part = (heading, next) => {
    const start = operations.indexOf(`\n${heading}\n`) + 1;
    return operations.slice(start, operations.indexOf(`\n${next} `, start + heading.length) + 1);
  };
  return [part("## Runbooks", "##"), part("### Alerts", "##")];
}

const slug = (text) => text.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-");

// Returns the page, and for each alert where the page says what to do: { NAME: { href, title } }.
export function buildRunbooks(operations) {
  const [runbooks, alerts] = sectionsOf(operations);
  const titles = new Map(Array.from(runbooks.matchAll(/^### (.*)$/gm), ([, title]) => [slug(title), title]));
  const links = {};
  for (const [, name, text] of alerts.matchAll(/^\| `(\w+)` \| (.*) \|$/gm)) {
    const target = Array.from(text.matchAll(/\]\(#([\w-]+)\)/g), ([, id]) => id).find((id) => titles.has(id));
    links[name] = { href: `runbooks.html#${target ?? name}`, title: target ? `Runbook: ${titles.get(target)}` : "What to do" };
  }
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        return `<h${depth} id="${slug(text)}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
      link({ href, tokens }) {
        const text = this.parser.parseInline(tokens);
        return titles.has(href.slice(1)) ? `<a href="${href}">${text}</a>` : text; // the other pages are not here
      },
      codespan({ text }) {
        const id = links[text] ? ` id="${text}"` : "";
        return `<code${id}>${escape(text)}</code>`;
      },
    },
  });
  const hash = createHash("sha256").update(runbooks).update(alerts).digest("hex");
  const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="source" content="docs/OPERATIONS.md sha256:${hash}">
<title>Runbooks of the message hub</title>
<link rel="icon" type="image/svg+xml" href="icon.svg">
<link rel="stylesheet" href="console.css">
</head>
<body>
<main class="runbook">
${marked.parse(alerts.replace("### ", "## "))}
${marked.parse(runbooks)}
</main>
</body>
</html>
`;
  return { page, links };
}

const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
