"use strict";
(() => {
  const data = JSON.parse(document.getElementById("queue-data").textContent);
  const queue = data.queue, PAGE = 60, KEY = "natgeo-review-" + data.fingerprint;
  const byId = (id) => document.getElementById(id);
  const WORDS = { accept: "label kept", relabel: "relabelled", skip: "skipped" };
  const decisions = new Map();
  let history = [], at = 0, kept = false;

  // Decisions stay in this browser where it allows that; a file is the safe copy.
  const store = () => {
    try {
      localStorage.setItem(KEY, JSON.stringify([...decisions]));
      kept = true;
    } catch { kept = false; }
    byId("kept").textContent = kept
      ? "Decisions are kept in this browser; download them to use them."
      : "This browser keeps nothing: download the decisions before you close the page.";
  };
  const restore = () => {
    try {
      const known = new Set(queue.map((row) => row.index));
      for (const [index, d] of JSON.parse(localStorage.getItem(KEY) || "[]")) {
        const sound = known.has(index) && d && Object.hasOwn(WORDS, d.decision)
          && Number.isInteger(d.label) && d.label >= 0 && d.label < data.classes.length;
        if (sound) decisions.set(index, { decision: d.decision, label: d.label });
      }
    } catch { decisions.clear(); }
  };

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  // A string from the data, isolated so that it cannot reorder its line.
  const inert = (text) => element("bdi", text);
  const className = (number) => inert(data.classes[number]);
  const percent = (share) => (100 * share).toFixed(share > 0.999 || share < 0.01 ? 1 : 0) + " %";
  const picture = (row, alt, size) => {
    const image = element("img", undefined, "thumb " + size);
    image.alt = alt;
    image.src = row.thumbnail;
    return image;
  };
  const label = (row) => row.name !== undefined ? inert(row.name) : element("span", "#" + row.index);

  const supporters = (list, place) => {
    place.replaceChildren();
    for (const index of list || []) {
      const row = data.others[index];
      if (!row) continue;
      const item = element("li");
      if (row.thumbnail) item.append(picture(row, "training example " + index, "small"));
      else if (row.text) item.append(inert(row.text));
      const line = element("small");
      line.append("#" + index + " · ", className(row.given));
      item.append(line);
      place.append(item);
    }
    if (!place.children.length) place.append(element("li", "none found", "soft"));
  };

  const fillClasses = (select) => {
    data.classes.forEach((name, number) => {
      const option = element("option", name);
      option.value = String(number);
      select.append(option);
    });
  };

  const show = () => {
    const row = queue[at], done = decisions.get(row.index);
    const media = byId("media");
    media.replaceChildren();
    if (row.thumbnail) media.append(picture(row, "training example " + row.index, "huge"));
    if (row.text) { const p = element("p", undefined, "words"); p.append(inert(row.text)); media.append(p); }
    byId("title").replaceChildren("Rank " + row.rank + " · ", label(row));
    byId("given").replaceChildren(className(row.given));
    byId("given-p").textContent = row.given_probability === undefined ? "" : "model: " + percent(row.given_probability);
    const other = row.suggested;
    byId("suggested-box").hidden = other === undefined;
    if (other !== undefined) {
      byId("suggested").replaceChildren(className(other));
      byId("suggested-p").textContent = row.confidence === undefined ? "" : "model: " + percent(row.confidence);
    }
    const chosen = done && done.decision === "relabel" ? done.label : other;
    byId("to").value = String(chosen === undefined ? (row.given + 1) % data.classes.length : chosen);
    supporters(row.supports_given, byId("for-given"));
    supporters(row.supports_suggested, byId("for-suggested"));
    byId("suggested-support").hidden = !(row.supports_suggested || []).length;
    byId("interval").textContent = row.lowest === undefined ? "" :
      "By self-influence, certified rank " + row.lowest.toLocaleString("en") + " to " +
      row.highest.toLocaleString("en") + " of " + data.examples.toLocaleString("en") + ".";
    byId("truth").textContent = row.wrong === undefined ? "" : row.wrong ? "Known to be wrong." : "Known to be right.";
    for (const name of Object.keys(WORDS))
      byId(name).setAttribute("aria-pressed", String(!!done && done.decision === name));
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === queue.length - 1;
    byId("undo").disabled = !history.length;
    list();
    counts();
  };

  const list = () => {
    const first = Math.floor(at / PAGE) * PAGE, place = byId("list");
    const keepFocus = place.contains(document.activeElement);
    place.replaceChildren();
    queue.slice(first, first + PAGE).forEach((row, offset) => {
      const number = first + offset, done = decisions.get(row.index);
      const item = element("li"), button = element("button", undefined, "entry");
      button.type = "button";
      if (row.thumbnail) button.append(picture(row, "", "small"));
      const name = element("b");
      name.append(row.rank + ". ", label(row));
      const what = element("span");
      what.append(className(row.given));
      if (done && done.decision === "relabel") what.append(" → ", className(done.label));
      else if (row.suggested !== undefined && !done) what.append(" → ", className(row.suggested), "?");
      button.append(name, what);
      if (!row.thumbnail && row.text) { const t = element("span", undefined, "snippet"); t.append(inert(row.text)); button.append(t); }
      button.append(element("em", done ? WORDS[done.decision] : ""));
      if (done) button.classList.add(done.decision);
      if (number === at) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => go(number));
      item.append(button);
      place.append(item);
      if (number === at && keepFocus) button.focus();
    });
    const last = Math.min(first + PAGE, queue.length);
    byId("page").textContent = (first + 1) + " to " + last + " of " + queue.length;
    byId("page-back").disabled = first === 0;
    byId("page-on").disabled = last === queue.length;
  };

  const counts = () => {
    const tally = { accept: 0, relabel: 0, skip: 0 };
    for (const d of decisions.values()) tally[d.decision] += 1;
    byId("progress").value = decisions.size;
    byId("done").textContent = decisions.size + " of " + queue.length + " reviewed: " +
      tally.accept + " kept, " + tally.relabel + " relabelled, " + tally.skip + " skipped";
    for (const id of ["csv", "json"]) byId(id).disabled = decisions.size === 0;
  };

  const go = (to) => { at = Math.max(0, Math.min(queue.length - 1, to)); show(); };
  const say = (text) => { byId("status").textContent = text; };

  const decide = (decision) => {
    const row = queue[at], to = Number(byId("to").value);
    if (decision === "relabel" && to === row.given) {
      say("That is the label it has: choose another one, or keep it with A.");
      return;
    }
    history.push([at, row.index, decisions.get(row.index)]);
    decisions.set(row.index, { decision, label: decision === "relabel" ? to : row.given });
    store();
    say("Rank " + row.rank + ": " + WORDS[decision] + ".");
    let next = at + 1;
    while (next < queue.length && decisions.has(queue[next].index)) next += 1;
    if (next === queue.length) {
      if (decisions.size === queue.length) say("All " + queue.length + " are reviewed. Download the decisions.");
      next = Math.min(at + 1, queue.length - 1);
    }
    go(next);
  };
  const undo = () => {
    const last = history.pop();
    if (!last) { say("Nothing to undo."); return; }
    const [place, index, before] = last;
    if (before) decisions.set(index, before); else decisions.delete(index);
    store();
    say("Undone: rank " + queue[place].rank + ".");
    go(place);
  };

  const rows = () => queue.filter((row) => decisions.has(row.index)).map((row) => {
    const d = decisions.get(row.index);
    return { index: row.index, decision: d.decision, given: row.given, label: d.label, row };
  });
  // A cell that a spreadsheet would run begins with an apostrophe.
  const cell = (value) => {
    let text = String(value);
    if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return '"' + text.replaceAll('"', '""') + '"';
  };
  const csv = () => {
    const head = ["fingerprint", "examples", "index", "decision", "given", "label", "given_name", "label_name", "example"];
    const lines = rows().map((d) => [data.fingerprint, data.examples, d.index, d.decision, d.given, d.label,
      data.classes[d.given], data.classes[d.label], d.row.name === undefined ? "" : d.row.name]);
    return [head, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
  };
  const json = () => JSON.stringify({
    natgeo_decisions: 1, fingerprint: data.fingerprint, examples: data.examples, classes: data.classes,
    decisions: rows().map(({ index, decision, given, label }) => ({ index, decision, given, label })),
  }, null, 1) + "\n";
  const download = (name, type, text) => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    say("Downloaded " + name + " with " + decisions.size + " decisions.");
  };

  for (const name of Object.keys(WORDS)) byId(name).addEventListener("click", () => decide(name));
  byId("undo").addEventListener("click", undo);
  byId("previous").addEventListener("click", () => go(at - 1));
  byId("next").addEventListener("click", () => go(at + 1));
  byId("page-back").addEventListener("click", () => go((Math.floor(at / PAGE) - 1) * PAGE));
  byId("page-on").addEventListener("click", () => go((Math.floor(at / PAGE) + 1) * PAGE));
  byId("csv").addEventListener("click", () => download("decisions.csv", "text/csv", csv()));
  byId("json").addEventListener("click", () => download("decisions.json", "application/json", json()));
  const keys = {
    a: () => decide("accept"), r: () => decide("relabel"), s: () => decide("skip"), u: undo,
    ArrowLeft: () => go(at - 1), ArrowUp: () => go(at - 1),
    ArrowRight: () => go(at + 1), ArrowDown: () => go(at + 1),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(SELECT|INPUT|TEXTAREA)$/.test(event.target.tagName)) return;
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || (event.key.startsWith("Arrow") && !byId("review").contains(event.target) && event.target !== document.body)) return;
    event.preventDefault();
    act();
  });

  fillClasses(byId("to"));
  restore();
  byId("progress").max = queue.length;
  byId("review-tool").hidden = false;
  const open = queue.findIndex((row) => !decisions.has(row.index));
  at = open < 0 ? 0 : open;
  store();
  show();
})();
