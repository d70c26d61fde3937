"use strict";
// A stand-in for the engine of `explore`, for tests of its page alone: weighted ranks, clusters and bands, no ties.
let facts, labels;

function command({ weights, budget, clusters, keep, answer }) {
  const named = Object.entries(weights).filter(([, weight]) => weight).map((pair) => pair.join("=")).join(",");
  const bands = keep.filter(({ low, high }) => low !== null || high !== null).map(({ name, low, high }) => ` --keep ${name}=${low ?? ""}..${high ?? ""}`);
  return `crowdselect select pool.parquet --budget ${budget} --weights ${named} --clusters ${clusters ? facts?.clusters.length ?? 3 : 0}${bands.join("")} --answer ${answer}`;
}
const recipe = ({ budget }) => `[select]\nbudget = ${budget}\n`;

async function load(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = JSON.parse(await new Response(stream).text());
  const numbers = (values) => Float64Array.from(values, (value) => value ?? NaN);
  for (const each of [...found.metrics, ...found.lengths]) each.values = numbers(each.values);
  for (const rule of Object.keys(found.teacherOf)) found.teacherOf[rule] = Uint16Array.from(found.teacherOf[rule]);
  if (found.map) for (const axis of ["x", "y"]) found.map[axis] = Float32Array.from(found.map[axis]);
  if (found.saved) found.saved.rank = Int32Array.from(found.saved.rank);
  if (found.student) for (const side of ["crowd", "own"]) found.student[side] = numbers(found.student[side]);
  labels = found.clusterOf = Int32Array.from(found.clusterOf);
  facts = found;
  return found;
}

function choose(setting) {
  const { weights, budget, clusters, keep } = setting;
  const { n } = facts, reason = new Uint8Array(n).fill(1), score = new Float64Array(n), rank = new Int32Array(n);
  for (const { name, low, high } of keep) {
    const { values } = facts.metrics.find((each) => each.name === name);
    values.forEach((value, i) => { if (value < (low ?? -Infinity) || value > (high ?? Infinity)) reason[i] = 2; });
  }
  for (const { name, values } of facts.metrics) {
    const rows = Array.from(values.keys()).filter((i) => reason[i] === 1 && !Number.isNaN(values[i])).sort((one, two) => values[one] - values[two]);
    const places = new Float64Array(n).fill(NaN);
    rows.forEach((i, place) => { places[i] = place / Math.max(rows.length - 1, 1); });
    if (weights[name]) for (let i = 0; i < n; i += 1) score[i] += weights[name] * places[i];
  }
  const order = Array.from(score.keys()).filter((i) => reason[i] === 1 && !Number.isNaN(score[i])).sort((one, two) => score[two] - score[one] || one - two);
  score.forEach((_score, i) => { if (reason[i] !== 1) score[i] = NaN; });
  if (budget > order.length) return { error: `\`budget=${budget}\` is more than can be chosen: ${order.length} instructions are eligible` };
  const groups = clusters ? facts.clusters : [{ label: 0, name: "all" }], of = (i) => clusters ? labels[i] : 0;
  const quotas = groups.map(({ label, name }) => ({ label, name, rows: order.filter((i) => of(i) === label).length, chosen: 0 }));
  for (let left = budget; left;) for (const each of quotas) if (left && each.chosen < each.rows) { each.chosen += 1; left -= 1; }
  const open = new Map(quotas.map(({ label, chosen }) => [label, chosen]));
  let place = 0;
  for (const i of order) if (open.get(of(i)) > 0) {
    open.set(of(i), open.get(of(i)) - 1);
    rank[i] = place += 1;
    reason[i] = 0;
  }
  const refers = new Int32Array(n).fill(-1), counts = Object.fromEntries(facts.reasons.map((words, at) => [words, reason.filter((each) => each === at).length]));
  return { rank, reason, refers, score, quotas: clusters ? quotas : [], counts, command: command(setting), recipe: recipe(setting), labels: null };
}

if (typeof window === "undefined") addEventListener("message", async ({ data }) => {
  if (data.kind === "load") postMessage({ kind: "loaded", facts: await load(data.bytes) });
  else postMessage({ kind: "chosen", token: data.token, milliseconds: 0, ...choose(data.setting) });
});
