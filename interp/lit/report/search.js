// Figures and plots by name: what holds the phrase stays, or, where nothing does, what holds every word; "/" leads to the box, Escape empties it.
function search(box) {
  const [input, output] = ["input", "output"].map((tag) => box.querySelector(tag));
  const items = [...document.querySelectorAll("[data-name]")];
  const groups = [...document.querySelectorAll("main section, main .group")].filter((each) => each.querySelector("[data-name]"));
  const filter = () => {
    const phrase = input.value.trim().toLowerCase();
    const holds = (words) => (item) => words.every((word) => item.dataset.name.toLowerCase().includes(word));
    const kept = items.some(holds([phrase])) ? holds([phrase]) : holds(phrase.split(/\s+/));
    for (const item of items) item.hidden = !kept(item);
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
