// On a narrow screen a formula in a line of text may be wider than the line: let it scroll by itself.
(() => {
  const mark = () => {
    const formulas = [...document.querySelectorAll(".bd-article mjx-container:not([display])")];
    formulas.forEach((formula) => formula.classList.remove("wide"));
    const wide = formulas.filter((formula) => {
      const block = formula.closest("p, li, dd, td, th, figcaption, summary, h1, h2, h3, h4, div");
      return formula.getBoundingClientRect().width > block.clientWidth;
    });
    wide.forEach((formula) => formula.classList.add("wide"));
  };
  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(mark));
})();
