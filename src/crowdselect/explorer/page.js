// The page: its options, the choice that they make, and what shows it. engine.js makes the choice, in a worker.

const ENGINE = document.currentScript.previousElementSibling.textContent; // the script before this one
const $ = (id) => document.getElementById(id);
const head = JSON.parse($("data").textContent);
const listed = (parts) => parts.length > 1 ? `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}` : parts.join("");
const whole = (count) => count.toLocaleString("en");
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

// ── the engine ──
addEventListener("error", (event) => failed(`This page cannot be opened here: ${event.message}`)); // such as no workers
addEventListener("unhandledrejection", (event) => failed(`This page failed: ${event.reason}`));
const engine = new Worker(URL.createObjectURL(new Blob([ENGINE], { type: "text/javascript" })));
const waiting = new Map(); // token → what is done with its answer
let tokens = 0;
engine.addEventListener("message", ({ data }) => {
  const token = data.kind === "loaded" ? "load" : data.token;
  waiting.get(token)?.(data);
  waiting.delete(token);
});
engine.addEventListener("error", (event) => {
  event.preventDefault();
  failed(event.message);
});
function ask(message, token, owned = []) {
  return new Promise((done) => {
    waiting.set(token, done);
    engine.postMessage(message, owned);
  });
}
const choose = (wanted) => ask({ kind: "choose", setting: wanted, token: ++tokens }, tokens);
function failed(words) {
  const place = $($("explore").hidden ? "opening" : "problem");
  place.hidden = false;
  place.replaceChildren();
  put(place, words);
}

// ── what is known, and what is asked for ──
let facts; // of the pool; they never change
let setting; // what the options say
let result = null; // the last choice that was made, and its setting
let kept = null; // A: a choice to compare with
let first = null; // the choice that was saved, or that the page began with
const past = { settings: [], at: 0 };
const marks = new Set(); // rows marked as bad
let unsaved = false;

// A number's values; of one that rests on whose answer is trained on, those by that rule.
const valuesOf = ({ values, by }, answer = setting.answer) => by?.[answer] ?? values;
let front; // the numbers that have a weight as the page begins, else all: those that are shown in little room

// ── options ──
function change(next, settled = true) {
  setting = next;
  if (settled) remember();
  showOptions();
  update();
}
function remember() {
  if (same(setting, past.settings[past.at])) return;
  past.settings.splice(past.at + 1, Infinity, setting);
  past.at = past.settings.length - 1;
  showLink();
}
function step(by) {
  remember(); // what was typed and not yet left counts as a step
  const at = past.at + by;
  if (at < 0 || at >= past.settings.length) return;
  past.at = at;
  setting = past.settings[at];
  showLink();
  showOptions(true);
  update();
}

// A number that is typed or dragged: seen at once, a step of the history when it is left.
function entry(input, set) {
  const read = (settled) => {
    const value = Number(input.value);
    if (input.value.trim() === "" || !Number.isFinite(value) || !input.checkValidity()) return;
    change(set(value), settled);
  };
  input.addEventListener("input", () => read(false));
  input.addEventListener("change", () => {
    read(true);
    showOptions(true); // a value that makes no sense is replaced by the one that counts
  });
}
const fields = []; // (force) → each shows its part of the setting
function showOptions(force = false) {
  for (const show of fields) show(force);
  $("undo").disabled = past.at === 0 && same(setting, past.settings[0]);
  $("redo").disabled = past.at === past.settings.length - 1;
  $("reset").disabled = same(setting, facts.start);
}
// What is being typed is left as it is.
const fill = (input, value, force) => { if (force || document.activeElement !== input) input.value = value; };

function weightField({ name, words }, i) {
  const box = make("div", "weight"), label = make("label", "", name), slider = make("input"), exact = make("input");
  label.htmlFor = exact.id = `weight-${i}`;
  label.title = words || name;
  Object.assign(slider, { type: "range", className: "zero", min: -4, max: 4, step: 0.25 });
  slider.setAttribute("aria-label", `Weight of ${name}, slider`);
  Object.assign(exact, { type: "number", step: "any" });
  exact.setAttribute("aria-label", `Weight of ${name}`);
  for (const input of [slider, exact]) entry(input, (value) => ({ ...setting, weights: { ...setting.weights, [name]: value } }));
  box.append(label, slider, exact);
  fields.push((force) => {
    const weight = setting.weights[name] ?? 0;
    fill(slider, weight, force);
    fill(exact, weight, force);
    box.classList.toggle("none", weight === 0);
  });
  return box;
}

function bandField(band, i) {
  const box = make("div", "band-row"), known = facts.bands.find(({ name }) => name === band.name);
  const ends = ["low", "high"].map((end) => {
    const input = make("input");
    Object.assign(input, { value: band[end] ?? "", inputMode: "decimal", autocomplete: "off", spellcheck: false });
    input.setAttribute("aria-label", `${band.name}: ${end === "low" ? "lowest" : "highest"} (empty: open; 10%: a share of the rows)`);
    input.placeholder = known ? number(known[end]) : "";
    input.addEventListener("change", () => {
      const text = input.value.trim(), value = text === "" ? null : text.endsWith("%") ? text : Number(text);
      const valid = value === null || /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?%?$/i.test(text);
      input.setCustomValidity(valid ? "" : "a number, or a share such as 10%");
      if (valid) change({ ...setting, keep: setting.keep.map((each, at) => at === i ? { ...each, [end]: value } : each) });
    });
    return input;
  });
  const away = make("button", "", "\u00d7");
  away.type = "button";
  away.setAttribute("aria-label", `Remove the band of ${band.name}`);
  away.addEventListener("click", () => {
    change({ ...setting, keep: setting.keep.filter((_each, at) => at !== i) });
    $("add-band").focus();
  });
  box.append(make("b", "", band.name), ends[0], make("span", "", "to"), ends[1], away);
  return box;
}

function makeOptions() {
  $("method").append(...facts.methods.map(({ name }) => new Option(name, name)));
  $("method").addEventListener("change", () => change({ ...setting, method: $("method").value }));
  fields.push(() => {
    $("method").value = setting.method;
    $("method-words").textContent = facts.methods.find(({ name }) => name === setting.method).words;
  });

  const boxes = facts.metrics.map(weightField), others = boxes.filter((_box, i) => !front.includes(facts.metrics[i]));
  $("weights").append(...boxes.filter((box) => !others.includes(box)));
  if (others.length) {
    const more = make("details", "more");
    more.append(make("summary", "", counted(others.length, "more number")), ...others);
    $("weights").append(more);
    fields.push(() => { more.open ||= facts.metrics.some((metric) => !front.includes(metric) && setting.weights[metric.name]); });
  }
  fields.push(() => { $("weights").hidden = !facts.methods.find(({ name }) => name === setting.method)?.weighted; });

  for (const input of [$("budget"), $("budget-slider")]) {
    Object.assign(input, { min: 1, max: facts.budgetMost, step: 1 });
    entry(input, (budget) => ({ ...setting, budget }));
  }
  $("budget-slider").type = "range";
  fields.push((force) => {
    fill($("budget"), setting.budget, force);
    fill($("budget-slider"), setting.budget, force);
  });

  $("clusters").disabled = facts.clusters.length === 0;
  $("clusters-words").textContent = facts.clusters.length ? `Over ${counted(facts.clusters.length, "cluster")}` : "The pool was opened without clusters";
  $("clusters").addEventListener("change", () => change({ ...setting, clusters: $("clusters").checked }));
  fields.push(() => { $("clusters").checked = setting.clusters; });
  $("seed").textContent = head.seed;

  $("bands-box").hidden = facts.bands.length === 0;
  const begin = new Option("Add a band\u2026", "");
  $("add-band").append(begin, ...facts.bands.map(({ name }) => new Option(name, name)));
  $("add-band").addEventListener("change", () => {
    const name = $("add-band").value;
    $("add-band").value = "";
    change({ ...setting, keep: [...setting.keep, { name, low: null, high: null }] });
    $("bands").lastChild.querySelector("input").focus();
  });
  let shown;
  fields.push((force) => {
    if (!force && same(shown, setting.keep)) return;
    shown = setting.keep;
    $("bands").replaceChildren(...setting.keep.map(bandField));
  });

  $("answer-box").hidden = facts.answers.length < 2;
  $("answer").append(...facts.answers.map((rule) => new Option(rule, rule)));
  $("answer").addEventListener("change", () => change({ ...setting, answer: $("answer").value }));
  fields.push(() => { $("answer").value = setting.answer; });

  $("undo").addEventListener("click", () => step(-1));
  $("redo").addEventListener("click", () => step(1));
  $("reset").addEventListener("click", () => { change(facts.start); showOptions(true); });
  $("options").addEventListener("submit", (event) => event.preventDefault()); // Enter in a field
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.type === "search") return;
    const key = event.key.toLowerCase();
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    step(key === "y" || event.shiftKey ? 1 : -1);
  });
}

// ── the link ──
function encoded({ method, weights, budget, clusters, keep, answer }) {
  const parts = new URLSearchParams({ method, budget, clusters: clusters ? "yes" : "no", answer });
  for (const [name, weight] of Object.entries(weights)) if (weight) parts.append("weight", `${name}=${weight}`);
  for (const { name, low, high } of keep) parts.append("keep", `${name}=${low ?? ""}..${high ?? ""}`);
  return String(parts);
}
// The setting of a link; what this page does not know is left out, and said.
function decoded(text) {
  const parts = new URLSearchParams(text), unknown = [];
  if (!parts.has("method")) return null;
  const pick = (name, known, fallback) => {
    const value = parts.get(name);
    if (known.includes(value)) return value;
    if (value !== null) unknown.push(`${name} ${value}`);
    return fallback;
  };
  const divided = (part) => [part.slice(0, part.lastIndexOf("=")), part.slice(part.lastIndexOf("=") + 1)];
  const found = {
    method: pick("method", facts.methods.map(({ name }) => name), facts.start.method),
    weights: Object.fromEntries(facts.metrics.map(({ name }) => [name, 0])),
    budget: facts.start.budget,
    clusters: pick("clusters", facts.clusters.length ? ["yes", "no"] : ["no"], facts.start.clusters ? "yes" : "no") === "yes",
    keep: [],
    answer: pick("answer", facts.answers, facts.start.answer),
  };
  const budget = Number(parts.get("budget"));
  if (Number.isInteger(budget) && budget >= 1 && budget <= facts.budgetMost) found.budget = budget;
  else unknown.push(`budget ${parts.get("budget")}`);
  for (const part of parts.getAll("weight")) {
    const [name, weight] = divided(part);
    if (Object.hasOwn(found.weights, name) && Number.isFinite(Number(weight))) found.weights[name] = Number(weight);
    else unknown.push(`weight ${part}`);
  }
  for (const part of parts.getAll("keep")) {
    const [name, band] = divided(part), ends = band.split("..").map((end) => end === "" ? null : end.endsWith("%") ? end : Number(end));
    if (facts.bands.some((each) => each.name === name) && ends.length === 2 && ends.every((end) => !Number.isNaN(end))) found.keep.push({ name, low: ends[0], high: ends[1] });
    else unknown.push(`keep ${part}`);
  }
  if (unknown.length) note(`This page does not know what its link names: ${unknown.join(", ")}`);
  return found;
}
// A page inside another one has no address of its own.
const addressed = location.protocol !== "about:";
const link = () => `#${encoded(setting)}${kept ? `&${new URLSearchParams({ a: encoded(kept.setting) })}` : ""}`;
function showLink() {
  if (addressed) history.replaceState(null, "", link());
}
async function follow() {
  const text = location.hash.slice(1), found = decoded(text);
  if (!found || text === link().slice(1)) return;
  const other = new URLSearchParams(text).get("a"), a = other && decoded(other);
  if (a) {
    const made = await choose(a);
    if (made.error) note(`A cannot be made: ${made.error}`);
    else keep(choice(made, a));
  }
  change(found);
  showOptions(true);
}

// ── the choice ──
// One at a time: while one is computed, only the newest setting waits.
let computing = false, answered = null;
async function update() {
  document.documentElement.removeAttribute("data-ready");
  if (computing) return;
  computing = true;
  while (!same(answered, setting)) {
    const wanted = setting, asked = performance.now(), found = await choose(wanted);
    await frame();
    answered = wanted;
    $("explore").classList.toggle("stale", Boolean(found.error));
    $("problem").hidden = !found.error;
    for (const id of ["save-ids", "save-options", "copy", "keep"]) $(id).disabled = Boolean(found.error); // they are of a choice
    if (found.error) failed(found.error);
    else {
      result = choice(found, wanted);
      show();
    }
    performance.measure("crowdselect choice", { start: asked, end: performance.now() });
  }
  computing = false;
  document.documentElement.dataset.ready = "yes";
}
const frame = () => new Promise(requestAnimationFrame);

// A choice, with its rows in order of their places.
const choice = (found, made) => ({ ...found, setting: made, rows: byPlace(found.rank) });
function byPlace(rank) {
  let count = 0;
  for (const place of rank) if (place) count += 1;
  const rows = new Int32Array(count);
  rank.forEach((place, i) => { if (place) rows[place - 1] = i; });
  return rows;
}
const other = () => kept && $("against").value === "a" ? kept : first;
const otherWords = () => other() === kept ? "A" : first.words;

let drawn = false;
let came, went; // rows that only the choice has, and only what it is compared with, by place
function show() {
  const { rank, rows } = result, than = other();
  came = rows.filter((i) => !than.rank[i]);
  went = than.rows.filter((i) => !rank[i]);
  for (const [id, count] of [["chosen", rows.length], ["came", came.length], ["went", went.length], ["both", rows.length - came.length]]) $(id).textContent = whole(count);
  $("command").textContent = result.command;
  $("clusters-file").hidden = result.labels === null;
  $("clusters-file-name").textContent = result.labels ?? "";
  for (const part of parts) part.stale = true;
  drawParts(!drawn);
  drawn = true;
  drawRest();
  say(`${whole(rows.length)} chosen; against ${otherWords()} ${whole(came.length)} came in and ${whole(went.length)} went out`);
}
function go(id) {
  drawParts(true); // what is above it would move it, drawn on the way
  $(id).scrollIntoView();
}
let saying;
function say(words) { // once the options are at rest
  clearTimeout(saying);
  saying = setTimeout(() => { $("said").textContent = words; }, 700);
}

// ── the parts: each is drawn when it is stale and in sight, the first time at once; those out of sight when the page is at rest ──
const parts = [];
function part(id, draw) {
  if ($(id).hidden) return; // this pool has nothing for it
  const found = { node: $(id), draw, stale: true, seen: false };
  parts.push(found);
  watcher.observe(found.node);
}
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) parts.find(({ node }) => node === target).seen = isIntersecting;
  drawParts();
}, { rootMargin: "150px" });
function drawParts(unseen = false) {
  if (!result) return;
  for (const each of parts) {
    if (!each.stale) continue;
    if (unseen || each.seen || each.node.contains(document.activeElement)) drawPart(each);
    else each.node.setAttribute("aria-busy", "true"); // the stylesheet hides it: nobody meets figures of another choice
  }
}
function drawPart(each) {
  each.draw();
  each.stale = false;
  each.node.removeAttribute("aria-busy");
}
let resting;
function drawRest() {
  clearTimeout(resting);
  resting = setTimeout(() => {
    const next = parts.find(({ stale }) => stale);
    if (!next) return;
    drawPart(next);
    drawRest();
  }, computing ? 250 : 30); // one at a time, and none between two steps of a slider
}
addEventListener("beforeprint", () => drawParts(true));

// In and out
const BRIEF = 6;
function changesPart() {
  const than = otherWords();
  const { mean: shared, spread } = sharedAtRandom();
  $("changes-words").textContent = `${came.length || went.length ? `Rows in which this choice and ${than} differ, by their place.` : `This choice and ${than} have the same rows.`} A random choice with the same quotas would share ${whole(Math.round(shared))} \u00b1 ${spread < 1 ? number(Number(spread.toPrecision(1))) : whole(Math.round(spread))} rows with ${than}, instead of ${whole(result.rows.length - came.length)}.`;
  for (const [id, rows, words, rank] of [["came", came, "Came in", result.rank], ["went", went, "Went out", other().rank]]) {
    $(`${id}-head`).textContent = `${words}: ${whole(rows.length)}`;
    $(`${id}-words`).replaceChildren(`Place in ${id === "came" ? "this choice" : than}`, make("span", "of-bars", `; bars: rank of ${listed(front.map(({ name }) => name))}`));
    const shown = [...rows.subarray(0, BRIEF)].map((row, at) => {
      const item = make("li"), button = make("button");
      button.type = "button";
      button.append(make("span", "rank", rank[row]), snippet(row), rankBars(row));
      button.addEventListener("click", () => openRow(rows, at));
      item.append(button);
      return item;
    });
    $(`${id}-rows`).replaceChildren(...(shown.length ? shown : [make("li", "none-here", "none")]));
    $(`${id}-all`).hidden = rows.length <= BRIEF;
  }
}
// How many rows of what it is compared with a random choice of as many rows from each cluster has: mean and SD.
function sharedAtRandom() {
  const { reason, rank, setting: { clusters } } = result, before = other().rank, last = facts.clusters.length;
  const [below, selected] = ["below_cut", "selected"].map((code) => facts.codes.indexOf(code));
  const [rows, chosen, theirs] = [0, 1, 2].map(() => new Float64Array(last + 1));
  for (let i = 0; i < facts.n; i += 1) {
    if (reason[i] !== below && reason[i] !== selected) continue;
    const group = clusters && facts.clusterOf ? Math.min(facts.clusterOf[i], last) : 0;
    rows[group] += 1;
    if (rank[i]) chosen[group] += 1;
    if (before[i]) theirs[group] += 1;
  }
  let mean = 0, variance = 0;
  for (let group = 0; group <= last; group += 1) {
    const share = rows[group] ? theirs[group] / rows[group] : 0;
    mean += chosen[group] * share;
    if (rows[group] > 1) variance += chosen[group] * share * (1 - share) * (rows[group] - chosen[group]) / (rows[group] - 1);
  }
  return { mean, spread: Math.sqrt(variance) };
}
/* Where a row's value of a number lies among those of the eligible rows: that, not the value, is what counts. `rank` is from
   0 to 1, equal values share the middle of theirs; `below` and `equal` are shares of the eligible rows. Null without a value. */
function standingIn(metric, row) {
  const value = valuesOf(metric, result.setting.answer)[row], all = eligibleValues(metric), count = all.length;
  if (Number.isNaN(value) || !count) return null;
  const below = leading(all, (each) => each < value), upTo = leading(all, (each) => each <= value);
  const rank = count === 1 ? 0.5 : Math.max(0, Math.min(1, (below + upTo - 1) / (2 * count - 2)));
  return { rank, below: below / count, equal: (upTo - below) / count };
}
// How many of some ascending values come before the first for which something does not hold.
function leading(values, holds) {
  let from = 0, to = values.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (holds(values[middle])) from = middle + 1; else to = middle;
  }
  return from;
}
const ascending = { eligible: null, of: new Map() }; // the eligible rows' values, kept while the same rows are eligible
function eligibleValues(metric) {
  const { eligible, score, setting: { answer } } = result;
  if (ascending.eligible !== eligible) Object.assign(ascending, { eligible, of: new Map() });
  if (!ascending.of.has(metric)) ascending.of.set(metric, valuesOf(metric, answer).filter((value, i) => !Number.isNaN(score[i]) && !Number.isNaN(value)).sort());
  return ascending.of.get(metric);
}
const rankBars = (row) => smallBars(front.map((metric) => ({ name: metric.name, rank: standingIn(metric, row)?.rank ?? NaN })));
let beginning; // what a line shows of a text
function snippet(row) {
  const node = make("span", "snip"), text = facts.names.texts?.[row];
  node.dir = "auto";
  if (text) put(node, beginning(text));
  else node.append(make("b", "", facts.names.ids[row]));
  return node;
}

// Side by side
function sidesPart() {
  const sides = [[kept ? "B, now" : "now", result], ...(kept ? [["A", kept]] : []), [first.words, first]];
  $("sides-words").textContent = kept
    ? "A is what you kept; B is what the options say now."
    : "Keep a choice as A to compare others with it.";
  $("swap").hidden = $("drop").hidden = !kept;
  $("differs").hidden = !kept;
  if (kept) {
    const found = differences(kept.setting, setting);
    $("differs").replaceChildren();
    put($("differs"), found.length ? `From A to B: ${found.join("; ")}.` : "A and B have the same options.");
  }
  const top = make("tr"), body = make("tbody"), thead = make("thead");
  top.append(make("th", "", "mean of"), ...[...sides.map(([words]) => words), "random \u00b1 SD"].map((words) => make("th", "n", words)));
  thead.append(top);
  const line = (name, cells) => {
    const row = make("tr"), title = make("th", "", name);
    title.scope = "row";
    row.append(title, ...cells.map((cell) => make("td", "n", cell)));
    body.append(row);
  };
  line("rows", [...sides.map(([, side]) => whole(side.rows.length)), ""]);
  for (const each of [...facts.metrics, ...facts.lengths]) {
    const { name } = each, chance = result.random?.[name];
    line(name, [...sides.map(([, side]) => shownNumber(mean(valuesOf(each, side.setting?.answer), side.rows))), chance ? `${shownNumber(chance.mean)} \u00b1 ${number(Number(chance.spread.toPrecision(2)))}` : "\u2013"]);
  }
  if (facts.teachers.length) line("teachers", [...sides.map(([, side]) => whole(new Set(teachersOf(side)).size)), ""]);
  $("figures").replaceChildren(thead, body);
}
function differences(one, two) {
  const found = [];
  const tell = (name, before, after) => { if (!same(before, after)) found.push(`${name} ${before} \u2192 ${after}`); };
  tell("method", one.method, two.method);
  for (const { name } of facts.metrics) tell(name, one.weights[name], two.weights[name]);
  tell("budget", one.budget, two.budget);
  tell("clusters", one.clusters ? "on" : "off", two.clusters ? "on" : "off");
  const bands = ({ keep: all }) => all.map(({ name, low, high }) => `${name}=${low ?? ""}..${high ?? ""}`).join(" ") || "none";
  tell("bands", bands(one), bands(two));
  tell("answer", one.answer, two.answer);
  return found;
}
function keep(found) {
  kept = found;
  if ($("against").options.length === 1) $("against").append(new Option("A", "a"));
  $("against").value = "a";
}
function drop() {
  kept = null;
  $("against").options[1]?.remove();
}

// Numbers and lengths
const charts = { numbers: [], lengths: [], pool: null };
const drawCharts = (id) => {
  $("numbers-key").textContent = otherWords();
  for (const chart of charts[id]) chart.draw(result.rows, other().rows, setting.answer);
};
function makeCharts() {
  const pool = charts.pool = Int32Array.from({ length: facts.n }, (_none, i) => i);
  for (const { name, words, low, high, values, by } of facts.metrics) charts.numbers.push(histogram(name, words, { values, by, low, high, pool }));
  for (const { name, values } of facts.lengths) {
    let low = Infinity, high = -Infinity;
    for (const value of values) if (value > 0) { low = Math.min(low, value); high = Math.max(high, value); }
    if (low <= high) charts.lengths.push(histogram(name, "characters", { values, low, high, pool }));
  }
  for (const id of ["numbers", "lengths"]) $(`${id}-charts`).append(...charts[id].map(({ node }) => node));
}

// The map
let drawnMap;
function mapPart() {
  const both = result.rows.filter((i) => other().rank[i]);
  for (const [id, words, rows] of [["both", "in both", both], ["came", "came in", came], ["went", "went out", went]]) $(`map-${id}`).textContent = `${words} ${whole(rows.length)}`;
  drawnMap.draw([
    { rows: both, colour: "--chosen", size: 2.6 },
    { rows: went, colour: "--below", size: 3.2, hollow: true },
    { rows: came, colour: "--above", size: 3.2 },
  ]);
}
function makeMap() {
  drawnMap = pointMap($("map-canvas"), facts.map.x, facts.map.y, {
    tell: (row, event) => showTip(event, [["id", facts.names.ids[row]], ["", standing(row)]], facts.names.texts?.[row]),
    open: (row) => openRow(Int32Array.of(row), 0),
  });
  $("map-words").textContent = facts.map.words;
  $("map-in").addEventListener("click", () => drawnMap.zoom(1.6));
  $("map-out").addEventListener("click", () => drawnMap.zoom(1 / 1.6));
  $("map-whole").addEventListener("click", drawnMap.whole);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawnMap.redraw);
}

// Clusters and teachers: tables of counts, with what changed
function changed(now, before) {
  const by = now - before;
  return make("span", `change ${by > 0 ? "came" : by < 0 ? "went" : ""}`, by === 0 ? "" : `${by > 0 ? "+" : "\u2212"}${whole(Math.abs(by))}`);
}
function countsTable(table, heads, lines) {
  const top = make("tr"), thead = make("thead"), body = make("tbody");
  heads.forEach((words, i) => top.append(make("th", i ? "n" : "", words)));
  top.append(make("th", "", "share"));
  thead.append(top);
  const most = Math.max(...lines.map(({ share, whole: all }) => Math.max(share, all ?? 0)), 1e-9);
  for (const { name, cells, share, whole: all } of lines) {
    const row = make("tr"), title = make("th", "", name), bar = make("td");
    title.scope = "row";
    bar.append(all === undefined ? levelBar(share / most) : twoBars(all / most, share / most));
    row.append(title, ...cells.map((cell) => {
      const box = make("td", "n");
      box.append(cell);
      return box;
    }), bar);
    body.append(row);
  }
  table.replaceChildren(thead, body);
}
function twoBars(above, below) {
  const box = svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  box.append(svg("rect", { class: "p", width: 100 * above, height: 3.6 }), svg("rect", { class: "c", y: 4.4, width: 100 * below, height: 3.6 }));
  return box;
}
const counts = (labels, rows) => {
  const found = new Map();
  for (const i of rows) found.set(labels[i], (found.get(labels[i]) ?? 0) + 1);
  return found;
};
function clustersPart() {
  const { quotas, rows } = result;
  $("clusters-table").hidden = quotas.length === 0;
  const all = quotas.reduce((sum, each) => sum + each.rows, 0);
  $("clusters-note").textContent = setting.clusters
    ? "Eligible rows and chosen rows of each cluster; every cluster gets the same quota while its rows last."
    : "Clusters are off: rows are taken by their score alone.";
  const before = facts.clusterOf ? counts(facts.clusterOf, other().rows) : null;
  countsTable($("clusters-table"), ["cluster", "eligible", "chosen", "change"], quotas.map((each) => ({
    name: each.name,
    cells: [whole(each.rows), whole(each.chosen), before ? changed(each.chosen, before.get(each.label) ?? 0) : ""],
    share: each.chosen / Math.max(rows.length, 1),
    whole: each.rows / Math.max(all, 1),
  })));
}
const NOBODY = 65_535;
function teachersOf({ rows, setting: made }) {
  const of = facts.teacherOf[made?.answer ?? setting.answer];
  return of ? [...rows].map((i) => of[i]).filter((model) => model !== NOBODY) : [];
}
function teachersPart() {
  const now = teachersOf(result), tally = (of) => counts(of, of.keys());
  const ours = tally(now), before = tally(teachersOf(other()));
  const models = [...new Set([...ours.keys(), ...before.keys()])];
  models.sort((one, two) => (ours.get(two) ?? 0) - (ours.get(one) ?? 0) || one - two);
  countsTable($("teachers-table"), ["model", "rows", "change"], models.map((model) => ({
    name: facts.teachers[model],
    cells: [whole(ours.get(model) ?? 0), changed(ours.get(model) ?? 0, before.get(model) ?? 0)],
    share: (ours.get(model) ?? 0) / Math.max(now.length, 1),
  })));
}

// The crowd and the student: rows by the success of each, the pool and the chosen
const SUCCESS = 5; // bins of equal width
function studentPart() {
  const { crowd, own } = facts.student, bin = (share) => Math.min(SUCCESS - 1, Math.floor(share * SUCCESS + 1e-9));
  const tables = [["The pool", "--pool", charts.pool], ["The chosen", "--chosen", result.rows]].map(([title, colour, rows]) => {
    const cells = Array.from({ length: SUCCESS }, () => new Float64Array(SUCCESS));
    let count = 0;
    for (const i of rows) {
      if (Number.isNaN(crowd[i]) || Number.isNaN(own[i])) continue;
      cells[bin(crowd[i])][bin(own[i])] += 1;
      count += 1;
    }
    const most = Math.max(...cells.map((line) => Math.max(...line)), 1);
    const figure = make("figure"), caption = make("figcaption"), box = make("table", "cells"), body = make("tbody"), foot = make("tr");
    caption.append(make("h3", "", title), make("p", "", `${counted(count, "row")}; up: the crowd succeeds, right: the student succeeds`));
    for (let up = SUCCESS - 1; up >= 0; up -= 1) {
      const line = make("tr"), name = make("th", "", share(up));
      name.scope = "row";
      line.append(name, ...Array.from(cells[up], (value) => {
        const cell = make("td", "", value ? whole(value) : "");
        cell.style.background = `color-mix(in srgb, var(${colour}) ${Math.round(value ? 8 + 62 * value / most : 2)}%, transparent)`;
        return cell;
      }));
      body.append(line);
    }
    foot.append(make("th"), ...Array.from({ length: SUCCESS }, (_none, right) => make("th", "", share(right))));
    body.append(foot);
    box.append(body);
    figure.append(caption, box);
    return figure;
  });
  $("student-tables").replaceChildren(...tables);
  let already = 0;
  for (const i of result.rows) already += own[i] === 1;
  $("student-words").textContent = `The student is ${facts.student.name}. It does as well already on ${whole(already)} of the ${whole(result.rows.length)} chosen. What the crowd can and the student cannot is in the upper left.`;
}
const share = (bin) => `${100 * bin / SUCCESS}\u2013${100 * (bin + 1) / SUCCESS}%`;

// Every row
let table, hits = new Int32Array(0), hay;
const orders = new Map(); // name → numbers to order by, highest first
function makeRows() {
  table = lines($("window"), $("spacer"), {
    line,
    open: (at) => openRow(hits, at),
    mark,
  });
  $("heads-bars").textContent = facts.metrics.length ? "ranks" : "";
  $("heads-bars").title = front.map(({ name }) => name).join(", ");
  orders.set("by place", null);
  for (const each of [...facts.metrics, ...facts.lengths]) {
    orders.set(`highest ${each.name}`, { each, sign: -1 });
    orders.set(`lowest ${each.name}`, { each, sign: 1 });
  }
  $("order").append(...[...orders.keys()].map((words) => new Option(words, words)));
  let waitingFor;
  $("search").addEventListener("input", () => { clearTimeout(waitingFor); waitingFor = setTimeout(() => rowsPart(true), 120); });
  for (const id of ["show", "order"]) $(id).addEventListener("change", () => rowsPart(true));
  for (const [id, which] of [["came-all", "came"], ["went-all", "went"]])
    $(id).addEventListener("click", () => {
      $("show").value = which;
      rowsPart(true);
      go("rows");
      $("window").focus({ preventScroll: true });
    });
}
// Chosen rows by place, then all others by score.
function ordered() {
  const { rank, rows, score } = result, found = new Int32Array(facts.n);
  found.set(rows);
  found.set(sorted(charts.pool.filter((i) => !rank[i]), score, -1), rows.length);
  return found;
}
let lastOrder = { of: null, order: null, rows: null };
function rowsPart(begin = false) {
  const order = $("order").value, by = orders.get(order);
  if (order !== lastOrder.order || ((by === null || by.each.by) && lastOrder.of !== result)) {
    const rows = by === null ? ordered() : sorted(charts.pool, valuesOf(by.each), by.sign);
    lastOrder = { of: result, order, rows };
  }
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), which = $("show").value, { rank } = result, before = other().rank;
  if (words.length && !hay) hay = Array.from({ length: facts.n }, (_none, i) => `${facts.names.ids[i]}\n${facts.names.texts?.[i] ?? ""}`.toLowerCase());
  const shown = {
    all: () => true, chosen: (i) => rank[i], others: (i) => !rank[i], marked: (i) => marks.has(i),
    came: (i) => rank[i] && !before[i], went: (i) => !rank[i] && before[i],
  }[which];
  hits = which === "all" && !words.length ? lastOrder.rows : lastOrder.rows.filter((i) => shown(i) && words.every((word) => hay[i].includes(word)));
  table.show(hits, begin);
  $("count").textContent = `${whole(hits.length)} of ${counted(facts.n, "row")}${table.left ? `; the first ${whole(hits.length - table.left)} are listed, search for others` : ""}`;
}
function line(row) {
  const { rank, score } = result, before = other().rank;
  const node = make("div", "grid-row"), cells = [
    make("span", "rank", rank[row] ? rank[row] : "\u2013"), snippet(row), rankBars(row),
    make("span", "who", teacher(row) ?? reasonOf(row)), make("span", "rew", shownNumber(score[row])),
  ];
  if (rank[row]) cells[0].classList.add("in");
  else cells[3].textContent = reasonOf(row);
  cells.forEach((cell) => cell.setAttribute("role", "gridcell"));
  node.append(...cells);
  node.classList.toggle("came", Boolean(rank[row] && !before[row]));
  node.classList.toggle("went", Boolean(!rank[row] && before[row]));
  node.classList.toggle("marked", marks.has(row));
  node.setAttribute("aria-label", `${rank[row] ? `place ${rank[row]}` : reasonOf(row)}: ${facts.names.texts?.[row] || facts.names.ids[row]}${marks.has(row) ? ", marked as bad" : ""}`);
  return node;
}
const teacher = (row) => facts.teachers[facts.teacherOf[setting.answer]?.[row]];

// One row
const reasonOf = (row) => {
  const words = facts.reasons[result.reason[row]], refers = result.refers[row];
  return refers >= 0 ? `${words}: ${facts.names.ids[refers]}` : words;
};
function standing(row) {
  const { rank, rows } = result, before = other().rank[row], than = otherWords();
  const now = rank[row] ? `Chosen: place ${whole(rank[row])} of ${whole(rows.length)}` : `Not chosen: ${reasonOf(row)}`;
  return `${now}. ${before ? `In ${than} at place ${whole(before)}.` : `Not in ${than}.`}`;
}
const clusterName = (row) => setting.clusters && facts.clusterOf ? facts.clusters[facts.clusterOf[row]]?.name : null;
// Where a row's number lies, and what its weight adds, in the words of `why`.
function rankWords(metric, row) {
  const found = standingIn(metric, row), weight = weighted() && result.setting.weights[metric.name];
  if (!found) return "";
  const percent = (share) => `${(100 * share).toFixed(0)}%`, ties = found.equal >= 0.05 ? `, equal to ${percent(found.equal)}` : "";
  if (Number.isNaN(result.score[row])) return `higher than ${percent(found.below)}${ties} of the eligible rows`;
  return `rank ${found.rank.toFixed(3)} of the eligible rows${weight ? `, weight ${weight} adds ${signed(weight * found.rank)}` : ""}${ties && `; higher than ${percent(found.below)}${ties}`}`;
}
const weighted = () => facts.methods.find(({ name }) => name === result.setting.method).weighted;
const signed = (value) => `${value < 0 ? "\u2212" : "+"}${number(Math.abs(value))}`;
// The score of a row, and the one with which the last place was taken.
function scoreWords(row) {
  const { score, rows, setting: { clusters } } = result;
  if (Number.isNaN(score[row])) return "It has no score: it is not eligible.";
  const label = clusters && facts.clusterOf ? facts.clusterOf[row] : null;
  const last = rows.findLast((i) => label === null || facts.clusterOf[i] === label);
  const told = (i) => weighted() ? `score ${shownNumber(score[i])}` : `order ${shownNumber(score[i])} of the draws, the highest first`;
  const own = weighted() ? `Score ${shownNumber(score[row])}, the sum of what the weights add.` : `Order ${shownNumber(score[row])} of the draws, the highest first.`;
  const of = label === null ? "" : label === NOBODY ? " of the rows without a cluster" : ` of cluster ${facts.clusters[label].name}`;
  if (last === undefined) return `${own} No place${of} was given.`;
  return `${own} The last place${of} went to ${last === row ? "this row" : `${facts.names.ids[last]} (place ${whole(result.rank[last])}, ${told(last)})`}.`;
}
const rewardWords = (row) => {
  const reward = setting.answer === facts.start.answer ? facts.names.rewards?.[row] : undefined;
  return reward === undefined || Number.isNaN(reward) ? "" : `, reward ${number(reward)}`;
};
let opened = null; // the list that the row is of, and its place there
function openRow(rows, at) {
  opened = { rows, at };
  showRow();
}
function walk(by) {
  const at = opened.at + by;
  if (at < 0 || at >= opened.rows.length) return;
  opened.at = at;
  showRow();
}
function showRow() {
  const { rows, at } = opened, row = rows[at], id = facts.names.ids[row];
  $("row-place").textContent = rows.length > 1 ? `${whole(at + 1)} of ${whole(rows.length)}` : "";
  $("row-before").disabled = at === 0;
  $("row-after").disabled = at === rows.length - 1;
  $("row-mark").textContent = marks.has(row) ? "Unmark" : "Mark as bad";
  $("row-mark").setAttribute("aria-pressed", marks.has(row));
  const box = $("row-open"), list = make("div", "facts"), why = make("p", "why", standing(row));
  why.id = "row-title";
  for (const metric of facts.metrics)
    list.append(make("span", "", metric.name), levelBar(standingIn(metric, row)?.rank ?? NaN), make("span", "", shownNumber(valuesOf(metric, result.setting.answer)[row])), make("span", "", rankWords(metric, row)));
  const text = (label, shown) => {
    const node = make("div", "text short", shown);
    node.dir = "auto";
    return [make("div", "lab", label), node];
  };
  const { texts, answers } = facts.names, whose = teacher(row), group = clusterName(row);
  if (group) why.append(` Cluster ${group}.`);
  box.replaceChildren(why, ...text(`Instruction ${id}`, texts?.[row] || "no text"));
  if (whose !== undefined && answers && setting.answer === facts.start.answer) box.append(...text(`Answer to train on, of ${whose}${rewardWords(row)}`, answers[row] || "no text"));
  else if (whose !== undefined) box.append(make("p", "lab", `The answer to train on is of ${whose}${rewardWords(row)}; its text is not on this page.`));
  box.append(make("p", "lab", scoreWords(row)), list);
  if (!$("row").open) $("row").showModal();
  for (const node of box.querySelectorAll(".short")) cutShort(node);
  $("row").scrollTop = 0;
}
// A long text is cut until all of it is asked for.
function cutShort(node) {
  if (node.scrollHeight <= node.clientHeight + 1) { node.classList.remove("short"); return; }
  const more = make("button", "plain", "Show all");
  more.type = "button";
  node.tabIndex = -1; // it takes the focus of the button that goes, so that the keys still work
  more.addEventListener("click", () => { node.classList.remove("short"); more.remove(); node.focus({ preventScroll: true }); });
  node.after(more);
}
function mark(row) {
  if (!marks.delete(row)) marks.add(row);
  unsaved = marks.size > 0;
  showMarks();
}
function showMarks() {
  $("marks").hidden = marks.size === 0;
  $("marked").textContent = `${counted(marks.size, "row")} marked as bad`;
  if ($("show").value === "marked") rowsPart();
  else table.again();
  if ($("row").open) showRow();
}
function makeRow() {
  const dialog = $("row");
  $("row-before").addEventListener("click", () => walk(-1));
  $("row-after").addEventListener("click", () => walk(1));
  $("row-mark").addEventListener("click", () => mark(opened.rows[opened.at]));
  $("row-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside it
  dialog.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") walk(-1);
    else if (event.key === "ArrowRight") walk(1);
    else if (event.key === "m" || event.key === "M") mark(opened.rows[opened.at]);
    else return;
    event.preventDefault();
  });
  const idsOf = (rows) => [...rows].map((row) => facts.names.ids[row]);
  $("save-marks").addEventListener("click", () => { saveIds("marked.jsonl", idsOf([...marks].sort((one, two) => one - two))); unsaved = false; });
  $("unmark").addEventListener("click", () => { marks.clear(); unsaved = false; showMarks(); });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });
  $("save-ids").addEventListener("click", () => saveIds("chosen.jsonl", idsOf(result.rows)));
  $("save-options").addEventListener("click", () => saveFile("select.toml", "application/toml", [result.recipe]));
  $("save-clusters").addEventListener("click", async () => {
    const { name, text } = await ask({ kind: "labels", token: ++tokens }, tokens);
    saveFile(name, "application/jsonl", [text]);
  });
  $("copy").addEventListener("click", () => copy(result.command, "The command is copied"));
  $("copy-link").addEventListener("click", () => copy(location.href.replace(/#.*$/s, "") + link(), "The link is copied"));
  $("copy-link").hidden = !addressed;
}
let noting;
function note(words) {
  clearTimeout(noting);
  $("saved").replaceChildren();
  put($("saved"), words);
  noting = setTimeout(() => $("saved").replaceChildren(), 6000);
}
async function copy(text, words) {
  try {
    await navigator.clipboard.writeText(text);
    note(words);
  } catch { // not allowed here: select it, so that the reader's own keys copy it
    getSelection().selectAllChildren($("command"));
    note("Press Ctrl+C to copy the command");
  }
}

// ── the beginning ──
// Settings are compared as text, so that each names every number, in one order.
function adapted(found) {
  const weights = (made) => Object.fromEntries(found.metrics.map(({ name }) => [name, made?.weights?.[name] ?? 0]));
  return { ...found, start: { ...found.start, weights: weights(found.start) } };
}
async function begin() {
  const packed = $("packed"), text = atob(packed.textContent), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  packed.remove();
  const loaded = await ask({ kind: "load", head, bytes }, "load", [bytes.buffer]);
  if (loaded.error) { failed(`The data of this page cannot be read: ${loaded.error}`); return; }
  facts = adapted(loaded.facts);
  beginning = beginnings(facts.names.texts ?? []);
  setting = facts.start;
  front = facts.metrics.filter(({ name }) => setting.weights[name]);
  if (!front.length) front = facts.metrics.slice(0, 6);
  past.settings.push(setting);
  $("opening").hidden = true;
  $("explore").hidden = false;
  makeOptions();
  makeCharts();
  makeRows();
  makeRow();
  const has = { map: facts.map, "clusters-section": facts.clusters.length, teachers: facts.teachers.length, lengths: charts.lengths.length, numbers: charts.numbers.length, student: facts.student };
  for (const [id, shown] of Object.entries(has)) {
    $(id).hidden = !shown;
    document.querySelector(`[data-section="${id}"]`).parentNode.hidden = !shown;
  }
  if (facts.map) makeMap();
  if (facts.saved) first = { words: "the saved choice", rows: byPlace(facts.saved.rank), ...facts.saved };
  else first = { words: "the starting choice", ...choice(await choose(setting), setting) };
  $("against").append(new Option(first.words, "first"));
  $("against").addEventListener("change", show);
  $("keep").addEventListener("click", () => { keep(result); showLink(); show(); });
  $("drop").addEventListener("click", () => { drop(); showLink(); show(); });
  $("swap").addEventListener("click", () => {
    const made = kept.setting;
    keep(result);
    change(made);
    showOptions(true);
  });
  part("changes", changesPart);
  part("sides", sidesPart);
  part("numbers", () => drawCharts("numbers"));
  if (facts.map) part("map", mapPart);
  part("clusters-section", clustersPart);
  part("teachers", teachersPart);
  part("lengths", () => drawCharts("lengths"));
  part("student", studentPart);
  part("rows", () => rowsPart());
  for (const anchor of document.querySelectorAll("[data-section]"))
    anchor.addEventListener("click", (event) => { // the address holds the setting
      event.preventDefault();
      go(anchor.dataset.section);
    });
  showOptions(true);
  await follow();
  addEventListener("hashchange", follow);
  update();
}
begin().catch((error) => failed(String(error)));
