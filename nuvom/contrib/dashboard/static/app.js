// What pages do beyond links and forms: follow the store, count selections, shortcuts, copying.
// Every page works without it. No framework; htmx keeps the stream and morphs pages.
(() => {
  "use strict";
  const root = document.documentElement;
  const one = (selector, at = document) => at.querySelector(selector);
  const all = (selector, at = document) => [...at.querySelectorAll(selector)];
  const home = one(".brand")?.pathname ?? "/";
  const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
  const remember = (name, value) => {
    document.cookie = `nuvom_${name}=${value};path=${home};max-age=31536000;samesite=strict`;
  };
  const typesIn = (element) =>
    element?.matches("textarea, select, input:not([type=checkbox], [type=radio])");

  // ---- htmx: the stream, and morphing; no code from attributes ----
  const refuse = function () { throw new Error("attributes hold no code"); };
  htmx.config.history = false;
  htmx.config.defaultTimeout = 0; // the stream may wait for as long as the server needs
  htmx.config.sse = { pauseOnBackground: false };
  htmx.registerExtension("nuvom", {
    init: (api) => api.initSecurity(null, refuse, refuse),
    // Whoever opened it keeps it open.
    htmx_before_morph_attr: (element, detail) =>
      !(detail.attrName === "open" && element.matches("details")),
    // What the last action did is said once, so it stays until the next page.
    // A row that was selected while the page was on its way stays selected.
    htmx_before_morph_node: (element) =>
      element.id !== "message" && !element.matches?.("input[name=id]:checked"),
  });

  // ---- a page follows the store ----
  const pathOf = (address) => address.pathname + address.search;
  const page = {
    path: pathOf(location), busy: false, again: false, missed: false, readAt: Date.now(), lostAt: 0,
  };
  const isWanted = () => sessionStorage.getItem("live") !== "off";
  const selected = () => all("tbody input[name=id]:checked");
  const isHeld = () =>
    selected().length > 0 ||
    one("dialog[open], [data-still]") !== null ||
    (typesIn(document.activeElement) && one("#main").contains(document.activeElement)) ||
    (!getSelection().isCollapsed && one("#main").contains(getSelection().anchorNode));

  const showState = () => {
    root.dataset.live = !isWanted() ? "off" : isHeld() ? "hold" : "on";
    one("[data-live-button]")?.setAttribute("aria-pressed", String(isWanted()));
  };

  const read = async (address) => {
    const answer = await fetch(address, { headers: { Accept: "text/html", "HX-Request": "true" } });
    if (answer.redirected) location.assign(answer.url);
    if (!answer.ok) throw new Error(`${answer.status}`);
    return answer.text();
  };

  const show = async (text) => {
    await htmx.swap({
      text, target: document.body, sourceElement: document.body, swap: "innerMorph", request: {},
    });
    Object.assign(page, { readAt: Date.now(), lostAt: 0, missed: false });
    begin();
  };

  // At most one read at a time; what changes meanwhile is read after it.
  const follow = async () => {
    page.missed = true;
    // What a form has led to has no address of its own.
    if (!isWanted() || document.hidden || one("[data-still]")) return;
    if (page.busy) return void (page.again = true);
    page.busy = true;
    page.again = false;
    try {
      const text = await read(location.href);
      if (isHeld()) countNew(text);
      else await show(text);
      page.lostAt = 0;
    } catch {
      page.lostAt ||= Date.now();
    } finally {
      page.busy = false;
      showState();
      showLoss();
    }
    if (page.again && !page.lostAt) setTimeout(follow, 500);
  };

  const countNew = (text) => {
    const chip = one("[data-chip]");
    if (!chip) return;
    const there = new DOMParser().parseFromString(text, "text/html");
    const count = all("tbody tr[id]", there).filter((row) => !document.getElementById(row.id)).length;
    chip.hidden = count === 0;
    chip.textContent = `${count} new, show`;
  };

  const showLoss = () => {
    const secs = page.lostAt ? Math.round((Date.now() - page.lostAt) / 1000) : 0;
    let banner = one("#lost");
    if (secs < 3) return void banner?.remove();
    if (!banner) {
      banner = document.createElement("p");
      banner.id = "lost";
      banner.className = "banner";
      banner.setAttribute("role", "status");
      banner.innerHTML = '<span class="st silent"></span><button class="btn s" type="button">Try again</button>';
      one("button", banner).addEventListener("click", follow);
      one("#message").before(banner);
    }
    const at = new Date(page.readAt).toLocaleTimeString("en-GB");
    one("span", banner).textContent = `No answer for ${secs} s. You see the state of ${at}.`;
  };

  // ---- the stream that says when something changed ----
  let stream = null, connection = null, closing = 0;
  const open = () => {
    if (stream || !one("[data-live-button]")) return;
    stream = document.createElement("div");
    stream.hidden = true;
    const since = one("#main").dataset.since || "";
    stream.setAttribute("hx-sse:connect", `${home}events?since=${encodeURIComponent(since)}`);
    stream.addEventListener("changed", follow);
    stream.addEventListener("htmx:sse:before:connection", (event) => { connection = event.detail.connection; });
    stream.addEventListener("htmx:sse:after:connection", () => { if (page.lostAt || page.missed) follow(); });
    stream.addEventListener("htmx:sse:error", () => { page.lostAt ||= Date.now(); });
    root.append(stream);
    htmx.process(stream);
  };
  const close = () => {
    stream?.remove();
    connection?.delayCanceller?.();
    connection?.reader?.cancel();
    stream = connection = null;
    page.missed = true;
  };
  document.addEventListener("visibilitychange", () => {
    clearTimeout(closing);
    if (document.hidden) return void (closing = setTimeout(close, 60_000));
    open();
    if (page.missed) follow();
  });
  // Workers that die and time that passes change nothing in the store.
  const isOld = () => Date.now() - page.readAt > 10_000 && !isHeld();
  setInterval(() => { if (page.lostAt || isOld()) follow(); }, 5000);
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted) { open(); follow(); } });

  const toggleLive = () => {
    sessionStorage.setItem("live", isWanted() ? "off" : "on");
    showState();
    if (isWanted()) follow();
  };

  // ---- rows: selecting, counting, copying ----
  const showSelection = () => {
    const rows = selected().map((box) => box.closest("tr"));
    for (const button of all("[data-verb]")) {
      const count = rows.filter((row) => row.classList.contains(`can-${button.value}`)).length;
      button.textContent = `${button.dataset.verb} ${plural(count, "job")}`;
    }
    for (const text of all("[data-selected]")) text.textContent = `${rows.length} selected`;
    const boxes = all("tbody input[name=id]"), every = one("[data-all]");
    if (every) {
      every.checked = rows.length > 0 && rows.length === boxes.length;
      every.indeterminate = rows.length > 0 && rows.length < boxes.length;
    }
    if (rows.length === 0) for (const chip of all("[data-chip]")) chip.hidden = true;
    showState();
  };
  const choose = (boxes, checked) => {
    for (const box of boxes) box.checked = checked;
    showSelection();
  };
  let last = null;
  const chooseUpTo = (box) => {
    const boxes = all("tbody input[name=id]"), from = boxes.indexOf(last), to = boxes.indexOf(box);
    if (from >= 0) choose(boxes.slice(Math.min(from, to), Math.max(from, to) + 1), box.checked);
  };

  const copy = async (button, text) => {
    await navigator.clipboard.writeText(text);
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  // ---- theme ----
  const themes = ["system", "light", "dark"];
  const setTheme = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    remember("theme", theme);
    for (const link of all("[data-themes] a")) {
      if (new URL(link.href).searchParams.get("theme") === theme) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  const nextTheme = () =>
    setTheme(themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length]);

  // ---- shortcuts ----
  const pages = {
    o: ["", "Overview"], j: ["jobs", "Jobs"], e: ["errors", "Errors"], q: ["queues", "Queues"],
    w: ["workers", "Workers"], s: ["schedules", "Schedules"], t: ["tasks", "Tasks"],
  };
  const help = document.createElement("dialog");
  help.setAttribute("aria-labelledby", "keys");
  help.innerHTML = `<h2 id="keys">Shortcuts</h2><dl class="facts">${
    Object.entries(pages).map(([key, [, name]]) => `<dt><kbd>g</kbd> <kbd>${key}</kbd></dt><dd>${name}</dd>`).join("")
  }<dt><kbd>/</kbd></dt><dd>Filter</dd><dt><kbd>r</kbd></dt><dd>Follow changes, or pause</dd><dt><kbd>t</kbd></dt><dd>Next theme</dd><dt><kbd>Esc</kbd></dt><dd>Clear the selection, leave a field</dd><dt><kbd>?</kbd></dt><dd>This list</dd></dl><form method="dialog" class="acts"><label><input type="checkbox" checked> Use shortcuts</label><button class="btn" autofocus>Close</button></form>`;
  root.append(help);
  const enabled = one("input", help);
  enabled.checked = localStorage.getItem("shortcuts") !== "off";
  enabled.addEventListener("change", () => localStorage.setItem("shortcuts", enabled.checked ? "on" : "off"));
  help.addEventListener("close", () => { showState(); if (page.missed) follow(); });
  const showHelp = () => { help.showModal(); showState(); };

  const keys = {
    "?": showHelp,
    r: toggleLive,
    t: nextTheme,
    "/": () => one(".query input:not([type=hidden])")?.focus(),
  };
  let isGoing = false;
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (event.key === "Escape" && !one("dialog[open]")) {
      if (typesIn(target)) target.blur();
      else choose(selected(), false);
      return;
    }
    const tokens = all(".query .tok a");
    if (event.key === "Backspace" && target.matches?.(".query input") && !target.value && tokens.length) {
      event.preventDefault();
      return void tokens.at(-1).click();
    }
    if (event.ctrlKey || event.metaKey || event.altKey || typesIn(target) || one("dialog[open]")) return;
    if (!enabled.checked && event.key !== "?") return;
    if (isGoing && pages[event.key]) return void location.assign(home + pages[event.key][0]);
    isGoing = event.key === "g";
    if (!isGoing && keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  // ---- one listener for all clicks, so that morphed pages need no other ----
  document.addEventListener("click", (event) => {
    const at = (selector) => event.target.closest?.(selector);
    const theme = at("[data-themes] a");
    const link = at("a[data-morph]");
    const isPlain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.button);
    if (theme) {
      event.preventDefault();
      setTheme(new URL(theme.href).searchParams.get("theme"));
    } else if (link && isPlain) {
      event.preventDefault();
      go(link.href);
    } else if (at("[data-live-button]")) toggleLive();
    else if (at("[data-keys]")) showHelp();
    else if (at("[data-chip]")) { choose(selected(), false); follow(); }
    else if (at("[data-copy-ids]")) copy(at("button"), selected().map((box) => box.value.split(".")[0]).join("\n"));
    else if (at("[data-copy]")) copy(at("[data-copy]"), at("[data-copy]").dataset.copy);
    else if (at("tbody input[name=id]")) {
      if (event.shiftKey) chooseUpTo(event.target);
      last = event.target;
    }
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-all]")) choose(all("tbody input[name=id]"), event.target.checked);
    else if (event.target.matches("input[name=id]")) showSelection();
  });
  for (const name of ["focusin", "focusout", "selectionchange"]) {
    document.addEventListener(name, () => setTimeout(() => {
      showState();
      if (page.missed && !isHeld()) follow();
    }));
  }
  const go = async (address) => {
    try {
      const text = await read(address);
      history.pushState(null, "", address);
      page.path = pathOf(location);
      await show(text);
    } catch {
      location.assign(address);
    }
  };
  // Back and forward are asked for, so neither a pause nor a selection holds them up.
  addEventListener("popstate", async () => {
    if (pathOf(location) === page.path) return;  // only the part after # is another
    page.path = pathOf(location);
    try {
      await show(await read(location.href));
    } catch {
      location.reload();
    }
  });

  // After each load and each morph.
  const begin = () => {
    for (const element of all("[data-js]")) element.hidden = false;
    for (const element of all("[data-keys]")) element.hidden = false;
    setTheme(root.dataset.theme || "system");
    showSelection();
  };
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const isKnown = document.cookie.includes(`nuvom_zone=${zone}`);
  remember("zone", zone);
  begin();
  open();
  if (!isKnown && zone !== "UTC") follow();
})();
