"""The part of the demo's front page that is about the cache and compression: its sections, and their script.

Owns how an answer's Cache-Status is put in words; other pages of the demo borrow that. The page around it: page.py.
"""

from __future__ import annotations

# What Cache-Status (RFC 9211) of an answer means, in words; and that field and Age as they came.
STATUS_SCRIPT = """
function meaning(code, headers) {
  const status = headers.get("Cache-Status") ?? "", age = headers.get("Age"), old = `${age} s old`;
  const why = /detail="([^"]*)"/.exec(status), theirs = /fwd-status=(\\d+)/.exec(status);
  if (/; hit/.test(status)) {
    return /ttl=-/.test(status) ? `stale, ${old}; a new one is being fetched` : `from the cache, ${old}`;
  }
  if (/; collapsed/.test(status)) return "from the backend; another request had asked for it";
  if (/; stored/.test(status)) return "from the backend, and stored";
  if (/fwd=stale/.test(status) && code < 500 && (theirs?.[1] >= 500 || age !== null)) {
    return `STALE, ${age ?? 0} s old: the backend failed (${theirs?.[1] ?? why?.[1] ?? "no answer"})`;
  }
  return `${code} from the backend, not stored${why ? ": " + why[1] : ""}`;
}
const inHead = headers =>
  ["Cache-Status", "Age"].filter(name => headers.has(name)).map(name => `${name}: ${headers.get(name)}`).join("\\n");
"""

SECTIONS = """\
  <section>
    <h2>Cached</h2>
    <p>This report takes its backend two seconds. Ask twice: the second one is there at once, for 15 seconds; then for
      15 more an old one comes at once, and a new one is fetched meanwhile.</p>
    <div class="keys"><button data-watch="/report">Ask for the report</button></div>
    <p>The same as a page: <a href="/report">/report</a></p>
    <ol class="watched" aria-live="polite"></ol>
  </section>
  <section>
    <h2>Stale, not down</h2>
    <p>News are good for two seconds. Ask, break their only backend, and ask again: the last ones that there were come
      in place of an error, and say so.</p>
    <div class="keys">
      <button data-watch="/news">Ask for news</button>
      <button data-post="/news/break">Break the backend</button>
      <button data-post="/news/mend">Mend it</button>
    </div>
    <p>The same as a page, to be opened before that: <a href="/news">/news</a></p>
    <output></output>
    <ol class="watched" aria-live="polite"></ol>
  </section>
  <section>
    <h2>Not stored</h2>
    <p>This answer says that it is good for a minute, but sets a cookie. That is for you alone, so nothing is stored,
      and Cache-Status says why.</p>
    <div class="keys"><button data-watch="/basket">Ask twice</button></div>
    <ol class="watched" aria-live="polite"></ol>
  </section>
  <section>
    <h2>Asked once</h2>
    <p>A thousand requests for an answer that takes a second and is good for five. A backend is asked once; whoever
      comes meanwhile waits for the same answer.</p>
    <div class="keys"><button data-crowd="/popular" data-times="1000">Ask 1000 times</button></div>
    <div class="tiles"></div>
    <output></output>
  </section>
  <section>
    <h2>Compressed</h2>
    <p>A long text, packed as your browser likes it best, and stored so: the next one with the same wish gets the same
      bytes.</p>
    <div class="keys"><button data-weigh="/story">Fetch the text</button></div>
    <output></output>
    <ol class="watched" aria-live="polite"></ol>
  </section>
"""

SCRIPT = """
function watched(section, answer, told, began) {
  const row = document.createElement("li"), code = document.createElement("code");
  const took = Math.round(performance.now() - began);
  row.append(`${clock()}  ${took} ms: ${told}${meaning(answer.status, answer.headers)}`, code);
  code.textContent = inHead(answer.headers);
  const list = section.querySelector(".watched");
  list.prepend(row);
  while (list.children.length > 6) list.lastChild.remove();
}

async function watch(section, path) {
  const began = performance.now();
  try {
    const answer = await fetch(path, { cache: "no-store", headers: { Accept: "application/json" } });
    const told = answer.ok ? await answer.json() : null;
    watched(section, answer, told ? `${told.name}'s number ${told.number}, ` : "", began);
  } catch { section.querySelector(".watched").textContent = "no answer"; }
}

for (const button of document.querySelectorAll("[data-watch]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    for (let left = button.dataset.watch === "/basket" ? 2 : 1; left > 0; left--) {
      await watch(button.closest("section"), button.dataset.watch);
    }
    button.disabled = false;
  });
}

for (const button of document.querySelectorAll("[data-post]")) {
  button.addEventListener("click", async () => {
    const out = button.closest("section").querySelector("output");
    try { out.textContent = (await (await fetch(button.dataset.post, { method: "POST" })).text()).trim(); }
    catch { out.textContent = "no answer"; }
  });
}

for (const button of document.querySelectorAll("[data-crowd]")) {
  button.addEventListener("click", async () => {
    const section = button.closest("section"), out = section.querySelector("output"), began = performance.now();
    const tiles = section.querySelector(".tiles"), counts = new Map();
    const options = { cache: "no-store", headers: { Accept: "application/json" } };
    let asked = 0;
    button.disabled = true;
    out.textContent = "asking ...";
    tiles.replaceChildren();
    await Promise.all(Array.from({ length: +button.dataset.times }, async (_, place) => {
      let from = "no answer";
      try {
        const answer = await fetch(`${button.dataset.crowd}?${place}`, options), told = await answer.json();
        from = `${told.name}'s number ${told.number}`;
        const status = answer.headers.get("Cache-Status") ?? "";
        if (/; fwd=/.test(status) && !/; collapsed/.test(status)) asked++;
      } catch { /* counted as that */ }
      counts.set(from, (counts.get(from) ?? 0) + 1);
    }));
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    for (const [from, count] of counts) tiles.append(tile(`${from} \u00d7 ${count}`, COLOURS[from.split("'")[0]]));
    out.textContent = `A backend was asked ${asked === 1 ? "once" : asked + " times"}; all took ${seconds} s.`;
    button.disabled = false;
  });
}

for (const button of document.querySelectorAll("[data-weigh]")) {
  button.addEventListener("click", async () => {
    const section = button.closest("section"), out = section.querySelector("output"), began = performance.now();
    button.disabled = true;
    try {
      const answer = await fetch(button.dataset.weigh, { cache: "no-store" });
      const plain = (await answer.arrayBuffer()).byteLength;
      watched(section, answer, "", began);
      await new Promise(done => setTimeout(done, 50));  // what was measured of it comes a little later
      const sent = performance.getEntriesByName(answer.url).at(-1)?.encodedBodySize ?? 0;
      const coding = answer.headers.get("Content-Encoding") ?? "no coding";
      out.textContent = `${plain} bytes came as ${sent}, in ${coding}: ${(100 * sent / plain).toFixed(1)} %.`;
    } catch { out.textContent = "no answer"; }
    performance.clearResourceTimings();
    button.disabled = false;
  });
}
"""
