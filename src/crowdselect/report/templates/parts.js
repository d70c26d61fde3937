"use strict";
// What the scripts of several pages share. Everything that comes from a pool reaches a page through `put`, as text.
const make = (tag, name, text) => {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text !== undefined) put(node, String(text));
  return node;
};
// Characters that move or hide others are shown by their number; all else as it is.
const odd = /(?![\n\t\r])[\p{Cc}\p{Cs}\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;
function put(node, text) {
  let from = 0;
  for (const hit of text.matchAll(odd)) {
    node.append(text.slice(from, hit.index));
    const sign = document.createElement("span");
    sign.className = "ctl";
    sign.textContent = "U+" + hit[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(sign);
    from = hit.index + hit[0].length;
  }
  node.append(text.slice(from));
}
const svg = (tag, attributes) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};
const number = (value) => value === null ? "–" : Number(value.toPrecision(4)).toLocaleString("en");
const counted = (count, one, many = one + "s") => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/* What a line shows of a text. Texts made of one template begin alike: where three or more do, it is where they begin to
   differ. */
function beginnings(texts) {
  const BEGIN = 80, LINE = 240, alike = new Map();
  for (const text of texts) {
    if (text === null || text.length <= BEGIN) continue;
    const key = text.slice(0, BEGIN), known = alike.get(key);
    if (!known) { alike.set(key, { text, length: text.length, rows: 1 }); continue; }
    let end = BEGIN;
    while (end < known.length && known.text[end] === text[end]) end += 1;
    known.length = end;
    known.rows += 1;
  }
  return (text) => {
    const known = alike.get(text.slice(0, BEGIN));
    if (!known || known.rows < 3 || known.length >= text.length) return text.slice(0, LINE);
    const begin = text.slice(0, known.length).search(/\S*$/); // no word is cut in two
    const from = begin > BEGIN ? begin : known.length;
    return `\u2026 ${text.slice(from, from + LINE).replace(/^[\uDC00-\uDFFF]/, "").trimStart()}`; // nor a character
  };
}

// What is shown beside the pointer: a text, and names with values.
const tip = make("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
function showTip(event, facts, text) {
  const list = make("dl");
  for (const [name, shown] of facts) list.append(make("dt", "", name), make("dd", "", shown));
  tip.replaceChildren(...(text === undefined ? [] : [make("p", "", text)]), list);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = Math.min(event.clientX + 14, innerWidth - box.width - 8);
  const below = event.clientY + 16;
  tip.style.left = Math.max(8, left) + "px";
  tip.style.top = (below + box.height > innerHeight ? Math.max(8, event.clientY - box.height - 12) : below) + "px";
}
const hideTip = () => { tip.hidden = true; };
addEventListener("scroll", hideTip, { passive: true });

// A file of the reader's own; nothing is sent anywhere.
function saveFile(name, type, parts) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob(parts, { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
// A JSON object per line, for `--include` and `--exclude`: an id may hold line ends and spaces.
const saveIds = (name, ids) => saveFile(name, "application/jsonl", ids.map((id) => JSON.stringify({ id }) + "\n"));
