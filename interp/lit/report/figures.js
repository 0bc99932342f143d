// Figures: one epoch at a time, two beside each other, one alone over the page.
const views = [];

// Where a figure shows one epoch: words at once, the picture or the widget when it comes near the window.
function view(node, index) {
  const image = node.querySelector("img");
  const words = node.querySelector("figcaption");
  const own = { node, shot: null, near: false, filled: null };
  own.show = (shot) => {
    own.shot = shot;
    node.querySelector(".of").textContent = `${node.classList.contains("pinned") ? "Pinned: " : ""}${named(shot.epoch)}`;
    words.textContent = shot.caption;
    node.querySelector(".numbers").hidden = shot.scalars.length === 0;
    node.querySelector(".scalars").replaceChildren(...shot.scalars.map(([name, value]) => {
      const row = make("div");
      row.append(make("dt", name), make("dd", value));
      return row;
    }));
    if (image) size(image, shot, shot.size[0] < 320 ? Math.floor(480 / shot.size[0]) : 1);
    own.fill();
  };
  own.fill = (must = own.near) => {
    if (!must || own.filled === own.shot) return;
    own.filled = own.shot;
    if (image) paint(image, index, own.shot);
    else embed(node.querySelector("iframe"), index, own.shot);
  };
  const near = (entries) => { own.near = entries.at(-1).isIntersecting; own.fill(); };
  own.observer = new IntersectionObserver(near, { rootMargin: "100% 0%" });
  own.observer.observe(node);
  views.push(own);
  return own;
}

// Whole pixels, enlarged; large pictures as they are.
function size(image, shot, scale) {
  image.classList.toggle("pixels", scale > 1);
  [image.width, image.height] = shot.size.map((side) => side * Math.max(1, scale));
}

// Beside the page lies a file; in it, a data block of the epoch's own in base64.
const source = (index, shot) => shot.src ?? `data:image/png;base64,${content(`shot-${index}-${shot.epoch}`)}`;

function paint(image, index, shot) {
  const name = document.querySelector(`[data-figure="${index}"] label`).textContent;
  image.alt = [name, shot.of, named(shot.epoch)].filter(Boolean).join(", "); // `of`: the job, on the page of a sweep
  image.src = source(index, shot);
}

// A new frame each time: another address in the same one would be a step of the browser's back button.
function embed(frame, index, shot) {
  const fresh = frame.cloneNode();
  if (shot.src) fresh.src = shot.src;
  else {
    const bytes = atob(content(`shot-${index}-${shot.epoch}`));
    fresh.srcdoc = new TextDecoder().decode(Uint8Array.from(bytes, (letter) => letter.charCodeAt(0)));
  }
  frame.replaceWith(fresh);
}

function figure(shots, index) {
  const box = document.querySelector(`[data-figure="${index}"]`);
  const button = box.querySelector(".pin");
  const live = view(box.querySelector(".shot"), index);
  let [at, pinned] = [0, null];
  const mark = film(box, index, shots, (to) => move(to));
  const move = player(box.querySelector(".bar"), shots.map((shot) => shot.epoch), (to) => {
    at = to;
    live.show(shots[at]);
    mark(at);
  });
  live.node.querySelector(".zoom")?.addEventListener("click", () => alone(index, shots, () => at, move));
  const pin = (on) => {
    pinned?.observer.disconnect();
    pinned?.node.remove();
    views.splice(0, views.length, ...views.filter((each) => each !== pinned));
    pinned = null;
    box.classList.toggle("compared", on && shots.length > 1);
    set(button, { "aria-pressed": on });
    if (on && shots.length > 1) pinned = kept(live, index, shots[at]);
  };
  button.addEventListener("click", () => pin(!pinned));
  move(shots.length - 1);
  return { shots, move, pin };
}

// A second place that keeps the epoch which the first one shows now.
function kept(live, index, shot) {
  const node = live.node.cloneNode(true);
  node.classList.add("pinned");
  live.node.before(node);
  const copy = view(node, index);
  copy.show(shot);
  node.querySelector(".zoom")?.addEventListener("click", () => alone(index, [shot], () => 0, () => {}));
  return copy;
}

// One picture over the page, as large as whole pixels fit; the arrow keys go through its epochs, Escape closes.
function alone(index, shots, at, move) {
  const dialog = document.getElementById("full");
  const image = dialog.querySelector("img");
  const show = () => {
    const shot = shots[at()];
    const fitting = Math.min((innerWidth * 0.94) / shot.size[0], (innerHeight * 0.8) / shot.size[1]);
    paint(image, index, shot);
    size(image, shot, Math.floor(fitting));
    dialog.querySelector("h2").textContent = image.alt;
    dialog.querySelector("p").textContent = shot.caption;
  };
  dialog.querySelector(".more").hidden = shots.length < 2;
  dialog.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || shots.length < 2) return;
    event.preventDefault();
    move(Math.min(shots.length - 1, Math.max(0, at() + by)));
    show();
  };
  show();
  dialog.showModal();
}
