// The rows: a table of which only the lines in sight exist, and one row opened.

/* Rows by a number, the lowest first (sign 1) or the highest (-1); NaN last, ties as they were. By digits of 16 bits: for
   100,000 rows ten times as fast as a comparison of each two. */
function sorted(rows, values, sign) {
  const keys = Float64Array.from(rows, (i) => Number.isNaN(values[i]) ? Infinity : sign * values[i] + 0); // no -0
  const halves = new Uint32Array(keys.buffer), digits = new Uint16Array(keys.buffer);
  for (let at = 0; at < halves.length; at += 2) { // so that the bits have the order of the numbers
    if (halves[at + 1] >>> 31) { halves[at] = ~halves[at]; halves[at + 1] = ~halves[at + 1]; } else halves[at + 1] ^= 0x80000000;
  }
  let from = Uint32Array.from(rows.keys()), to = new Uint32Array(rows.length);
  for (let digit = 0; digit < 4; digit += 1) {
    const begins = new Uint32Array(65537);
    for (const at of from) begins[digits[4 * at + digit] + 1] += 1;
    for (let i = 1; i < begins.length; i += 1) begins[i] += begins[i - 1];
    for (const at of from) to[begins[digits[4 * at + digit]]++] = at;
    [from, to] = [to, from];
  }
  return Int32Array.from(from, (at) => rows[at]);
}

/* A list of any length in a box that scrolls. `line(row, at)` makes a line; `open(at)` and `mark(row)` answer keys. */
function lines(box, spacer, { line, open, mark }) {
  const MOST = 12_000_000; // pixels that every browser can scroll
  let rows = new Int32Array(0), active = 0, high = 44, first = -1, last = -1;
  const fits = () => Math.min(rows.length, Math.floor(MOST / high));

  function draw() {
    const from = Math.max(0, Math.floor(box.scrollTop / high) - 6);
    const to = Math.min(fits(), Math.ceil((box.scrollTop + box.clientHeight) / high) + 6);
    if (from === first && to === last) return;
    [first, last] = [from, to];
    const made = [];
    for (let at = from; at < to; at += 1) {
      const node = line(rows[at], at);
      node.id = `line-${at}`;
      node.setAttribute("role", "row");
      node.setAttribute("aria-rowindex", at + 1);
      node.style.top = `${at * high}px`;
      node.classList.toggle("active", at === active);
      made.push(node);
    }
    spacer.replaceChildren(...made);
    if (active >= from && active < to) box.setAttribute("aria-activedescendant", `line-${active}`);
    else box.removeAttribute("aria-activedescendant");
  }
  const again = () => { first = -1; draw(); };
  function fit() {
    high = innerWidth <= 704 ? 62.4 : 44; // as in the stylesheet: 3.9rem and 2.75rem
    spacer.style.height = `${fits() * high}px`;
    again();
  }
  function activate(at) {
    active = Math.max(0, Math.min(fits() - 1, at));
    const above = active * high;
    if (above < box.scrollTop) box.scrollTop = above;
    else if (above + high > box.scrollTop + box.clientHeight) box.scrollTop = above + high - box.clientHeight;
    again();
  }
  box.addEventListener("scroll", draw, { passive: true });
  spacer.addEventListener("click", (event) => { // by its place: a line may be drawn anew while it is pressed
    const at = Math.floor((event.clientY - spacer.getBoundingClientRect().top) / high);
    activate(at);
    open(at);
  });
  box.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(box.clientHeight / high) - 1);
    const moves = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: Infinity };
    if (event.ctrlKey || event.metaKey || event.altKey || !rows.length) return;
    if (event.key in moves) activate(moves[event.key]);
    else if (event.key === "Enter") open(active);
    else if (event.key === "m" || event.key === "M") mark(rows[active]);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(fit).observe(box);
  return {
    again,
    activate,
    get rows() { return rows; },
    get left() { return rows.length - fits(); }, // rows that no browser could scroll to
    show(next, begin) {
      rows = next;
      if (begin) { active = 0; box.scrollTop = 0; }
      box.setAttribute("aria-rowcount", rows.length);
      active = Math.max(0, Math.min(active, rows.length - 1));
      fit();
    },
  };
}

// Small bars: the rank of each of a row's numbers among the eligible rows, NaN = none.
function smallBars(ranks) {
  const step = 66 / Math.max(ranks.length, 1), name = svg("title", {});
  const box = svg("svg", { class: "three", viewBox: "0 0 66 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  name.textContent = ranks.map((each) => `${each.name}: ${Number.isNaN(each.rank) ? "none" : `rank ${each.rank.toFixed(3)}`}`).join("\n");
  box.append(name);
  ranks.forEach(({ rank }, i) => {
    const wide = Math.min(18, step * 0.78), high = 20 * (Number.isNaN(rank) ? 0 : rank);
    box.append(svg("rect", { class: "p", x: i * step, y: 0, width: wide, height: 20, rx: 2 }));
    box.append(svg("rect", { class: "c", x: i * step, y: 20 - high, width: wide, height: high, rx: 2 }));
  });
  return box;
}

function levelBar(level) {
  const box = svg("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  box.append(svg("rect", { class: "p", x: 0, y: 0, width: 100, height: 8, rx: 2 }));
  box.append(svg("rect", { class: "c", x: 0, y: 0, width: 100 * (Number.isNaN(level) ? 0 : level), height: 8, rx: 2 }));
  return box;
}
