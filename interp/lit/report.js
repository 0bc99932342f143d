"use strict";
// What a figure shows at an epoch lies in a data block of its own, and is decoded when it is shown.
const content = (id) => document.getElementById(id).textContent;
const named = (epoch) => (epoch === 0 ? "before training" : `epoch ${epoch}`);
const plain = (value) => value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6);
const brief = (value) => (plain(value) ? String(value) : value.toExponential());
const short = (value) => (typeof value === "number" ? brief(Number(value.toPrecision(4))) : value);
const drawable = (value) => typeof value === "number" && Math.abs(value) < 1e300;

const make = (tag, text = "", kind = "") =>
  Object.assign(document.createElement(tag), { textContent: text, className: kind });
const set = (node, attributes) => Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));

// A slider over `epochs` with its play button; returns the function that moves it, which calls `show(index)`.
function player(bar, epochs, show) {
  const [button, slider, output] = ["button", "input", "output"].map((tag) => bar.querySelector(tag));
  let [current, timer] = [-1, 0];
  const stop = () => { timer = clearInterval(timer); set(button, { "aria-pressed": false }); };
  const move = (index) => {
    if (index === current) return;
    current = slider.value = index;
    output.textContent = named(epochs[index]);
    set(slider, { "aria-valuetext": named(epochs[index]) });
    show(index);
  };
  const next = () => (current === epochs.length - 1 ? stop() : move(current + 1));
  slider.max = epochs.length - 1;
  button.disabled = slider.disabled = epochs.length < 2;
  slider.addEventListener("input", () => { stop(); move(Number(slider.value)); });
  button.addEventListener("click", () => {
    if (timer) { stop(); return; }
    set(button, { "aria-pressed": true });
    move(current === epochs.length - 1 ? 0 : current + 1);
    timer = setInterval(next, 700);
  });
  return move;
}

function figure(shots, index) {
  const box = document.querySelector(`[data-figure="${index}"]`);
  const view = box.querySelector("img, iframe");
  const zoom = box.querySelector(".zoom");
  const move = player(box.querySelector(".bar"), shots.map((shot) => shot.epoch), (at) => {
    const shot = shots[at];
    (zoom ? paint : embed)(view, shot, content(`shot-${index}-${shot.epoch}`));
    box.querySelector("figcaption").textContent = shot.caption;
    const table = box.querySelector("dl");
    table.replaceChildren(...shot.scalars.map(() => make("div")));
    shot.scalars.forEach(([name, value], i) => table.children[i].append(make("dt", name), make("dd", value)));
  });
  zoom?.addEventListener("click", () => box.classList.toggle("full"));
  const fits = () => { zoom.disabled = view.getAttribute("width") <= box.clientWidth - 42; };
  if (zoom) new ResizeObserver(fits).observe(box);
  move(shots.length - 1);
  return { shots, move };
}

function paint(image, shot, base64) {
  const scale = shot.size[0] < 320 ? Math.max(1, Math.floor(480 / shot.size[0])) : 1; // whole pixels, enlarged
  image.classList.toggle("pixels", scale > 1);
  [image.width, image.height] = shot.size.map((side) => side * scale);
  image.alt = `${image.closest("figure").querySelector("label").textContent}, ${named(shot.epoch)}`;
  image.src = `data:image/png;base64,${base64}`;
}

function embed(frame, shot, base64) {
  frame.srcdoc = new TextDecoder().decode(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)));
}

// Limits and round ticks for `values`; a constant is a line in the middle.
function scale(values, whole) {
  let [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  if (low > high || (!whole && low === 0 && high === 0)) [low, high] = [0, 1];
  const pad = high - low > Math.max(1e-290, Math.abs(high) * 1e-6) ? 0 : whole ? 0.5 : Math.abs(high) / 10 || 1;
  [low, high] = [low - pad, high + pad];
  const most = (high - low) / (whole ? 5.01 : 4.01);
  const power = 10 ** Math.floor(Math.log10(most));
  const fine = [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= most);
  const step = whole ? Math.max(1, Math.round(fine)) : fine;
  const [first, last] = whole ? [Math.ceil(low / step), Math.floor(high / step)]
    : [Math.floor(low / step + 1e-6), Math.ceil(high / step - 1e-6)];
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(10)));
  return whole ? { low, high, ticks } : { low: ticks[0], high: ticks.at(-1), ticks };
}

function shape(parent, tag, attributes, text = "") {
  const made = parent.appendChild(document.createElementNS(parent.namespaceURI, tag));
  set(made, attributes);
  made.textContent = text;
  return made;
}

function line(svg, { name, points }, X, Y) {
  const group = shape(svg, "g", { class: `curve ${name}` });
  const to = ([x, y], index) => { // lifted over values that are not finite; h0: a lone point is a dot
    const lifted = index === 0 || !drawable(points[index - 1][1]);
    return drawable(y) ? `${lifted ? "M" : "L"}${X(x).toFixed(1)} ${Y(y).toFixed(1)}h0` : "";
  };
  shape(group, "path", { d: points.map(to).join("") });
  const dots = points.filter(([, y]) => !drawable(y) || points.length <= 40);
  for (const [x, y] of dots) shape(group, "circle", { cx: X(x), cy: Y(y), r: 2.2, class: drawable(y) ? "" : "bad" });
  const [dot, value] = [shape(group, "circle", { r: 4 }), make("b")];
  const mark = (at, visible) => {
    const found = points.findLast(([x]) => x <= at);
    value.textContent = found ? short(found[1]) : "–";
    set(dot, { visibility: found && visible ? "visible" : "hidden" });
    if (found) set(dot, { cx: X(found[0]), cy: Y(found[1]) });
  };
  return { name, value, mark, end: Y((points.findLast(([, y]) => drawable(y)) ?? points[0])[1]) };
}

function plot(svg, { axis, curves }, across) {
  const [left, right, top, bottom] = [48, curves.some((curve) => curve.name) ? 318 : 346, 10, 158];
  const up = scale(curves.flatMap(({ points }) => points.map(([, y]) => y).filter(drawable)), false);
  const X = (x) => left + ((x - across.low) / (across.high - across.low)) * (right - left);
  const Y = (y) => (drawable(y) ? bottom - ((y - up.low) / (up.high - up.low)) * (bottom - top) : bottom);
  for (const tick of up.ticks) {
    shape(svg, "line", { class: "grid", x1: left, x2: right, y1: Y(tick), y2: Y(tick) });
    shape(svg, "text", { x: left - 7, y: Y(tick) + 3.5, "text-anchor": "end" }, brief(tick));
  }
  for (const tick of across.ticks) shape(svg, "text", { x: X(tick), y: bottom + 16, "text-anchor": "middle" }, tick);
  shape(svg, "text", { x: right, y: bottom + 30, "text-anchor": "end" }, axis);
  const cursor = shape(svg, "line", { class: "cursor", y1: top, y2: bottom });
  const lines = curves.map((curve) => line(svg, curve, X, Y));
  const ends = lines.toSorted((a, b) => a.end - b.end); // names at the ends of the curves, pushed apart
  ends.reduce((above, each) => (each.end = Math.max(each.end, above + 12)), -Infinity);
  ends.reduceRight((below, each) => (each.end = Math.min(each.end, below - 12)), bottom + 12);
  for (const { name, end } of ends) shape(svg, "text", { x: right + 7, y: end + 3.5, class: `label ${name}` }, name);
  const xs = [...new Set(curves.flatMap(({ points }) => points.map(([x]) => x)))].sort((a, b) => a - b);
  return read(svg, lines, cursor, xs, X, axis);
}

// Values under the pointer, at the arrow keys' place, or else where the global slider rests.
function read(svg, lines, cursor, xs, X, axis) {
  const [when, legend] = [".when", ".legend"].map((name) => svg.parentElement.querySelector(name));
  for (const { name, value } of lines) {
    legend.appendChild(make("span", "", name)).append(make("i"), name && `${name} `, value);
  }
  let [place, rest] = [xs.length - 1, xs.length - 1];
  const mark = (index, visible) => {
    place = Math.min(xs.length - 1, Math.max(0, index));
    when.textContent = axis === "epoch" ? named(xs[place]) : `step ${xs[place]}`;
    set(cursor, { x1: X(xs[place]), x2: X(xs[place]), visibility: visible ? "visible" : "hidden" });
    lines.forEach((each) => each.mark(xs[place], visible));
  };
  const leave = () => mark(rest, rest < xs.length - 1);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const far = (x) => Math.abs(X(x) - ((event.clientX - box.left) / box.width) * 360);
    mark(xs.reduce((best, x, i) => (far(x) < far(xs[best]) ? i : best), 0), true);
  });
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); mark(place + by, true); }
  });
  leave();
  return (epoch) => {
    if (axis === "epoch") rest = Math.max(0, xs.findLastIndex((x) => x <= epoch));
    leave();
  };
}

const figures = JSON.parse(content("figures")).map(figure);
const found = JSON.parse(content("plots"));
const across = Object.fromEntries(["epoch", "step"].map((axis) => {
  const same = found.filter((each) => each.axis === axis).flatMap(({ curves }) => curves);
  return [axis, scale(same.flatMap(({ points }) => points.map(([x]) => x)), true)];
}));
const rests = [...document.querySelectorAll(".plot svg")].map((svg, i) => plot(svg, found[i], across[found[i].axis]));
const epochs = [...new Set(figures.flatMap(({ shots }) => shots.map(({ epoch }) => epoch)))].sort((a, b) => a - b);
if (epochs.length > 1) {
  const all = document.getElementById("all");
  all.hidden = false;
  player(all, epochs, (index) => {
    // A figure that was not made at this epoch keeps its last one before.
    const last = (shots) => shots.findLastIndex(({ epoch }) => epoch <= epochs[index]);
    figures.forEach(({ shots, move }) => move(Math.max(0, last(shots))));
    rests.forEach((rest) => rest(epochs[index]));
  })(epochs.length - 1);
}
addEventListener("message", ({ source, data }) => { // a widget says how high it is, and gets that within limits
  const frame = [...document.querySelectorAll("iframe")].find((each) => each.contentWindow === source);
  if (frame && Number.isFinite(data?.height)) frame.style.height = `${Math.min(2400, Math.max(120, data.height)) + 2}px`;
});
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
