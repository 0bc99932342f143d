// A figure over all its epochs in one row: a thumbnail leads to its epoch, arrow keys go along the row.
const THUMBNAIL = [280, 150]; // pixels across and down, at most

function thumbnail(shot) {
  const [image, made] = [make("img"), make("button")];
  const fitting = Math.min(...shot.size.map((side, axis) => THUMBNAIL[axis] / side));
  const scale = fitting > 1 ? Math.floor(fitting) : fitting; // whole pixels, enlarged
  [image.width, image.height] = shot.size.map((side) => Math.max(1, Math.round(side * scale)));
  image.classList.toggle("pixels", scale > 1);
  set(made, { type: "button" });
  set(image, { alt: "", decoding: "async" });
  made.append(image, make("span", named(shot.epoch)));
  return made;
}

// Returns what marks the epoch that the figure shows. Pictures are loaded as they come near the row's window.
function film(box, index, shots, move) {
  const [button, strip] = [".reel", ".film"].map((name) => box.querySelector(name));
  if (!button) return () => {};
  let [frames, current] = [[], 0];
  const fill = (frame) => { frame.firstChild.src ||= source(index, shots[frames.indexOf(frame)]); };
  const near = (entries) => entries.filter((each) => each.isIntersecting).forEach(({ target }) => fill(target));
  const observer = new IntersectionObserver(near, { root: strip, rootMargin: "0% 100%" });
  const mark = (at) => {
    current = at;
    frames.forEach((frame, i) => set(frame, { "aria-current": i === at, tabindex: i === at ? 0 : -1 }));
    const own = frames[at];
    if (own) strip.scrollLeft = own.offsetLeft - (strip.clientWidth - own.offsetWidth) / 2;
  };
  const unroll = () => {
    frames = shots.map(thumbnail);
    strip.append(...frames);
    frames.forEach((frame, at) => {
      observer.observe(frame);
      frame.addEventListener("click", () => move(at));
    });
  };
  button.addEventListener("click", () => {
    strip.hidden = !strip.hidden;
    set(button, { "aria-pressed": !strip.hidden });
    if (!frames.length) unroll();
    mark(current);
  });
  strip.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: shots.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    move(Math.min(shots.length - 1, Math.max(0, to)));
    frames[current].focus({ preventScroll: true });
  });
  views.push({ fill: (must) => { if (must && !strip.hidden) frames.forEach(fill); } });
  return mark;
}
