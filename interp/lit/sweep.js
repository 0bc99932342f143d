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

function beside({ name, epochs, jobs }, index) {
  const box = document.querySelector(`[data-beside="${index}"]`);
  const cells = new Map([...box.querySelectorAll("[data-job]")].map((each) => [Number(each.dataset.job), each]));
  player(box.querySelector(".bar"), epochs, (at) => {
    for (const { job, shots } of jobs) { // a job that was not looked at in this epoch keeps its last look before
      const [epoch, path, width, height, caption] = shots.findLast((shot) => shot[0] <= epochs[at]) ?? shots[0];
      const [link, image] = ["a", "img"].map((tag) => cells.get(job).querySelector(tag));
      const larger = width < 240 ? Math.floor(360 / width) : 1; // whole pixels, enlarged
      image.classList.toggle("pixels", larger > 1);
      set(image, { width: width * larger, height: height * larger, alt: `${name} of ${about.jobs[job].name}, ${named(epoch)}` });
      if (image.getAttribute("src") !== path) set(image, { src: path });
      set(link, { href: path });
      cells.get(job).querySelector(".caption").textContent = caption;
    }
  })(epochs.length - 1);
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
about.figures.forEach(beside);
