// Sets the page up, from the data blocks that it holds.
const figures = JSON.parse(content("figures")).map(figure);
const found = JSON.parse(content("plots"));
const across = Object.fromEntries(["epoch", "step"].map((axis) => {
  const same = found.filter((each) => each.axis === axis).flatMap(({ curves }) => curves);
  return [axis, scale(same.flatMap(({ points }) => points.map(([x]) => x)), true)];
}));
const rests = [...document.querySelectorAll(".plot svg")].map((svg, i) => plot(svg, found[i], across[found[i].axis]));
const epochs = [...new Set(figures.flatMap(({ shots }) => shots.map(({ epoch }) => epoch)))].sort((a, b) => a - b);
if (epochs.length > 1) {
  const bar = document.querySelector("#all .bar");
  bar.hidden = false;
  const pin = bar.querySelector(".pin");
  pin.addEventListener("click", () => {
    const on = pin.getAttribute("aria-pressed") !== "true";
    set(pin, { "aria-pressed": on });
    figures.forEach((each) => each.pin(on));
  });
  player(bar, epochs, (index) => {
    // A figure that was not made at this epoch keeps its last one before.
    const last = (shots) => shots.findLastIndex(({ epoch }) => epoch <= epochs[index]);
    figures.forEach(({ shots, move }) => move(Math.max(0, last(shots))));
    rests.forEach((rest) => rest(epochs[index]));
  })(epochs.length - 1);
}
// A widget says how high it is, and gets that within limits; and its state, which the next epoch's finds as its window.name.
addEventListener("message", ({ source, data }) => {
  const frame = [...document.querySelectorAll("iframe")].find((each) => each.contentWindow === source);
  if (frame && typeof data?.state === "string") frame.name = data.state.slice(0, 200);
  if (frame && Number.isFinite(data?.height)) frame.style.height = `${Math.min(2400, Math.max(120, data.height)) + 2}px`;
});
const box = document.querySelector("[role=search]");
if (box) search(box);
document.getElementById("full")?.addEventListener("click", ({ currentTarget }) => currentTarget.close());
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((each) => { each.open = true; });
  views.forEach((each) => each.fill(true));
});
