/* What stands behind links and formulas, shown beside them on hover and focus. */
(() => {
  const root = new URL("..", document.currentScript.src);
  let loading = null, box = null, owner = null, timer = 0;

  function previews() {
    loading ??= new Promise((done) => {
      const script = document.createElement("script");
      script.src = new URL("_static/preview_data.js", root).href;
      script.onload = () => done(window.bookPreviews);
      script.onerror = () => done({ targets: {}, symbols: [] });
      document.head.append(script);
    });
    return loading;
  }
  let mathematics = null;

  async function typeset(element) {
    if (!window.MathJax?.startup && element.querySelector(".math")) // a page without formulas has no script for them
      mathematics ??= new Promise((done) => {
        const script = document.createElement("script");
        script.src = new URL("_static/mathjax/tex-chtml.js", root).href;
        script.onload = script.onerror = done;
        document.head.append(script);
      });
    await mathematics;
    await window.MathJax?.startup?.promise;
    await window.MathJax?.typesetPromise?.([element]);
  }
  function key(link) {
    const address = new URL(link.href);
    return address.pathname.slice(root.pathname.length) + decodeURIComponent(address.hash);
  }
  const FONT = /^\\(mathbb|mathbf|mathrm|mathcal|bar|hat|tilde|overline|underline|operatorname|text)$/;

  function symbolsIn(tex, known) {
    const tokens = tex.match(/\\[a-zA-Z]+|[^\s{}]/g) ?? [], found = new Map();
    for (let i = 0; i < tokens.length; ) {
      const entry = FONT.test(tokens[i - 1] ?? "") ? null
        : known.find(([name]) => name.every((token, k) => token === tokens[i + k]) && tokens[i + name.length] !== "_");
      if (entry) found.set(entry[1], entry[2]);
      i += entry ? entry[0].length : 1;
    }
    return found;
  }
  function texOf(formula) {
    const items = window.MathJax?.startup?.document?.getMathItemsWithin?.(document.body) ?? [];
    return items.find((item) => item.typesetRoot === formula)?.math ?? "";
  }
  async function content(element) {
    const { targets, symbols } = await previews();
    if (element.matches("a")) return targets[key(element)] ?? "";
    const found = symbolsIn(texOf(element), symbols);
    return found.size ? `<dl>${[...found].map(([name, meaning]) => `<dt>\\(${name}\\)</dt><dd>${meaning}</dd>`).join("")}</dl>` : "";
  }
  async function show(element) {
    const inside = await content(element);
    if (!inside || owner !== element) return;
    box ??= Object.assign(document.body.appendChild(document.createElement("div")), { id: "preview", className: "preview" });
    box.setAttribute("role", "tooltip");
    window.MathJax?.typesetClear?.([box]);
    box.innerHTML = inside;
    if (box.firstElementChild?.matches(".math")) box.setAttribute("aria-label", box.textContent.replace(/\\[[\]]/g, "").trim());
    else box.removeAttribute("aria-label"); // typeset mathematics alone has no text of its own
    box.hidden = false;
    element.setAttribute("aria-describedby", "preview");
    element.removeAttribute("title");
    await typeset(box);
    for (const formula of box.querySelectorAll("[tabindex]")) formula.removeAttribute("tabindex");
    const place = element.getBoundingClientRect(), { offsetWidth: w, offsetHeight: h } = box;
    const below = place.bottom + h + 12 < innerHeight || place.top < h + 12;
    box.style.left = `${scrollX + Math.max(8, Math.min(place.left, document.documentElement.clientWidth - w - 8))}px`;
    box.style.top = `${scrollY + (below ? place.bottom + 6 : place.top - h - 6)}px`;
  }
  function hide() {
    clearTimeout(timer);
    owner?.removeAttribute("aria-describedby");
    owner = null;
    if (box) box.hidden = true;
  }
  function soon(element, delay) {
    clearTimeout(timer);
    if (owner === element && box && !box.hidden) return;
    timer = setTimeout(() => { hide(); owner = element; show(element); }, delay);
  }
  const previewed = (node) => node.closest?.("article a.reference.internal[href*='#'], article .math mjx-container");

  addEventListener("DOMContentLoaded", () => {
    document.addEventListener("mouseover", ({ target }) => {
      const element = previewed(target);
      if (element) soon(element, element.matches("a") ? 250 : 500);
      else if (box?.contains(target)) clearTimeout(timer);
      else { clearTimeout(timer); if (owner && document.activeElement !== owner) timer = setTimeout(hide, 250); }
    });
    document.addEventListener("focusin", ({ target }) => {
      const element = previewed(target);
      if (element && element === target) soon(element, 100); else hide();
    });
    document.addEventListener("keydown", ({ key }) => key === "Escape" && hide());
  });
})();
