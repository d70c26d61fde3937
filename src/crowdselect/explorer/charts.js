// What is drawn: histograms and the map. Each is made once for a pool, and told which rows are chosen when that changes.

const BINS = 40;

// Bins of equal width between low and high, or of equal ratio; 255 = no value.
function binned(values, low, high, logarithmic) {
  const scale = logarithmic ? (value) => Math.log(Math.max(value, low)) : (value) => value;
  const bins = new Uint8Array(values.length), begin = scale(low), wide = (scale(high) - begin) / BINS || 1;
  for (let i = 0; i < bins.length; i += 1) {
    const at = (scale(values[i]) - begin) / wide;
    bins[i] = Number.isNaN(at) ? 255 : Math.max(0, Math.min(BINS - 1, Math.floor(at)));
  }
  return bins;
}

function mean(values, rows) {
  let sum = 0, count = 0;
  for (const i of rows) {
    const value = values[i];
    if (Number.isNaN(value)) continue;
    sum += value;
    count += 1;
  }
  return count ? sum / count : NaN;
}

// The shares of some rows per bin.
function shares(bins, rows) {
  const counts = new Float64Array(BINS);
  let count = 0;
  for (const i of rows) {
    if (bins[i] === 255) continue;
    counts[bins[i]] += 1;
    count += 1;
  }
  return counts.map((value) => count ? value / count : 0);
}

// Steps over a box 100 wide and 40 high; closed along the bottom, or only their upper edge.
function steps(heights, top, closed) {
  const wide = 100 / BINS;
  let path = closed ? "M0 40" : "";
  heights.forEach((height, i) => {
    const y = (40 - 40 * height / top).toFixed(2);
    path += `${path ? "L" : "M"}${(i * wide).toFixed(2)} ${y}L${((i + 1) * wide).toFixed(2)} ${y}`;
  });
  return closed ? path + "L100 40Z" : path;
}

/* A histogram of one number: the pool, the chosen, and what the choice is compared with. `by`: its values by whose answer
   is trained on, if they rest on that. Numbers that are far apart are on a logarithmic axis, but shares never are. */
function histogram(name, words, { values, by, low, high, pool }) {
  const logarithmic = low > 0 && high > 1 && high / low > 40;
  const figure = make("figure", "histogram"), head = make("figcaption"), means = make("span");
  head.append(make("h3", "", name), means);
  head.firstChild.title = name;
  const box = svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", role: "img" });
  const paths = ["of-pool", "of-chosen", "of-other"].map((kind) => svg("path", { class: kind }));
  box.append(...paths);
  const ends = make("div", "ends");
  ends.append(make("span", "", number(low)), make("span", "", number(high)));
  figure.append(head, box, ends);
  const says = [words, logarithmic ? "logarithmic axis" : ""].filter(Boolean).join("; ");
  if (says) figure.append(make("p", "says", says));
  const known = new Map(); // answer → bins and figures of the pool
  function pooled(answer) {
    const key = by?.[answer] ? answer : "";
    if (!known.has(key)) {
      const now = key ? by[answer] : values, bins = binned(now, low, high, logarithmic);
      known.set(key, { values: now, bins, whole: shares(bins, pool), ofPool: mean(now, pool) });
    }
    return known.get(key);
  }
  return {
    node: figure,
    draw(chosen, other, answer) {
      const { values: shown, bins, whole, ofPool } = pooled(answer);
      const ours = shares(bins, chosen), theirs = shares(bins, other);
      let top = 0;
      for (const heights of [whole, ours, theirs]) for (const height of heights) top = Math.max(top, height);
      paths[0].setAttribute("d", steps(whole, top || 1, true));
      paths[1].setAttribute("d", steps(ours, top || 1, true));
      paths[2].setAttribute("d", other.length ? steps(theirs, top || 1, false) : "");
      const now = mean(shown, chosen);
      means.replaceChildren(`mean ${shownNumber(ofPool)} \u2192 `, make("b", "", shownNumber(now)));
      box.setAttribute("aria-label", `${name}: mean of the pool ${shownNumber(ofPool)}, of the chosen ${shownNumber(now)}`);
    },
  };
}

const shownNumber = (value) => number(Number.isNaN(value) ? null : value);

/* The map: a point per row, on a canvas. Points of the pool are drawn into pixels and kept until the view changes;
   those of a choice are drawn over them. */
function pointMap(canvas, xs, ys, { tell, open }) {
  const context = canvas.getContext("2d"), below = document.createElement("canvas");
  const view = { x: 0, y: 0, zoom: 1 };
  let width = 0, height = 0, ratio = 1, stale = true, groups = [];

  const extent = (values) => {
    let low = Infinity, high = -Infinity;
    for (const value of values) if (!Number.isNaN(value)) { low = Math.min(low, value); high = Math.max(high, value); }
    return { middle: (low + high) / 2, range: high - low || 1 };
  };
  const across = extent(xs), upwards = extent(ys);
  const side = () => 0.92 * Math.min(width / across.range, height / upwards.range) * view.zoom;
  const places = () => {
    const k = side();
    return { k, left: width / 2 - k * (across.middle + view.x), top: height / 2 + k * (upwards.middle + view.y) };
  };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function fit() {
    const box = canvas.getBoundingClientRect();
    ratio = devicePixelRatio || 1;
    const wide = Math.round(box.width * ratio), high = Math.round(box.height * ratio);
    if (wide === canvas.width && high === canvas.height) return;
    canvas.width = below.width = width = wide;
    canvas.height = below.height = height = high;
    stale = true;
  }

  function drawBelow() {
    if (!width || !height) return;
    const { k, left, top } = places(), pen = below.getContext("2d");
    const density = new Uint16Array(width * height), reach = Math.round((xs.length > 20_000 ? 0.5 : 1) * ratio * Math.min(2, Math.sqrt(view.zoom)));
    for (let i = 0; i < xs.length; i += 1) {
      const x = Math.round(left + k * xs[i]), y = Math.round(top - k * ys[i]);
      if (!(x >= reach && y >= reach && x < width - reach && y < height - reach)) continue; // NaN = not on the map
      for (let down = -reach; down <= reach; down += 1)
        for (let right = -reach; right <= reach; right += 1) density[(y + down) * width + x + right] += 1;
    }
    const [red, green, blue] = colour("--pool").match(/[0-9a-f]{2}/gi).map((digits) => parseInt(digits, 16));
    const pixels = pen.createImageData(width, height), data = pixels.data;
    for (let at = 0; at < density.length; at += 1) {
      const count = density[at];
      if (!count) continue;
      data[4 * at] = red;
      data[4 * at + 1] = green;
      data[4 * at + 2] = blue;
      data[4 * at + 3] = 255 * (1 - 0.55 ** count);
    }
    pen.putImageData(pixels, 0, 0);
    stale = false;
  }

  function draw() {
    fit();
    if (!width || !height) return;
    if (stale) drawBelow();
    context.clearRect(0, 0, width, height);
    context.drawImage(below, 0, 0);
    const { k, left, top } = places(), count = groups.reduce((sum, { rows }) => sum + rows.length, 0);
    const scale = ratio * Math.max(0.45, Math.min(1, 25 / Math.sqrt(count))) * Math.min(2, Math.sqrt(view.zoom));
    for (const { rows, colour: name, hollow, size } of groups) {
      const radius = size * scale;
      context.beginPath();
      for (const i of rows) {
        const x = left + k * xs[i], y = top - k * ys[i];
        if (!(x > -9 && y > -9 && x < width + 9 && y < height + 9)) continue;
        if (count > 3_000) context.rect(x - radius, y - radius, 2 * radius, 2 * radius); // far faster than arcs
        else { context.moveTo(x + radius, y); context.arc(x, y, radius, 0, 7); }
      }
      if (hollow) {
        context.strokeStyle = colour(name);
        context.lineWidth = Math.min(1.4 * ratio, 0.5 * radius);
        context.stroke();
      } else {
        context.fillStyle = colour(name);
        context.globalAlpha = 0.85;
        context.fill();
        context.globalAlpha = 1;
      }
    }
  }
  const redraw = () => { stale = true; requestAnimationFrame(draw); };

  function nearest(event) {
    const box = canvas.getBoundingClientRect(), { k, left, top } = places();
    const x = (event.clientX - box.left) * ratio, y = (event.clientY - box.top) * ratio;
    let found = -1, least = (10 * ratio) ** 2;
    for (let i = 0; i < xs.length; i += 1) {
      const away = (left + k * xs[i] - x) ** 2 + (top - k * ys[i] - y) ** 2;
      if (away < least) { least = away; found = i; }
    }
    return found;
  }
  function zoom(by, event) {
    const next = Math.max(1, Math.min(200, view.zoom * by));
    if (event) { // what is under the pointer stays there
      const box = canvas.getBoundingClientRect(), { k, left, top } = places();
      const x = ((event.clientX - box.left) * ratio - left) / k - across.middle, y = (top - (event.clientY - box.top) * ratio) / k - upwards.middle;
      view.x = x + (view.x - x) * view.zoom / next;
      view.y = y + (view.y - y) * view.zoom / next;
    }
    view.zoom = next;
    redraw();
  }
  function move(right, up) {
    const within = (value, { range }) => Math.max(-range / 2, Math.min(range / 2, value));
    view.x = within(view.x + right / side(), across);
    view.y = within(view.y + up / side(), upwards);
    redraw();
  }

  let held = null, moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0) return; // a finger scrolls the page
    held = event;
    moved = false;
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (held) {
      const right = event.clientX - held.clientX, down = event.clientY - held.clientY;
      if (!moved && Math.hypot(right, down) < 4) return;
      moved = true;
      hideTip();
      move(-right * ratio, down * ratio);
      held = event;
      return;
    }
    const row = nearest(event);
    if (row < 0) hideTip();
    else tell(row, event);
  });
  canvas.addEventListener("pointerup", () => { held = null; });
  canvas.addEventListener("pointercancel", () => { held = null; });
  canvas.addEventListener("pointerleave", hideTip);
  canvas.addEventListener("click", (event) => {
    if (moved) { moved = false; return; }
    const row = nearest(event);
    if (row >= 0) { hideTip(); open(row); }
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // else the page scrolls; a pinch on a touchpad comes with ctrlKey
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 120), event);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 0.1 * Math.min(width, height);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[event.key]) move(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else return;
    event.preventDefault();
  });
  new ResizeObserver(redraw).observe(canvas);
  return {
    zoom,
    redraw,
    whole() { Object.assign(view, { x: 0, y: 0, zoom: 1 }); redraw(); },
    draw(next) { groups = next; draw(); },
  };
}
