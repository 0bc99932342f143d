const bytes = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const make = (kind, text = "", attributes = {}) => {
  const node = Object.assign(document.createElement(kind === "b" ? "b" : "div"), { className: kind, textContent: text });
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
};
const signed = (value, digits) => {
  const text = digits === null ? Math.abs(value).toExponential(1) : Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value < 0 ? "\u2212" : "+") + text;
};

const IDLE = "Point at a group to see it alone, at a position to see which groups fire there.";

class NeuronGroups extends Frame {
  constructor(root) {
    super(root); // in a frame of its own the state outlives the page, which the report's slider replaces
    this.maps = bytes(this.data.maps);
    this.cells = this.data.width * this.data.height;
    this.all = Array.from({ length: this.data.groups }, (_, group) => group);
    this.hues = [...root.querySelectorAll(".tile")].map((tile) => tile.style.getPropertyValue("--hue").match(/\d+/g));
    this.image = 0;
    this.held = this.pointed = this.focused = this.place = null; // groups; [column, row]
    this.restore();
    this.listen();
    this.choose(this.image);
  }

  restore() {
    const kept = this.framed && /^neuron-groups (\d+) (\d*)$/.exec(window.name);
    if (!kept) return;
    this.image = Math.min(Number(kept[1]), this.root.querySelectorAll("label").length - 1);
    this.held = kept[2] && Number(kept[2]) < this.data.groups ? Number(kept[2]) : null;
  }

  listen() {
    const on = (node, type, act) => node.addEventListener(type, (event) => { act(event); this.draw(); });
    const group = (event) => { const at = event.target.closest("[data-group]"); return at ? Number(at.dataset.group) : null; };
    const table = this.root.querySelector(".table");
    const mouse = (event) => event.pointerType !== "touch"; // a tap is a click
    on(table, "pointerover", (event) => { if (mouse(event)) this.pointed = group(event); });
    on(table, "pointerleave", () => { this.pointed = null; });
    on(table, "focusin", (event) => { this.focused = event.target.matches(":focus-visible") ? group(event) : null; });
    on(table, "focusout", () => { this.focused = null; });
    on(table, "click", (event) => { if (group(event) !== null) this.held = this.held === group(event) ? null : group(event); });
    on(this.root, "keydown", (event) => { if (event.key === "Escape") this.held = this.place = null; });
    on(this.root, "pointerdown", (event) => { if (!event.target.closest(".view")) this.place = null; });
    const form = this.root.querySelector("form");
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", (event) => this.choose(Number(event.target.value)));
    for (const view of this.root.querySelectorAll(".view")) {
      for (const type of ["pointermove", "pointerdown"]) on(view, type, (event) => this.point(view, event));
      on(view, "pointerleave", (event) => { if (mouse(event)) this.place = null; });
      on(view, "keydown", (event) => this.step(event));
      on(view, "blur", () => { this.place = null; });
    }
  }

  point(view, { clientX, clientY }) {
    const { left, top, width, height } = view.getBoundingClientRect();
    const at = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    this.place = [at((clientX - left) / width, this.data.width), at((clientY - top) / height, this.data.height)];
  }

  step(event) {
    const by = this.arrow(event);
    if (!by) return;
    const sides = [this.data.width, this.data.height];
    const from = this.place ?? sides.map((side, axis) => Math.floor(side / 2) - by[axis]); // the first key: the middle
    this.place = from.map((at, axis) => Math.min(sides[axis] - 1, Math.max(0, at + by[axis])));
  }

  choose(image) {
    this.image = image;
    const label = this.root.querySelectorAll("label")[image];
    label.querySelector("input").checked = true;
    this.root.querySelector(".which").textContent = label.title;
    Object.assign(this.root.querySelector(".over > img"), { src: label.querySelector("img").src, alt: label.title });
    this.root.querySelectorAll(".line:not(:first-child)").forEach((line) => line.remove());
    if (this.data.effects) this.tabulate(this.data.effects[image], this.data.classes[image]);
    this.draw();
  }

  // One row of bars for each class; all bars of an image share one scale.
  tabulate(effects, classes) {
    const [low, high] = [Math.min(0, ...effects.flat()), Math.max(0, ...effects.flat())];
    const longest = Math.max(high, -low);
    const power = longest ? Math.floor(Math.log10(longest)) : 0;
    const digits = Math.abs(power) > 4 ? null : power < 0 ? 1 - power : Math.max(0, 2 - power);
    const table = this.root.querySelector(".table");
    for (const [index, name] of classes.entries()) {
      const line = table.appendChild(make("line", "", { role: "row" }));
      line.append(make("name", name, { role: "rowheader", dir: "auto" }));
      line.append(...this.all.map((group) => this.bar(group, effects[group][index], low, high, digits)));
    }
    this.root.querySelector(".scale").textContent = `in logits, largest ${signed(longest, digits).replace("+", "")}`;
  }

  bar(group, value, low, high, digits) {
    const share = (part) => `${(100 * part) / (high - low || 1)}%`;
    const cell = make("cell", "", { role: "cell", "data-group": group });
    const bar = cell.appendChild(make("bar", "", { "aria-hidden": true }));
    bar.style.setProperty("--zero", share(high));
    const block = bar.appendChild(make("b"));
    block.classList.toggle("down", value < 0);
    Object.assign(block.style, { top: share(high - Math.max(0, value)), height: share(Math.abs(value)) });
    cell.append(make("value", signed(value, digits)));
    return cell;
  }

  at(group, cell) {
    return this.maps[(this.image * this.data.groups + group) * this.cells + cell];
  }

  draw() {
    const one = this.pointed ?? this.focused ?? this.held;
    const shown = one === null ? this.all : [one];
    this.root.dataset.shown = one === null ? "all" : one;
    this.root.querySelector(".what").textContent = one === null ? `All ${this.all.length} groups` : `Group ${one + 1} alone`;
    this.paint(".over", shown, true);
    this.paint(".alone", shown, false);
    for (const cell of this.root.querySelectorAll("[data-group]")) {
      const group = Number(cell.dataset.group);
      cell.classList.toggle("quiet", !shown.includes(group));
      cell.querySelector("button")?.setAttribute("aria-pressed", group === this.held);
    }
    this.mark();
    if (!this.framed) return;
    window.name = `neuron-groups ${this.image} ${this.held ?? ""}`;
    window.parent.postMessage({ state: window.name }, "*");
  }

  // Of red, green and blue the brightest of all maps wins (mix mode 'lighten'): on black, or as a veil over the image.
  paint(view, shown, veil) {
    const canvas = this.root.querySelector(`${view} canvas`);
    [canvas.width, canvas.height] = [this.data.width, this.data.height];
    const pixels = new ImageData(this.data.width, this.data.height);
    for (let cell = 0; cell < this.cells; cell++) {
      const light = [0, 0, 0];
      let most = 0;
      for (const group of shown) {
        const value = this.at(group, cell);
        most = Math.max(most, value);
        for (let c = 0; c < 3; c++) light[c] = Math.max(light[c], (value * this.hues[group][c]) / 255);
      }
      const rgba = veil ? [...light.map((value) => (255 * value) / (most || 1)), 0.85 * most] : [...light, 255];
      pixels.data.set(rgba, 4 * cell);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  // At a position: a frame around it, groups as faint as they are weak there, and the strongest in words.
  mark() {
    const [x, y] = this.place ?? [];
    const { width, height } = this.data;
    const strength = this.all.map((group) => (this.place ? this.at(group, y * width + x) / 255 : 1));
    this.root.querySelectorAll(".tile").forEach((tile, group) => { tile.style.opacity = 0.1 + 0.9 * strength[group]; });
    for (const frame of this.root.querySelectorAll(".view > i")) {
      frame.hidden = !this.place;
      const [left, top] = [`${(100 * x) / width}%`, `${(100 * y) / height}%`];
      if (this.place) Object.assign(frame.style, { left, top, width: `${100 / width}%`, height: `${100 / height}%` });
    }
    const strongest = this.all.filter((group) => strength[group] >= 0.005).sort((a, b) => strength[b] - strength[a]);
    const named = strongest.slice(0, 3).map((group) => `group ${group + 1} at ${Math.round(100 * strength[group])}%`);
    const reading = this.root.querySelector(".reading");
    reading.classList.toggle("idle", !this.place);
    reading.textContent = this.place ? `Row ${y + 1}, column ${x + 1}: ${named.join(", ") || "no group"}` : IDLE;
  }
}

start("neuron-groups", NeuronGroups);
