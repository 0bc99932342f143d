// Figures and plots by name: what holds every word stays; "/" leads to the box, Escape empties it.
function search(box) {
  const [input, output] = ["input", "output"].map((tag) => box.querySelector(tag));
  const items = [...document.querySelectorAll("[data-name]")];
  const groups = [...document.querySelectorAll("main section, main .group")].filter((each) => each.querySelector("[data-name]"));
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const item of items) item.hidden = !words.every((word) => item.dataset.name.toLowerCase().includes(word));
    for (const group of groups) group.hidden = !group.querySelector("[data-name]:not([hidden])");
    const left = items.filter((item) => !item.hidden).length;
    output.textContent = input.value.trim() ? `${left} of ${items.length}` : "";
  };
  input.addEventListener("input", filter);
  input.addEventListener("keydown", ({ key }) => {
    if (key === "Escape") { input.value = ""; filter(); }
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input[type=search]")) return;
    event.preventDefault();
    input.select();
    input.focus();
  });
}
