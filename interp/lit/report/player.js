"use strict";
// What all scripts of the page use; report.js comes last and sets everything up.
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
  bar.classList.toggle("single", epochs.length < 2);
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
