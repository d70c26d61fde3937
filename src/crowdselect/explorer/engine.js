// The choice of `crowdselect select`, made anew for any setting: no DOM, no network, whole numbers wherever rows are ordered.
//
// It runs in a worker (its messages are at the end). What is random or rests on a logarithm comes as a whole number per row
// that keeps the order, so that here is only ranked, added, multiplied and compared: docs/explore.md.
//
// in   {kind: "load", head, bytes}              head: the page's JSON; bytes: gzip, see payload.py
//      {kind: "choose", setting, token}
//      {kind: "labels", token}                  the file that `metrics` of some commands names
// out  {kind: "loaded", facts} or {kind: "loaded", error}
//      {kind: "chosen", token, error, milliseconds} if the setting cannot be filled, else
//      {kind: "chosen", token, rank, reason, refers, score, quotas, eligible, counts, random, command, recipe, labels, milliseconds}
//      {kind: "labels", token, name, text}
//
// setting  {method, weights: {name: number}, budget, clusters: true|false, keep: [{name, low, high}], answer}
//          low, high: null (open), a number, or a share of the rows such as "10%"; a band that is open at both ends is none.
//          Weights: at most six decimals, between -1000 and 1000.
// chosen   rank: Int32Array(n), 0 = not chosen. reason: Uint8Array(n), index into facts.reasons (words) and facts.codes.
//          refers: Int32Array(n), the row that this one repeats, -1 = none. score: Float64Array(n), NaN = not eligible; of
//          methods that draw, the place in the order of the draws, higher = earlier.
//          quotas: [{label, name, rows, chosen}], rows = those that can be chosen. eligible: the same
//          number for two choices = the same rows are eligible. counts: {code: rows}, codes that occur.
//          random: {name: {mean, spread}}, what a random choice with the same quotas has, per number: no draws, the formula.
//          command: the line that makes this choice; recipe: the same as [[select]] of a recipe. labels: the name of the file
//          that both need beside them, null = none: clusters were computed for other rows than those that are eligible now,
//          and are read from it.
// facts    n, names: {ids, texts, answers and their rewards, of start.answer, or null}, metrics: [{name, words, low, high, values, weight, by: {rule: values} or null}], bands: [{name, words, low, high}],
//          methods: [{name, words, weighted}], answers, budgetMost, clusters: [{label, name, rows}], clusterOf, teachers,
//          teacherOf: {rule: Uint16Array, 65535 = nobody}, lengths: [{name, values}], map: {x, y, words} or null,
//          student: {name, crowd, own} or null, saved: {rank, setting} or null, reasons, codes, start, notes.
"use strict";

const NOBODY = 65535, NO_VALUE = 0xffffffff;
const BELOW = 0, CHOSEN = 1, REPEATS = 2; // reasons of eligible rows; payload.py puts them first
const DECIMALS = 6, LARGEST = 1000; // of weights: then every score is a whole number of half steps, below 2^53

// ── numbers as they are typed ──

// A decimal number as a whole number and the power of ten that divides it.
function decimal(value) {
  const [digits, exponent = "0"] = String(value).split("e"), [front, back = ""] = digits.split(".");
  const shift = back.length - Number(exponent);
  return shift >= 0 ? [BigInt(front + back), shift] : [BigInt(front + back) * 10n ** BigInt(-shift), 0];
}

// A band's end: {value, share}; a share is a number from 0 to 1, as near to the percentage as a number can be.
function bandEnd(end) {
  if (end === null || end === undefined || end === "") return null;
  const text = String(end).trim(), share = text.endsWith("%"), digits = share ? text.slice(0, -1) : text;
  if (!/^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(digits)) throw new Error(`${text} is no number`);
  const [front, exponent = "0"] = digits.toLowerCase().split("e");
  const value = Number(share ? `${front}e${Number(exponent) - 2}` : digits);
  if (!Number.isFinite(value) || (share && !(value >= 0 && value <= 1))) throw new Error(`${text} is outside ${share ? "0% to 100%" : "any range"}`);
  return { value, share, text: digits + (share ? "%" : "") };
}

const bandsOf = ({ keep }) => keep.map(({ name, low, high }) => ({ name, low: bandEnd(low), high: bandEnd(high) })).filter(({ low, high }) => low || high);
const weightsOf = ({ weights }, known) => known.filter(({ name, weight }) => weight && weights[name]).map(({ name }) => [name, Number(weights[name])]);

// ── the command and the recipe ──

// All options of a setting, in the order in which they are typed: [name, value]; true is a flag, an array is given several times.
function optionsOf(setting, head, labels) {
  const { name: method, weighted } = head.methods.find(({ name }) => name === setting.method), spread = head.spread;
  const options = head.options.filter(([name]) => !(labels && name === "metrics"));
  options.push(["method", method]);
  if (weighted) options.push(["weights", Object.fromEntries(weightsOf(setting, head.numbers))]);
  options.push(["budget", setting.budget]);
  if (labels) options.push(["metrics", labels], ["cluster-by", spread.column]);
  else if (setting.clusters && spread.by !== null) options.push(["cluster-by", spread.by]);
  else options.push(["clusters", setting.clusters ? spread.clusters : 0]);
  const keep = bandsOf(setting).map(({ name, low, high }) => `${name}=${low ? low.text : ""}..${high ? high.text : ""}`);
  if (keep.length) options.push(["keep", keep]);
  if (setting.answer !== "best") options.push(["answer", setting.answer]);
  return options;
}
function quoted(text) {
  if (/^[\w@%+=:,./-]+$/.test(text)) return text;
  if (!/[\u0000-\u001f\u007f-\u009f]/.test(text)) return `'${text.replaceAll("'", `'"'"'`)}'`;
  // What a terminal would act on is written as an escape, which bash and zsh read.
  const escape = (sign) => sign === "'" || sign === "\\" ? `\\${sign}` : `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return `$'${text.replace(/['\\\u0000-\u001f\u007f-\u009f]/g, escape)}'`;
}
function command(setting, head, labels = null) {
  const words = ["crowdselect", "select", head.pool, ...head.read];
  const flag = (name, value) => {
    const text = String(value);
    words.push(...(text.startsWith("-") ? [`--${name}=${text}`] : [`--${name}`, text]));
  };
  for (const [name, value] of optionsOf(setting, head, labels)) {
    if (value === true) words.push(`--${name}`);
    else if (Array.isArray(value)) for (const each of value) flag(name, each);
    else if (typeof value === "object") flag(name, Object.entries(value).map((pair) => pair.join("=")).join(","));
    else flag(name, value);
  }
  return [...words, "-o", "chosen"].map(quoted).join(" ");
}
function recipe(setting, head, labels = null) {
  const text = (value) => JSON.stringify(value).replace(/\u007f/g, "\\u007f");
  const toml = (value) => Array.isArray(value) ? `[${value.map(toml).join(", ")}]`
    : typeof value === "object" ? `{ ${Object.entries(value).map(([name, each]) => `${text(name)} = ${toml(each)}`).join(", ")} }`
    : typeof value === "string" ? text(value) : String(value);
  return ["[[select]]", ...optionsOf(setting, head, labels).map(([name, value]) => `${name} = ${toml(value)}`), ""].join("\n");
}

// ── the pool's numbers ──

const KINDS = { u8: Uint8Array, u16: Uint16Array, u32: Uint32Array, i32: Int32Array, f32: Float32Array, f64: Float64Array };

async function unpacked(bytes, sections) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const all = new Uint8Array(await new Response(stream).arrayBuffer()), found = {};
  let at = 0;
  for (const { name, kind, length, same } of sections) {
    if (same !== undefined) { found[name] = found[same]; continue; }
    if (kind === "json") {
      found[name] = JSON.parse(new TextDecoder().decode(all.subarray(at, at + length)));
      at += length;
      continue;
    }
    // The first bytes of all numbers come first, then the second ones: so they pack better.
    const Kind = KINDS[kind], size = Kind.BYTES_PER_ELEMENT, into = new Uint8Array(length * size);
    for (let byte = 0; byte < size; byte += 1, at += length)
      for (let i = 0, to = byte; i < length; i += 1, to += size) into[to] = all[at + i];
    found[name] = new Kind(into.buffer);
  }
  return found;
}

class Engine {
  constructor(head, parts) {
    const { n } = head;
    Object.assign(this, { head, parts, n });
    this.byKey = new Uint32Array(n); // rows in the order in which ties are broken
    parts.key.forEach((place, row) => { this.byKey[place] = row; });
    this.codes = head.codes;
    this.barring = new Map(); // what bars a row → {reason, eligible}, the latest few
    this.ranks = new Map(); // "number, eligibility" → half steps
    this.tallies = new Map(); // number → how many rows have each code
    this.values = new Map();
    this.version = 0;
  }

  // A number's values, shape (n,), NaN = none; of one that rests on the answer, those by a rule.
  section(name, answer) {
    const number = this.head.numbers.find((each) => each.name === name);
    return number.byAnswer ? `${name} ${answer}` : name;
  }
  valuesOf(section) {
    if (!this.values.has(section)) {
      const code = this.parts[`code ${section}`], values = this.parts[`value ${section}`];
      this.values.set(section, Float64Array.from(code, (at) => at === NO_VALUE ? NaN : values[at]));
    }
    return this.values.get(section);
  }

  // ── who is eligible ──
  bars(setting) {
    const weights = weightsOf(setting, this.head.numbers).map(([name]) => name);
    const { weighted } = this.head.methods.find(({ name }) => name === setting.method), bands = bandsOf(setting);
    const key = JSON.stringify([weighted ? weights : null, bands, setting.answer]);
    let found = this.barring.get(key);
    if (found) return found;
    const { n, parts, codes } = this, reason = parts[`before ${setting.answer}`].slice();
    const bar = (name, holds) => {
      const index = codes.indexOf(name);
      for (let row = 0; row < n; row += 1) if (reason[row] === BELOW && holds(row)) reason[row] = index;
    };
    const lacks = (name) => { const code = parts[`code ${this.section(name, setting.answer)}`]; return (row) => code[row] === NO_VALUE; };
    if (!bands.some(({ name }) => name === "rewards")) bar("too_few_rewards", (row) => parts.few[row] === 1);
    if (weighted) {
      // The reasons in the order of the library: too few rewards first, metrics in their order, other numbers last.
      const used = this.head.numbers.filter(({ name }) => weights.includes(name));
      for (const { name, undefined: code } of used) if (code === "too_few_rewards") bar(code, lacks(name));
      for (const { name, undefined: code } of used) if (code !== "too_few_rewards" && code !== "no_number") bar(code, lacks(name));
      for (const { name, undefined: code } of used) if (code === "no_number") bar(code, lacks(name));
    }
    const after = parts[`after ${setting.answer}`];
    for (let row = 0; row < n; row += 1) if (reason[row] === BELOW) reason[row] = after[row];
    for (const { name, low, high } of bands) {
      const code = parts[`code ${this.section(name, setting.answer)}`], { first, last } = this.inside(name, setting.answer, low, high);
      bar(`no_number:${name}`, (row) => code[row] === NO_VALUE);
      bar(`outside:${name}`, (row) => code[row] < first || code[row] > last);
    }
    const rows = [];
    for (let at = 0; at < n; at += 1) if (reason[this.byKey[at]] === BELOW) rows.push(this.byKey[at]);
    const seen = new Set();
    let distinct = 0;
    for (const row of rows) {
      const group = parts.group[row];
      if (group < 0) distinct += 1;
      else seen.add(group);
    }
    let fitted = !parts.fitted || rows.length === this.head.spread.fitted;
    if (fitted && parts.fitted) fitted = rows.every((row) => parts.fitted[row] === 1);
    found = { reason, rows: Uint32Array.from(rows), distinct: distinct + seen.size, fitted, version: ++this.version };
    this.barring.set(key, found);
    if (this.barring.size > 8) {
      this.barring.delete(this.barring.keys().next().value);
      for (const each of this.ranks.keys()) if (![...this.barring.values()].some(({ version }) => each.endsWith(` ${version}`))) this.ranks.delete(each);
    }
    return found;
  }
  // The codes of the values within a band.
  inside(name, answer, low, high) {
    const section = this.section(name, answer), values = this.parts[`value ${section}`], code = this.parts[`code ${section}`];
    if (!this.tallies.has(section)) {
      const tally = new Uint32Array(values.length);
      for (const at of code) if (at !== NO_VALUE) tally[at] += 1;
      this.tallies.set(section, tally);
    }
    const tally = this.tallies.get(section), known = tally.reduce((sum, count) => sum + count, 0);
    const at = (share, up) => { // the code at a share of the rows, the higher one if it lies between two
      const [number, shift] = decimal(share), scale = 10n ** BigInt(shift), place = number * BigInt(known - 1);
      let left = Number((up ? place + scale - 1n : place) / scale);
      for (let i = 0; i < tally.length; i += 1) {
        if (left < tally[i]) return i;
        left -= tally[i];
      }
      return tally.length - 1;
    };
    let first = 0, last = NO_VALUE - 1;
    if (low) {
      if (low.share) first = known ? at(low.value, true) : 0;
      else while (first < values.length && values[first] < low.value) first += 1;
    }
    if (high) {
      if (high.share) last = known ? at(high.value, false) : last;
      else {
        last = values.length - 1;
        while (last >= 0 && values[last] > high.value) last -= 1;
      }
    }
    return { first, last };
  }

  // ── scores: whole numbers of half steps ──
  halfSteps(section, { rows, version }) {
    const key = `${section} ${version}`;
    if (this.ranks.has(key)) return this.ranks.get(key);
    const code = this.parts[`code ${section}`], counts = new Uint32Array(this.parts[`value ${section}`].length), out = new Float64Array(this.n);
    for (const row of rows) counts[code[row]] += 1;
    let before = 0;
    const shared = Float64Array.from(counts, (count) => { const steps = 2 * before + count - 1; before += count; return steps; });
    for (const row of rows) out[row] = rows.length === 1 ? 1 : shared[code[row]];
    this.ranks.set(key, out);
    return out;
  }
  // The sum of weighted half steps of each eligible row, and what divides it to give the score.
  totals(setting, bars) {
    const { n } = this, total = new Float64Array(n), { weighted } = this.head.methods.find(({ name }) => name === setting.method);
    if (!weighted) {
      const order = this.parts[`order ${setting.method}`];
      for (const row of bars.rows) total[row] = order[row];
      return { total, scale: 1 };
    }
    const weights = weightsOf(setting, this.head.numbers);
    const shift = Math.max(...weights.map(([, weight]) => decimal(weight)[1]));
    for (const [name, weight] of weights) {
      const [digits, own] = decimal(weight), whole = Number(digits * 10n ** BigInt(shift - own));
      const steps = this.halfSteps(this.section(name, setting.answer), bars);
      for (const row of bars.rows) total[row] += whole * steps[row];
    }
    return { total, scale: 10 ** shift * Math.max(2 * bars.rows.length - 2, 2) };
  }
  // The eligible rows, best first: sorted by digits of 16 bits from the order in which ties are broken.
  ordered(rows, total) {
    let most = -Infinity, least = Infinity;
    for (const row of rows) {
      most = Math.max(most, total[row]);
      least = Math.min(least, total[row]);
    }
    const count = rows.length, range = most - least;
    let from = rows, to = new Uint32Array(count);
    const counts = new Uint32Array(65537), digits = new Uint16Array(this.n);
    for (let scale = 1; scale <= range; scale *= 65536) {
      counts.fill(0);
      for (let i = 0; i < count; i += 1) {
        const row = from[i], below = most - total[row];
        const digit = scale === 1 ? below >>> 0 & 65535 : Math.floor(below / scale) >>> 0 & 65535;
        digits[row] = digit;
        counts[digit + 1] += 1;
      }
      for (let digit = 0; digit < 65536; digit += 1) counts[digit + 1] += counts[digit];
      for (let i = 0; i < count; i += 1) to[counts[digits[from[i]]]++] = from[i];
      [from, to] = [to, from === rows ? new Uint32Array(count) : from];
    }
    return from;
  }

  // ── the choice ──
  problem(setting) {
    const { head } = this, method = head.methods.find(({ name }) => name === setting.method);
    if (!method) return `there is no method ${setting.method} on this page`;
    if (!head.answers.includes(setting.answer)) return `there is no answer ${setting.answer} on this page`;
    if (!Number.isInteger(setting.budget) || setting.budget < 1) return `a budget of ${setting.budget}: wanted a whole number, at least 1`;
    for (const { name, low, high } of bandsOf(setting)) {
      if (!head.numbers.some((each) => each.name === name)) return `there is no number ${name} on this page`;
      if (low && high && low.share === high.share && low.value > high.value) return `the band of ${name} holds nothing: its lower end is above its upper one`;
    }
    if (!method.weighted) return null;
    for (const [name, weight] of Object.entries(setting.weights)) {
      if (!weight) continue;
      if (!head.numbers.some((each) => each.name === name && each.weight)) return `there is no number ${name} to weigh on this page`;
      if (!Number.isFinite(weight) || Math.abs(weight) > LARGEST || decimal(weight)[1] > DECIMALS)
        return `the weight of ${name} is ${weight}: wanted at most ${DECIMALS} decimals, and nothing beyond ${LARGEST}; only the weights' ratios count`;
    }
    return weightsOf(setting, head.numbers).length ? null : "all weights are 0: give at least one number a weight";
  }
  choose(setting) {
    const problem = this.problem(setting);
    if (problem) return { error: problem };
    const { n, parts, head } = this, bars = this.bars(setting), { budget } = setting;
    if (budget > bars.distinct) {
      const copies = bars.rows.length - bars.distinct;
      return { error: `a budget of ${budget} is more than can be chosen: ${bars.rows.length} rows are eligible${copies ? `, ${copies} of them duplicates of others; ${bars.distinct} is the most` : ""}` };
    }
    const { total, scale } = this.totals(setting, bars), order = this.ordered(bars.rows, total);
    const clustered = setting.clusters && Boolean(parts.label), count = clustered ? head.clusters.length + 1 : 1;
    const labels = clustered ? parts.label : null, last = count - 1; // rows without a label are the last cluster
    const cluster = (row) => labels === null ? 0 : labels[row] === NOBODY ? last : labels[row];

    const rank = new Int32Array(n), reason = bars.reason.slice(), refers = new Int32Array(n).fill(-1), score = new Float64Array(n).fill(NaN);
    const best = new Map(), capacity = new Uint32Array(count), candidates = new Uint32Array(bars.distinct);
    let found = 0;
    for (const row of order) {
      score[row] = total[row] / scale;
      const group = parts.group[row];
      if (group >= 0) {
        if (best.has(group)) {
          refers[row] = best.get(group);
          reason[row] = REPEATS;
          continue;
        }
        best.set(group, row);
      }
      candidates[found++] = row;
      capacity[cluster(row)] += 1;
    }
    const [level, left] = waterFill(capacity.filter((rows) => rows > 0), budget);
    const quota = capacity.map((rows) => Math.min(rows, level)), met = new Uint32Array(count);
    let places = left;
    for (let i = 0; i < candidates.length && places > 0; i += 1) { // the last places: one each, to the best next rows
      const c = cluster(candidates[i]);
      if (met[c]++ === level) {
        quota[c] += 1;
        places -= 1;
      }
    }
    const taken = new Uint32Array(count);
    let place = 0;
    for (const row of candidates) {
      const c = cluster(row);
      if (taken[c] === quota[c]) continue;
      taken[c] += 1;
      rank[row] = ++place;
      reason[row] = CHOSEN;
      if (place === budget) break;
    }
    const quotas = [];
    if (clustered) capacity.forEach((rows, label) => { if (rows) quotas.push({ label: label === last ? NOBODY : label, name: head.clusters[label] ?? "(missing)", rows, chosen: taken[label] }); });
    const file = clustered && !bars.fitted ? head.spread.file : null;
    return {
      rank, reason, refers, score, quotas, eligible: bars.version,
      counts: this.counted(reason),
      random: this.atRandom(candidates, cluster, capacity, taken, setting.answer),
      command: command(setting, head, file), recipe: recipe(setting, head, file), labels: file,
    };
  }
  counted(reason) {
    const counts = new Uint32Array(this.codes.length);
    for (const each of reason) counts[each] += 1;
    return Object.fromEntries(this.codes.map((code, i) => [code, counts[i]]).filter(([, count]) => count));
  }
  // Mean and spread of a random choice of as many rows from each cluster; rows without a value do not count.
  atRandom(candidates, cluster, capacity, quota, answer) {
    const found = {}, count = capacity.length;
    const sections = [...this.head.numbers.map(({ name }) => [name, this.valuesOf(this.section(name, answer))]), ...this.lengths.map(({ name, values }) => [name, values])];
    for (const [name, values] of sections) {
      const known = new Float64Array(count), sum = new Float64Array(count), squares = new Float64Array(count);
      for (const row of candidates) {
        const value = values[row];
        if (Number.isNaN(value)) continue;
        const c = cluster(row), before = value - (known[c] ? sum[c] / known[c] : 0);
        known[c] += 1;
        sum[c] += value;
        squares[c] += before * (value - sum[c] / known[c]);
      }
      let drawn = 0, mean = 0, variance = 0;
      for (let c = 0; c < count; c += 1) {
        const rows = known[c] && quota[c] * known[c] / capacity[c]; // of the quota, those that have a value
        if (!rows) continue;
        drawn += rows;
        mean += rows * sum[c] / known[c];
        if (known[c] > 1) variance += rows * Math.max(0, 1 - rows / known[c]) * squares[c] / (known[c] - 1);
      }
      if (drawn) found[name] = { mean: mean / drawn, spread: Math.sqrt(variance) / drawn };
    }
    return found;
  }

  // ── what the page knows of the pool ──
  facts() {
    const { head, parts, n } = this, rows = new Uint32Array(head.clusters.length);
    if (parts.label) for (const label of parts.label) if (label !== NOBODY) rows[label] += 1;
    const ends = (name) => { const values = parts[`value ${this.section(name, head.start.answer)}`]; return { low: values[0], high: values.at(-1) }; };
    const shown = head.numbers.map(({ name, words, weight }) => ({ name, words, weight, ...ends(name) }));
    const of = (kind) => Object.fromEntries(head.answers.map((rule) => [rule, parts[`${kind} ${rule}`]]));
    return {
      n, names: { ids: parts.ids, texts: parts.texts ?? null, answers: parts.answers ?? null, rewards: parts.reward ?? null },
      metrics: shown.filter(({ weight }) => weight).map((each) => ({ ...each, values: this.valuesOf(this.section(each.name, head.start.answer)), by: this.byAnswer(each.name) })),
      bands: shown, methods: head.methods, answers: head.answers, budgetMost: head.budgetMost,
      clusters: head.clusters.map((name, label) => ({ label, name, rows: rows[label] })), clusterOf: parts.label ?? null,
      teachers: head.teachers, teacherOf: of("teacher"),
      lengths: this.lengths,
      map: parts.x ? { x: parts.x, y: parts.y, words: head.map } : null,
      student: head.student && { name: head.student, crowd: this.valuesOf("ease"), own: this.valuesOf("student_good") },
      saved: parts.saved ? { rank: parts.saved, setting: head.start } : null,
      reasons: head.reasons, codes: head.codes, start: head.start, notes: head.notes,
    };
  }
  // The values of a number that rests on the answer, by each rule; null = it does not.
  byAnswer(name) {
    if (!this.head.numbers.find((each) => each.name === name).byAnswer) return null;
    return Object.fromEntries(this.head.answers.map((rule) => [rule, this.valuesOf(`${name} ${rule}`)]));
  }
  get lengths() {
    return this.parts.long ? [{ name: "instruction", values: this.parts.long }] : [];
  }
  // The clusters of this page as a file for `metrics`, beside the numbers that such a file held before.
  labels() {
    const { head, parts, n } = this, lines = [], numbers = head.numbers.filter(({ file }) => file).map(({ name }) => [name, this.valuesOf(name)]);
    for (let row = 0; row < n; row += 1) {
      const line = { id: parts.ids[row], [head.spread.column]: parts.label[row] === NOBODY ? null : parts.label[row] };
      for (const [name, values] of numbers) line[name] = Number.isNaN(values[row]) ? null : values[row];
      lines.push(JSON.stringify(line));
    }
    return { name: head.spread.file, text: `${lines.join("\n")}\n` };
  }
}

// The level up to which every cluster is filled, and the places that are left then.
function waterFill(capacities, budget) {
  const open = Float64Array.from(capacities).sort();
  let level = 0, left = budget;
  for (let filled = 0; filled < open.length; filled += 1) {
    const step = Math.min(open[filled] - level, Math.floor(left / (open.length - filled)));
    left -= step * (open.length - filled);
    level += step;
    if (level < open[filled]) break;
  }
  return [level, left];
}

// ── messages ──

if (typeof WorkerGlobalScope !== "undefined") {
  let engine;
  const told = (error) => (error instanceof Error ? error.message : String(error));
  self.onmessage = async ({ data }) => {
    const began = performance.now();
    if (data.kind === "load") {
      try {
        engine = new Engine(data.head, await unpacked(data.bytes, data.head.sections));
        postMessage({ kind: "loaded", facts: engine.facts() });
      } catch (error) {
        postMessage({ kind: "loaded", error: told(error) });
      }
    } else if (data.kind === "choose") {
      let found;
      try {
        found = engine.choose(data.setting);
      } catch (error) {
        found = { error: told(error) };
      }
      const buffers = found.error ? [] : ["rank", "reason", "refers", "score"].map((name) => found[name].buffer);
      postMessage({ kind: "chosen", token: data.token, ...found, milliseconds: performance.now() - began }, buffers);
    } else if (data.kind === "labels") postMessage({ kind: "labels", token: data.token, ...engine.labels() });
  };
}
