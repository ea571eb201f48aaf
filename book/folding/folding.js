/* Folded parts open when they are linked to and for print. */
(() => {
  function openLinked() {
    const id = decodeURIComponent(location.hash.slice(1));
    const target = id && document.getElementById(id);
    if (!target) return;
    const closed = [];
    for (let node = target; node; node = node.parentElement?.closest("details:not([open])"))
      if (node.matches("details")) closed.push(node);
    closed.forEach((node) => (node.open = true));
    if (closed.length) target.scrollIntoView();
  }
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("article details:not([open])")];
    opened.forEach((node) => (node.open = true));
  });
  addEventListener("afterprint", () => opened.forEach((node) => (node.open = false)));

  addEventListener("DOMContentLoaded", openLinked);
  addEventListener("hashchange", openLinked);
})();
