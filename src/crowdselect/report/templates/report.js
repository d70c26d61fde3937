// After parts.js, as one script. What comes from a pool reaches the page by `put`, or as a value of a chart's data.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const STEP = 25;

  // ── hover ──
  function hover(_handler, event, _item, value) {
    if (value === null || value === undefined || value === "") { hideTip(); return; }
    const { text, ...facts } = value;
    showTip(event, Object.entries(facts), text);
  }

  // ── charts ──
  const views = new Map();
  function themed(width) {
    const config = structuredClone(data.themes[dark.matches ? "dark" : "light"]);
    config.legend.columns = Math.max(2, Math.floor(width / 150));
    config.legend.labelLimit = 120;
    if (width < 420) {
      config.axisY = { labelLimit: 120 };
      config.axisTop = { labelAngle: -35, labelAlign: "left" }; // names side by side would touch
    }
    return config;
  }
  async function draw(place) {
    const name = place.dataset.chart;
    const spec = structuredClone(data.charts[name].spec);
    const colour = data.charts[name].colours[place.dataset.colour];
    if (colour) for (const layer of spec.layer) layer.encoding.color = colour;
    const old = views.get(name);
    const made = await vegaEmbed(place, spec, {
      mode: "vega-lite", ast: true, actions: false, defaultStyle: false, renderer: "svg", tooltip: hover,
      config: themed(place.clientWidth), loader: { load: () => Promise.reject(new Error("nothing is loaded")) },
    });
    if (old) old.finalize();
    views.set(name, made);
    if (name === "map") made.view.addEventListener("click", (_event, item) => { if (item?.datum?.id !== undefined) point(item.datum); });
    place.dataset.drawn = dark.matches ? "dark" : "light";
  }
  const places = [...document.querySelectorAll("[data-chart]")];
  async function drawAll() {
    for (const place of places) await draw(place);
    document.documentElement.dataset.ready = "yes";
  }
  dark.addEventListener("change", drawAll);
  for (const choice of document.querySelectorAll("select[data-colours]")) {
    const place = document.querySelector(`[data-chart="${choice.dataset.colours}"]`);
    place.dataset.colour = choice.value;
    choice.addEventListener("change", () => { place.dataset.colour = choice.value; draw(place); });
  }

  // ── rows ──
  function bars(row) {
    const box = svg("svg", { class: "three", viewBox: "0 0 66 20", "aria-hidden": "true" });
    row.above.forEach((share, i) => {
      const high = 20 * (share ?? 0);
      box.append(svg("rect", { class: "p", x: i * 23, y: 0, width: 18, height: 20, rx: 2 }));
      box.append(svg("rect", { class: "c", x: i * 23, y: 20 - high, width: 18, height: high, rx: 2 }));
    });
    return box;
  }
  function line(share) {
    const box = svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
    box.append(svg("rect", { class: "p", x: 0, y: 0, width: 100, height: 8, rx: 2 }));
    box.append(svg("rect", { class: "c", x: 0, y: 0, width: 100 * (share ?? 0), height: 8, rx: 2 }));
    return box;
  }
  function text(label, shown, length) {
    const parts = [make("div", "lab", label)];
    const box = make("div", "text");
    box.dir = "auto";
    if (shown === null) box.append(make("span", "lab", "the text could not be read"));
    else put(box, shown);
    if (shown !== null && length > shown.length)
      box.append(make("span", "cut", `cut here: ${length.toLocaleString("en")} characters in the pool, ${shown.length.toLocaleString("en")} shown`));
    return [...parts, box];
  }
  // ── marks: rows for a list of the reader's own, saved as a file ──
  const marks = new Map(); // number of the row → its id
  let unsaved = false;
  function showMarks() {
    for (const node of document.querySelectorAll("[data-row]")) {
      const on = marks.has(Number(node.dataset.row));
      node.classList.toggle("marked", on);
      if (node.tagName === "BUTTON") {
        node.textContent = on ? "Unmark" : "Mark";
        node.setAttribute("aria-pressed", on);
      }
    }
    document.getElementById("marks").hidden = marks.size === 0;
    document.getElementById("marked").textContent = `${counted(marks.size, "row")} marked`;
  }
  function marker(row) {
    const button = make("button", "mark");
    button.type = "button";
    button.dataset.row = row.row;
    button.addEventListener("click", () => {
      if (!marks.delete(row.row)) marks.set(row.row, row.id);
      unsaved = marks.size > 0;
      showMarks();
    });
    return button;
  }
  document.getElementById("save").addEventListener("click", () => {
    const ordered = [...marks].sort(([one], [other]) => one - other);
    saveIds("marked.jsonl", ordered.map(([, id]) => id));
    unsaved = false;
  });
  document.getElementById("unmark").addEventListener("click", () => {
    marks.clear();
    unsaved = false;
    showMarks();
  });
  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

  function open(row) {
    const box = make("div", "open");
    box.append(marker(row), make("p", "why", row.why));
    const facts = make("div", "facts");
    data.metrics.forEach((name, i) => {
      facts.append(make("span", "", name), line(row.above[i]), make("span", "", number(row.values[i])));
      const weight = data.weights[i];
      const share = row.above[i] === null ? "undefined or not ranked" : `higher than ${(100 * row.above[i]).toFixed(0)}% of scored rows`;
      facts.append(make("span", "", share + (weight === null ? "" : `, weight ${weight}`)));
    });
    box.append(facts, ...text(`Instruction ${row.id}`, row.text, row.length));
    const answer = row.model === null ? "No answer" : `Answer of ${row.model}, reward ${number(row.reward)} (of ${row.rewards} ${row.rewards === 1 ? "reward" : "rewards"})`;
    box.append(...text(answer, row.answer, row.answerLength));
    return box;
  }
  function item(row) {
    const entry = make("li");
    entry.dataset.row = row.row;
    entry.classList.toggle("marked", marks.has(row.row));
    const details = make("details");
    const summary = make("summary");
    summary.append(
      make("span", row.rank === null ? "rank" : "rank in", row.rank === null ? "–" : row.rank),
      make("span", "snip", snippet(row)), bars(row),
      make("span", "who", row.model ?? "no answer"), make("span", "rew", number(row.reward)),
    );
    summary.children[1].dir = "auto";
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) {
        details.append(open(row));
        showMarks();
      }
    });
    entry.append(details);
    return entry;
  }
  const rows = data.rows.map((cells) => Object.fromEntries(data.fields.map((name, i) => [name, cells[i]])));
  const beginning = beginnings(rows.map(({ text }) => text));
  const snippet = (row) => beginning(row.text ?? row.id);
  // A point of the map: the whole row where the page has it, else what the map knows of it.
  const byPlace = new Map(rows.map((row) => [row.row, row]));
  function point(datum) {
    const place = document.getElementById("point"), row = byPlace.get(datum.row);
    if (row) place.replaceChildren(open(row));
    else {
      const box = make("div", "open");
      const known = make("dl", "pair");
      data.metrics.forEach((name, i) => known.append(make("dt", "", name), make("dd", "", number(datum[data.keys[i]]))));
      box.append(marker(datum), make("p", "why", datum.why), known, ...text(`Instruction ${datum.id}`, datum.text, datum.text.length));
      box.append(make("p", "lab", "The beginning of the instruction; for the whole row: crowdselect why DIR ID"));
      place.replaceChildren(box);
    }
    showMarks();
    place.hidden = false;
    place.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }
  for (const list of document.querySelectorAll("ol[data-rows]"))
    list.append(...data.lists[list.dataset.rows].map((i) => item(rows[i])));

  const found = document.getElementById("found");
  if (found) {
    const chosen = data.lists.chosen.map((i) => rows[i]);
    const hay = new Map(chosen.map((row) => [row, [row.id, row.text, row.answer, row.model, row.cluster].join("\n").toLowerCase()]));
    const [search, cluster, order, more, count] = ["search", "cluster", "order", "more", "count"].map((id) => document.getElementById(id));
    let hits = chosen;
    const value = {
      rank: (row) => row.rank, reward: (row) => -row.reward, length: (row) => -row.length, answer: (row) => -row.answerLength,
    };
    data.keys.forEach((key, i) => { value[key] = (row) => -row.values[i]; });
    const grow = () => {
      const begin = found.children.length;
      found.append(...hits.slice(begin, begin + STEP).map(item));
      more.hidden = found.children.length >= hits.length;
    };
    const filter = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      hits = chosen.filter((row) => (!cluster || !cluster.value || String(row.cluster) === cluster.value) && words.every((word) => hay.get(row).includes(word)));
      hits.sort((one, other) => value[order.value](one) - value[order.value](other) || one.rank - other.rank);
      count.textContent = `${hits.length.toLocaleString("en")} of ${chosen.length.toLocaleString("en")} rows`;
      found.replaceChildren();
      grow();
    };
    let waiting;
    search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
    for (const choice of [cluster, order]) if (choice) choice.addEventListener("change", filter);
    more.addEventListener("click", grow);
    filter();
  }
  drawAll();
})();
