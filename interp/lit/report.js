"use strict";
// Each figure is an object from epoch to {source, caption, scalars}; a picture is decoded only when it is shown.
const data = JSON.parse(document.getElementById("data").textContent);
const figures = [...document.querySelectorAll("figure[data-figure]")].map((element) => {
  const epochs = data[Number(element.dataset.figure)];
  const numbers = Object.keys(epochs).map(Number).sort((a, b) => a - b);
  return { element, epochs, numbers, slider: element.querySelector("input") };
});

function show(figure, index) {
  const epoch = figure.numbers[index];
  const found = figure.epochs[epoch];
  figure.slider.value = index;
  figure.slider.setAttribute("aria-valuetext", `epoch ${epoch}`);
  figure.element.querySelector("output").textContent = epoch === 0 ? "before training" : `epoch ${epoch}`;
  figure.element.querySelector("img").src = found.source;
  figure.element.querySelector("figcaption").textContent = found.caption;
  figure.element.querySelector("dl").replaceChildren(...Object.entries(found.scalars).map(([name, value]) => {
    const row = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", value]]) {
      row.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
    return row;
  }));
}

const every = [...new Set(figures.flatMap((figure) => figure.numbers))].sort((a, b) => a - b);

function showAll(index) {
  const epoch = every[index];
  master.value = index;
  master.setAttribute("aria-valuetext", `epoch ${epoch}`);
  bar.querySelector("output").textContent = epoch === 0 ? "before training" : `epoch ${epoch}`;
  for (const figure of figures) {
    // A figure that was not made at this epoch keeps the last one before it.
    show(figure, Math.max(0, figure.numbers.filter((number) => number <= epoch).length - 1));
  }
}

for (const figure of figures) {
  figure.slider.addEventListener("input", () => show(figure, Number(figure.slider.value)));
  show(figure, figure.numbers.length - 1);
}

const bar = document.getElementById("all");
const master = document.getElementById("every");
if (bar && every.length > 1) {
  bar.hidden = false;
  master.max = every.length - 1;
  master.addEventListener("input", () => showAll(Number(master.value)));
  showAll(every.length - 1);
  let timer = null;
  const button = document.getElementById("play");
  button.addEventListener("click", () => {
    if (timer) {
      clearInterval(timer);
      timer = null;
    } else {
      timer = setInterval(() => showAll((Number(master.value) + 1) % every.length), 700);
    }
    button.textContent = timer ? "⏸" : "▶";
    button.setAttribute("aria-label", timer ? "Pause" : "Play through the epochs");
  });
}
