/* The search: from disk without excerpts, and with the numbers that the results lead to. */
(() => {
  const root = new URL("..", document.currentScript.src);

  // A page read from disk may not fetch others, which the search would do for its excerpts.
  if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  /* Results that lead to a numbered thing say which: the search itself shows the title of the page alone. */
  function nameResults(results) {
    const { indexentries, docnames } = Search._index;
    const names = new Map();
    for (const [name, places] of Object.entries(indexentries))
      for (const [page, id] of places) names.set(`${docnames[page]}.html#${id}`, name);
    for (const link of results.querySelectorAll("li > a:not([data-named])")) {
      const name = names.get(link.href.slice(root.href.length).replace(/\?[^#]*/, ""));
      if (name) link.append(` › ${name[0].toUpperCase()}${name.slice(1)}`);
      link.dataset.named = "";
    }
  }

  addEventListener("DOMContentLoaded", () => {
    const results = document.getElementById("search-results");
    if (results) new MutationObserver(() => nameResults(results)).observe(results, { childList: true, subtree: true });
  });
})();
