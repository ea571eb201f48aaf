/* Formulas: a wide one scrolls by itself, a display can be reached by keyboard, and what is copied is TeX. */
(() => {
  // What is folded is set when it comes into view, or for print: this script runs before MathJax.
  const folded = (formula) => formula.closest("details:not([open]), .admonition.dropdown") && !formula.closest("summary");
  const all = [...document.querySelectorAll(".math")], later = new Set(all.filter(folded));
  Object.assign(window.MathJax, {
    startup: { elements: all.filter((formula) => !later.has(formula)), pageReady: () => MathJax.startup.defaultPageReady().then(speak) },
    options: { ...window.MathJax.options, enableAssistiveMml: false, renderActions: { speak: [1000, () => setTimeout(speak), () => setTimeout(speak)] } },
  });

  // What a screen reader reads, MathML beside each formula, is half of the work: it is made when all formulas are seen.
  const spoken = new WeakSet(), reader = document.createElement("template");
  async function speak() {
    const made = MathJax.startup.document;
    made.adaptor.parse = (text) => { reader.innerHTML = text; return { body: reader.content }; }; // not a new document each
    let begun = performance.now();
    for (const item of [...made.math]) {
      if (spoken.has(item)) continue;
      spoken.add(item);
      Object.create(item, { state: { value: () => 0 } }).assistiveMml(made, true); // else it holds for done
      if (performance.now() - begun < 20) continue;
      await new Promise((next) => setTimeout(next));
      begun = performance.now();
    }
  }

  async function set(formulas) {
    formulas.forEach((formula) => later.delete(formula));
    await MathJax.startup.promise;
    await MathJax.typesetPromise(formulas);
    mark();
  }
  const near = new IntersectionObserver((seen) => {
    const formulas = seen.filter((one) => one.isIntersecting && later.has(one.target)).map((one) => one.target);
    if (formulas.length) set(formulas);
  }, { rootMargin: "50%" });
  later.forEach((formula) => near.observe(formula));
  addEventListener("beforeprint", () => { MathJax.typeset?.([...later]); later.clear(); });

  function mark() {
    const formulas = [...document.querySelectorAll(".bd-article mjx-container")];
    const wide = formulas.filter((formula) => {
      if (formula.hasAttribute("display")) return false;
      formula.classList.remove("wide");
      const block = formula.closest("p, li, dd, td, th, figcaption, summary, h1, h2, h3, h4, div");
      return formula.getBoundingClientRect().width > block.clientWidth;
    });
    wide.forEach((formula) => formula.classList.add("wide"));
    // A page has hundreds of formulas in its lines: only those that scroll, and displays, are stops of the tab key.
    for (const formula of formulas) formula.tabIndex = formula.matches("[display], .wide") ? 0 : -1;
  }
  addEventListener("load", () => MathJax.startup.promise?.then(mark));

  document.addEventListener("copy", (event) => {
    const selection = getSelection(), found = MathJax.startup.document?.getMathItemsWithin(document.body) ?? [];
    if (selection.isCollapsed || !found.some(({ typesetRoot }) => selection.containsNode(typesetRoot, true))) return;
    for (const { typesetRoot, math, display } of found)
      typesetRoot.dataset.tex = display ? `$$${math.trim()}$$` : `$${math.trim()}$`;
    const copied = document.createElement("div");
    for (let k = 0; k < selection.rangeCount; k++) copied.append(selection.getRangeAt(k).cloneContents());
    for (const formula of copied.querySelectorAll("mjx-container")) formula.replaceWith(formula.dataset.tex);
    copied.className = "copied";
    document.body.append(copied); // only what is laid out has lines
    event.clipboardData.setData("text/plain", copied.innerText);
    event.clipboardData.setData("text/html", copied.innerHTML);
    copied.remove();
    event.preventDefault();
  });
})();
