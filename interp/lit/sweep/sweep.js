// After report.js, whose helpers it uses: the table, the plots over jobs, the figures side by side.
const about = JSON.parse(content("about"));
const rows = [...document.querySelectorAll("tbody tr")];
const heads = [...document.querySelectorAll("thead th")];
const shownColumns = () => about.columns.filter((_, at) => !heads[at + 2].hidden);

// A column's value of a job, as what sorts: null comes last whatever the direction.
const sortable = (head, job) => {
  const place = heads.indexOf(head);
  return place === 0 ? job : place === 1 ? about.jobs[job].status : about.columns[place - 2].cells[job];
};
const order = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
  : String(a).localeCompare(String(b), "en", { numeric: true }));

function sort(head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  heads.forEach((each) => each.removeAttribute("aria-sort"));
  set(head, { "aria-sort": down ? "descending" : "ascending" });
  const jobs = about.jobs.map((_, job) => [job, sortable(head, job)]);
  const missing = ([, value]) => value === null || value === "nan";
  const known = jobs.filter((each) => !missing(each)).sort(([, a], [, b]) => (down ? order(b, a) : order(a, b)));
  const places = [...known, ...jobs.filter(missing)].map(([job]) => job);
  const body = document.querySelector("tbody");
  body.append(...places.map((job) => rows[job]));
  for (const box of document.querySelectorAll(".beside")) {
    const own = new Map([...box.children].map((child) => [Number(child.dataset.job), child]));
    box.append(...places.filter((job) => own.has(job)).map((job) => own.get(job)));
  }
}

// Where a column's values lie on an axis of length 1, and the ticks there; names stand one after another.
function placed(cells) {
  const numbers = cells.filter(drawable);
  if (cells.some((value) => typeof value === "string" && !/^-?(nan|inf)$/.test(value))) {
    const names = [...new Set(cells.filter((value) => value !== null).map(String))].sort();
    const at = (value) => (value === null ? null : names.length < 2 ? 0.5 : names.indexOf(String(value)) / (names.length - 1));
    return { at, ticks: names.map((name) => [at(name), name]) };
  }
  const logarithmic = numbers.length > 1 && Math.min(...numbers) > 0 && Math.max(...numbers) / Math.min(...numbers) >= 50;
  const by = logarithmic ? Math.log10 : (value) => value;
  const { low, high, ticks } = scale(numbers.map(by), false);
  const at = (value) => (drawable(value) ? (by(value) - low) / (high - low) : null);
  const named = ticks.map((tick) => [(tick - low) / (high - low), logarithmic ? short(10 ** tick) : brief(tick)]);
  return { at, ticks: named };
}

const clipped = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const lit = (job) => document.querySelectorAll("[data-job]").forEach((each) => {
  each.classList.toggle("lit", Number(each.dataset.job) === job);
  each.ownerSVGElement?.classList.toggle("dim", job >= 0);
});

// Colour by the first objective, or else by the last axis.
function strength() {
  const first = about.columns.find(({ kind }) => kind === "objective") ?? about.columns.at(-1);
  const at = first ? placed(first.cells).at : () => null;
  return (job) => `color-mix(in oklab, var(--accent) ${Math.round(25 + 75 * (at(first?.cells[job]) ?? 0))}%, var(--line))`;
}

function group(svg, job) {
  const made = shape(svg, "g", { class: "job", "data-job": job });
  shape(made, "title", {}, about.jobs[job].name);
  made.addEventListener("pointerenter", () => lit(job));
  made.addEventListener("pointerleave", () => lit(-1));
  return made;
}

function parallel() {
  const svg = document.getElementById("lines");
  svg.replaceChildren();
  const axes = shownColumns().filter(({ cells }) => cells.some((value) => value !== null));
  const [left, right, top, bottom] = [70, 960, 40, 300];
  const X = (axis) => (axes.length < 2 ? (left + right) / 2 : left + (axis / (axes.length - 1)) * (right - left));
  const Y = (at) => bottom - at * (bottom - top);
  const laid = axes.map(({ cells }) => placed(cells));
  const colour = strength();
  about.jobs.forEach((_, job) => {
    const points = axes.map(({ cells }, axis) => [X(axis), laid[axis].at(cells[job])]);
    const path = points.map(([x, at], i) => (at === null ? "" : `${i && points[i - 1][1] !== null ? "L" : "M"}${x} ${Y(at)}`));
    const own = group(svg, job);
    shape(own, "path", { d: path.join("") }).style.stroke = colour(job);
    for (const [x, at] of points) if (at !== null) shape(own, "circle", { cx: x, cy: Y(at), r: 3.5 }).style.fill = colour(job);
  });
  const room = axes.length < 2 ? 60 : Math.floor((right - left) / (axes.length - 1) / 7.5);
  axes.forEach(({ name }, axis) => {
    shape(svg, "line", { class: "axis", x1: X(axis), x2: X(axis), y1: top, y2: bottom });
    const head = shape(svg, "text", { x: X(axis), y: axis % 2 ? 30 : 14, "text-anchor": "middle" }, clipped(name, 2 * room));
    shape(head, "title", {}, name);
    for (const [at, text] of laid[axis].ticks) {
      shape(svg, "text", { x: X(axis) + 8, y: Y(at) + 4 }, clipped(String(text), Math.max(4, room - 2)));
    }
  });
}

function scatter(svg) {
  const [across, up] = about.objectives.map(({ name }) => about.columns.find((column) => column.name === name));
  const [x, y] = [placed(across.cells), placed(up.cells)];
  const X = (at) => 70 + at * 600;
  const Y = (at) => 270 - at * 250;
  for (const [at, text] of y.ticks) {
    shape(svg, "line", { class: "grid", x1: 70, x2: 670, y1: Y(at), y2: Y(at) });
    shape(svg, "text", { x: 62, y: Y(at) + 4, "text-anchor": "end" }, text);
  }
  for (const [at, text] of x.ticks) shape(svg, "text", { x: X(at), y: 288, "text-anchor": "middle" }, text);
  const told = ({ name, direction }) => `${name} (${direction})`;
  shape(svg, "text", { x: 670, y: 310, "text-anchor": "end" }, `${told(about.objectives[0])} →`);
  shape(svg, "text", { x: 70, y: 12 }, `↑ ${told(about.objectives[1])}`);
  const jobs = about.jobs.map((job, index) => ({ ...job, index, x: x.at(across.cells[index]), y: y.at(up.cells[index]) }))
    .filter((job) => job.x !== null && job.y !== null);
  const best = jobs.filter(({ front }) => front).sort((a, b) => a.x - b.x);
  shape(svg, "path", { class: "front", d: best.map((job, i) => `${i ? "L" : "M"}${X(job.x)} ${Y(job.y)}`).join("") });
  for (const job of jobs) {
    const own = group(svg, job.index);
    shape(own, "circle", { cx: X(job.x), cy: Y(job.y), r: 6 }).style.fill = job.front ? "var(--accent)" : "var(--soft)";
    shape(own, "text", { x: X(job.x) + 9, y: Y(job.y) - 6 }, job.name);
  }
}

const looked = (job) => ([epoch, src, width, height, caption]) =>
  ({ epoch, src, size: [width, height], caption, of: about.jobs[job].name });

// A job's place in the row of a figure; returns what shows its last look up to an epoch.
function cell(box, index, { job, shots }, move) {
  const [own, known] = [box.querySelector(`[data-job="${job}"]`), shots.map(looked(job))];
  const [image, link] = ["img", "a"].map((tag) => own.querySelector(tag));
  let [at, filled] = [0, null];
  own.querySelector(".zoom")?.addEventListener("click", () => alone(index, known, () => at, (to) => move(known[to].epoch)));
  return (epoch, near) => {
    at = Math.max(0, known.findLastIndex((shot) => shot.epoch <= epoch));
    const shot = known[at];
    own.querySelector(".caption").textContent = shot.caption;
    if (filled === shot || (link && !near)) return; // frames are loaded as they come near the window
    filled = shot;
    if (!link) { size(image, shot, shot.size[0] < 240 ? Math.floor(360 / shot.size[0]) : 1); paint(image, index, shot); return; }
    link.href = shot.src;
    embed(own.querySelector("iframe"), index, shot);
  };
}

// Returns what moves a figure to its last epoch up to the one given.
function beside({ epochs, jobs }, index) {
  const box = document.querySelector(`[data-figure="${index}"]`);
  const to = (epoch) => move(Math.max(0, epochs.findLastIndex((each) => each <= epoch)));
  const cells = jobs.map((own) => cell(box, index, own, to));
  let [now, near] = [epochs.at(-1), false];
  const show = () => cells.forEach((each) => each(now, near));
  const move = player(box.querySelector(".bar"), epochs, (at) => { now = epochs[at]; show(); });
  new IntersectionObserver((entries) => { near = entries.at(-1).isIntersecting; show(); }, { rootMargin: "50% 0%" }).observe(box);
  to(now);
  return to;
}

function together(moves) {
  const epochs = [...new Set(about.figures.flatMap((each) => each.epochs))].sort((a, b) => a - b);
  const bar = document.querySelector("#all .bar");
  bar.hidden = epochs.length < 2;
  if (!bar.hidden) player(bar, epochs, (at) => moves.forEach((move) => move(epochs[at])))(epochs.length - 1);
}

heads.forEach((head) => head.querySelector("button").addEventListener("click", () => sort(head)));
rows.forEach((row, job) => {
  row.addEventListener("pointerenter", () => lit(job));
  row.addEventListener("pointerleave", () => lit(-1));
  row.addEventListener("focusin", () => lit(job));
  row.addEventListener("focusout", () => lit(-1));
});
document.getElementById("choose").addEventListener("change", ({ target }) => {
  document.querySelectorAll(`[data-column="${target.value}"]`).forEach((each) => { each.hidden = !target.checked; });
  parallel();
});
parallel();
if (document.getElementById("scatter")) scatter(document.getElementById("scatter"));
if (rows.length) together(about.figures.map(beside));
