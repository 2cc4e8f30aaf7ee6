"""The front page of the demo: one file with all that it needs, in light and dark, for wide and narrow windows.

Owns what is to be tried there and how it looks; what is about the cache is in page_cache.py. What it asks goes to the
paths of backends.py, through lbproxy.
"""

from __future__ import annotations

import json
from html import escape

from lbproxy.demo.page_cache import SCRIPT, SECTIONS, STATUS_SCRIPT

# White text is readable on each of them.
COLOURS = {"blue": "#1d4ed8", "green": "#15803d", "orange": "#c2410c", "purple": "#7e22ce", "teal": "#0f766e"}
OTHER_COLOUR = "#475569"


def front_page(name: str) -> str:
    """The page as the backend `name` serves it."""
    colours = {**COLOURS, name: COLOURS.get(name, OTHER_COLOUR)}
    return (
        _PAGE.replace("@NAME@", escape(name))
        .replace("@COLOUR@", colours[name])
        .replace("@ALL@", json.dumps(colours))
        .replace("@CACHE_SECTIONS@", SECTIONS)
        .replace("@CACHE_SCRIPT@", STATUS_SCRIPT + SCRIPT)
    )


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lbproxy demo</title>
<link rel="icon" href="data:,">
<style>
:root {
  color-scheme: light dark;
  --back: #f6f7f9; --card: #fff; --text: #1b1f24; --faint: #57606a; --line: #d5dae1; --key: #1d4ed8; --code: #eef1f5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #14171b; --card: #1d2126; --text: #e7eaee; --faint: #9fa9b5; --line: #363d46; --key: #8ab4ff;
    --code: #14171b;
  }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text); font: 1rem/1.5 system-ui, sans-serif }
header { background: @COLOUR@; color: #fff; padding: 1.5rem max(1rem, calc(50vw - 36rem)) }
header p { margin: .25rem 0 0 }
header a { color: inherit }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25 }
h2 { margin: 0; font-size: 1.1rem }
main {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem;
  max-width: 74rem; margin: 0 auto; padding: 1rem;
}
section {
  background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0;
  display: flex; flex-direction: column; gap: .6rem;
}
section.wide { grid-column: 1 / -1 }
section p { margin: 0; color: var(--faint) }
.keys { display: flex; flex-wrap: wrap; gap: .5rem }
button, input[type=text] { font: inherit; border-radius: .4rem; padding: .35rem .8rem; border: 1px solid var(--key) }
button { background: transparent; color: var(--key); cursor: pointer }
button:hover:not(:disabled) { background: var(--key); color: var(--card) }
button:disabled { opacity: .5; cursor: default }
input[type=text] { background: var(--card); color: var(--text); border-color: var(--faint); flex: 1; min-width: 6rem }
:focus-visible { outline: 3px solid var(--key); outline-offset: 2px }
a { color: var(--key) }
output { display: block; min-height: 1.6rem }
output:empty { display: none }
.tiles { display: flex; flex-wrap: wrap; gap: .25rem }
.tile { color: #fff; border-radius: .3rem; padding: .05rem .45rem; font-size: .85rem }
.bad { color: var(--text); background: none; border: 1px dashed var(--faint) }
pre, code { font: .85rem/1.5 ui-monospace, monospace }
pre {
  margin: 0; padding: .6rem; background: var(--code); border: 1px solid var(--line); border-radius: .4rem;
  overflow: auto; max-height: 15rem; white-space: pre-wrap; overflow-wrap: anywhere;
}
#shown { max-height: none }
pre:empty, .tiles:empty, ol:empty { display: none }
.watched { margin: 0; padding: 0; list-style: none; font-size: .9rem }
.watched li { padding: .35rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere }
.watched code { display: block; color: var(--faint); white-space: pre-wrap }
</style>
</head>
<body>
<header>
  <h1>lbproxy demo</h1>
  <p>This page came from <strong>@NAME@</strong>. Reload it, and it comes from another backend.</p>
</header>
<main>
  <section>
    <h2>Balancing</h2>
    <p>Three backends share the requests: blue, green and orange.</p>
    <div class="keys"><button data-ask="/hello" data-times="12">Ask 12 times</button></div>
    <div class="tiles"></div>
    <output></output>
  </section>
  <section>
    <h2>Canary</h2>
    <p>Nine of ten requests go to the three, one in ten to the next version, purple.</p>
    <div class="keys"><button data-ask="/canary" data-times="40">Ask 40 times</button></div>
    <div class="tiles"></div>
    <output></output>
  </section>
  <section>
    <h2>Sticky</h2>
    <p>A cookie keeps you with the backend of your first visit, until it is forgotten.</p>
    <div class="keys">
      <button data-ask="/sticky" data-times="8">Ask 8 times</button>
      <button data-ask="/sticky/forget" data-times="1">Forget me</button>
    </div>
    <div class="tiles"></div>
    <output></output>
  </section>
  <section>
    <h2>Failures</h2>
    <p>Here a backend fails one time in three, with 503 or a reset. A GET may come twice, so lbproxy asks another
      backend. A POST must not, so you see what happened.</p>
    <div class="keys">
      <button data-ask="/flaky" data-times="12">GET 12 times</button>
      <button data-ask="/flaky" data-times="12" data-method="POST">POST 12 times</button>
    </div>
    <div class="tiles"></div>
    <output></output>
  </section>
  <section>
    <h2>WebSocket</h2>
    <p>One connection through lbproxy; the backend sends back what you say.</p>
    <form class="keys" id="talk">
      <label for="words" style="align-self:center">Say</label>
      <input type="text" id="words" value="good morning" maxlength="200" autocomplete="off">
      <button>Send</button>
      <button type="button" id="hang-up" disabled>Close</button>
    </form>
    <pre id="talked" role="log" aria-label="What was said on the WebSocket" tabindex="0"></pre>
  </section>
  <section>
    <h2>Events</h2>
    <p>Server-sent events, one each second, passed on as they come.</p>
    <div class="keys">
      <button id="listen">Listen</button>
      <button id="deafen" disabled>Stop</button>
    </div>
    <pre id="heard" role="log" aria-live="off" aria-label="Events" tabindex="0"></pre>
  </section>
  <section>
    <h2>Upload</h2>
    <p>The backend counts and hashes what you send, while you send it.</p>
    <div class="keys">
      <button data-upload="1">1 MiB</button>
      <button data-upload="64">64 MiB</button>
    </div>
    <output></output>
  </section>
  <section>
    <h2>Too slow</h2>
    <p>A backend may take two seconds here, but three are too many there: after one, lbproxy answers 504 itself.</p>
    <div class="keys">
      <button data-ask="/slow?seconds=2" data-times="1">2 seconds</button>
      <button data-ask="/late" data-times="1">Too late</button>
    </div>
    <p>The same as a page: <a href="/late">/late</a></p>
    <div class="tiles"></div>
    <output></output>
  </section>
@CACHE_SECTIONS@  <section>
    <h2>TLS</h2>
    <p><a href="/secure">/secure</a> sends you from http to https. The certificate is a throw-away, so the browser warns
      you. Everything on this page works there as well.</p>
  </section>
  <section class="wide">
    <h2>Your request, as a backend sees it</h2>
    <p>Who you are (<code>X-Forwarded-For</code>), how you came, and the id that is in the record of this request. A
      claim of yours to be somebody else would be gone.</p>
    <div class="keys"><button id="show">Show</button></div>
    <pre id="shown" tabindex="0"></pre>
  </section>
  <section class="wide">
    <h2>In a terminal</h2>
    <p>Take a backend out while this page asks, and see that nothing fails; each request leaves a record where
      <code>make demo</code> runs.</p>
    <pre tabindex="0">.venv/bin/lbproxy status --config etc/demo.toml
.venv/bin/lbproxy drain demo/blue --config etc/demo.toml     <span aria-hidden="true">#</span> no new requests for blue
.venv/bin/lbproxy ready demo/blue --config etc/demo.toml
.venv/bin/lbproxy drain sticky/green --config etc/demo.toml  <span aria-hidden="true">#</span> its clients stay
curl -i <span class="origin"></span>/canary
curl -i -X POST <span class="origin"></span>/flaky
.venv/bin/lbproxy cache stat --config etc/demo.toml
.venv/bin/lbproxy cache purge <span class="origin"></span>/report --config etc/demo.toml
.venv/bin/lbproxy maint press/teal --config etc/demo.toml    <span aria-hidden="true">#</span> no backend for /news
curl -i <span class="origin"></span>/news</pre>
  </section>
</main>
<script>
"use strict";
const COLOURS = @ALL@;
const find = id => document.getElementById(id);
const clock = () => new Date().toLocaleTimeString();

for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;

function tile(text, colour) {
  const made = document.createElement("span");
  made.className = colour ? "tile" : "tile bad";
  made.textContent = text;
  if (colour) made.style.background = colour;
  return made;
}

async function ask(path, method) {
  try {
    const answer = await fetch(path, { method, cache: "no-store", headers: { Accept: "application/json" } });
    if (!answer.ok) return String(answer.status);
    if (answer.headers.get("Content-Type") !== "application/json") return (await answer.text()).trim();
    return (await answer.json()).name;
  } catch { return "no answer"; }
}

for (const button of document.querySelectorAll("[data-ask]")) {
  const section = button.closest("section"), tiles = section.querySelector(".tiles");
  const out = section.querySelector("output");
  button.addEventListener("click", async () => {
    const buttons = section.querySelectorAll("button"), counts = new Map();
    for (const one of buttons) one.disabled = true;
    tiles.replaceChildren();
    out.textContent = "";
    for (let left = +button.dataset.times; left > 0; left--) {
      const name = await ask(button.dataset.ask, button.dataset.method ?? "GET");
      counts.set(name, (counts.get(name) ?? 0) + 1);
      tiles.append(tile(name, COLOURS[name]));
    }
    out.textContent = [...counts].sort().map(([name, count]) => `${name} \u00d7 ${count}`).join(", ");
    for (const one of buttons) one.disabled = false;
  });
}

@CACHE_SCRIPT@
for (const button of document.querySelectorAll("[data-upload]")) {
  button.addEventListener("click", async () => {
    const out = button.closest("section").querySelector("output"), began = performance.now();
    button.disabled = true;
    out.textContent = "sending ...";
    try {
      const body = new Blob(Array(+button.dataset.upload).fill(new Uint8Array(1 << 20)));
      const answer = await fetch("/upload", { method: "POST", body, headers: { Accept: "application/json" } });
      const told = await answer.json();
      const seconds = ((performance.now() - began) / 1000).toFixed(2);
      out.textContent = `${told.name} got ${told.size} bytes in ${seconds} s, SHA-256 ${told.sha256.slice(0, 12)}...`;
    } catch { out.textContent = "no answer"; }
    button.disabled = false;
  });
}

function line(place, text) {
  const lines = place.textContent.split("\\n").filter(Boolean).slice(-50);
  place.textContent = [...lines, `${clock()}  ${text}`].join("\\n");
  place.scrollTop = place.scrollHeight;
}

let socket = null;
find("talk").addEventListener("submit", submitted => {
  submitted.preventDefault();
  const words = find("words").value, talked = find("talked");
  if (socket) { line(talked, "> " + words); socket.send(words); return; }
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws");
  const mine = socket;
  mine.onopen = () => { line(talked, "> " + words); mine.send(words); find("hang-up").disabled = false; };
  mine.onmessage = message => line(talked, "< " + message.data);
  mine.onclose = end => {
    line(talked, end.wasClean ? "closed" : "lost");
    socket = null;
    find("hang-up").disabled = true;
  };
});
find("hang-up").addEventListener("click", () => socket?.close());

let events = null;
find("listen").addEventListener("click", () => {
  events = new EventSource("/stream");
  events.onmessage = message => {
    const told = JSON.parse(message.data);
    line(find("heard"), `event ${told.number} from ${told.name}`);
  };
  events.onerror = () => line(find("heard"), "interrupted, trying again");
  find("listen").disabled = true;
  find("deafen").disabled = false;
});
find("deafen").addEventListener("click", () => {
  events.close();
  find("listen").disabled = false;
  find("deafen").disabled = true;
});

async function show() {
  try { find("shown").textContent = await (await fetch("/echo", { cache: "no-store" })).text(); }
  catch { find("shown").textContent = "no answer"; }
}
find("show").addEventListener("click", show);
</script>
</body>
</html>
"""
