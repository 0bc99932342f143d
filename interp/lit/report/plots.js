// Curves of the scalars.
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
