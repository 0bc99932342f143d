// What every widget shares. A widget's own script follows in the same function, and ends with `start(kind, Class)`.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class Frame {
  constructor(root) {
    this.root = root;
    this.data = JSON.parse(root.querySelector("script").textContent);
    // In a frame of its own the page around it learns how tall it is.
    this.framed = window.parent !== window && root.parentElement === document.body;
    root.dataset.started = "";
  }

  // Where an arrow key points, right and down; nothing for other keys, which keep their meaning.
  arrow(event) {
    const by = ARROWS[event.key];
    if (by) event.preventDefault();
    return by;
  }

  tellHeight() {
    const tell = () => {
      const { marginTop, marginBottom } = getComputedStyle(this.root);
      const height = this.root.getBoundingClientRect().height + parseFloat(marginTop) + parseFloat(marginBottom);
      if (this.root.clientWidth > 200) window.parent.postMessage({ height: Math.ceil(height) }, "*"); // laid out
    };
    if (this.framed) new ResizeObserver(tell).observe(this.root);
  }
}

const start = (kind, Widget) => {
  for (const root of document.querySelectorAll(`.${kind}:not([data-started])`)) new Widget(root).tellHeight();
};
