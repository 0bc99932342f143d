const IDLE = "Point at a point to see its image. A rim: predicted wrongly.";

class Embeddings extends Frame {
  constructor(root) {
    super(root);
    this.svg = root.querySelector("svg");
    this.form = root.querySelector("form");
    this.look = this.data.looks.length - 1;
    this.at = null; // the point that is shown
    this.points = this.data.labels.map((label, index) => this.point(label, index));
    this.listen();
    this.filter();
    this.move();
  }

  wrong(index) {
    return this.data.labels[index] >= 0 && this.data.labels[index] !== this.data.predicted[index];
  }

  point(label, index) {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    circle.setAttribute("r", 9);
    circle.setAttribute("fill", label < 0 ? "#96969e" : this.data.colours[label]);
    circle.classList.toggle("wrong", this.wrong(index));
    this.svg.querySelector("g").append(circle);
    return circle;
  }

  listen() {
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("input", () => {
      if (this.form.look) this.look = Number(this.form.look.value);
      this.filter();
      this.move();
    });
    for (const type of ["pointermove", "pointerdown"]) this.svg.addEventListener(type, (event) => this.show(this.nearest(this.under(event), 40)));
    this.svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.show(null); });
    this.svg.addEventListener("keydown", (event) => this.step(event));
    this.svg.addEventListener("blur", () => this.show(null));
  }

  filter() {
    const { class: chosen, wrong } = this.form.elements;
    this.shown = this.points.map((_, index) =>
      (chosen.value === "" || Number(chosen.value) === this.data.labels[index]) && (!wrong.checked || this.wrong(index)));
    this.points.forEach((circle, index) => circle.classList.toggle("quiet", !this.shown[index]));
    if (this.at !== null && !this.shown[this.at]) this.at = null;
  }

  place(index) {
    return this.data.places[this.look].slice(2 * index, 2 * index + 2);
  }

  move() {
    this.points.forEach((circle, index) => { circle.style.transform = `translate(${this.place(index).map((value) => `${value}px`).join()})`; });
    if (this.form.look) this.root.querySelector("output").textContent = this.data.looks[this.look];
    this.show(this.at);
  }

  under(event) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [x, y];
  }

  // The shown point with the smallest distance, no farther than `reach`; `cost` can make some directions dearer.
  nearest([x, y], reach, cost = Math.hypot, but = null) {
    let best = null;
    let least = reach;
    this.points.forEach((_, index) => {
      const [px, py] = this.place(index);
      const distance = this.shown[index] && index !== but ? cost(px - x, py - y) : Infinity;
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  }

  step(event) {
    if (event.key === "Escape") this.show(null);
    const by = this.arrow(event);
    if (!by) return;
    const ahead = (dx, dy) => {
      const [along, across] = [dx * by[0] + dy * by[1], Math.abs(dx * by[1] - dy * by[0])];
      return along > 0 ? along + 2 * across : Infinity;
    };
    const from = this.at === null ? [500, 500] : this.place(this.at);
    const next = this.at === null ? this.nearest(from, Infinity) : this.nearest(from, Infinity, ahead, this.at);
    this.show(next ?? this.at);
  }

  show(index) {
    this.at = index;
    this.root.dataset.at = index ?? "";
    const [here, sprite, reading] = [".here", ".sprite", ".reading"].map((name) => this.root.querySelector(name));
    here.setAttribute("visibility", index === null ? "hidden" : "visible");
    sprite.hidden = index === null;
    reading.classList.toggle("idle", index === null);
    if (index === null) { reading.textContent = IDLE; return; }
    here.style.transform = this.points[index].style.transform;
    const { columns, labels, predicted, names } = this.data;
    const rows = Math.ceil(labels.length / columns);
    const part = (at, count) => (count > 1 ? `${(100 * at) / (count - 1)}%` : "0%");
    sprite.style.backgroundPosition = `${part(index % columns, columns)} ${part(Math.floor(index / columns), rows)}`;
    const truth = labels[index] < 0 ? this.data.images[index] || "Class unknown" : `Class ${names[labels[index]]}`;
    const wrong = predicted[index] < 0 ? "no prediction" : `predicted as ${names[predicted[index]]}`;
    const verdict = labels[index] >= 0 && labels[index] === predicted[index] ? "predicted right" : wrong;
    reading.textContent = `${truth}, ${verdict}`;
  }
}

start("embeddings", Embeddings);
