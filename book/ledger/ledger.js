// The ledger: four menus choose which entries are shown; an entry that an address points at is opened.
(() => {
  const filters = document.querySelector(".ledger-filters");
  const entries = [...document.querySelectorAll("details.ledger")];
  if (!filters || !entries.length) return;
  const menus = [...filters.querySelectorAll("select")];
  const count = filters.querySelector("[role=status]");

  const apply = () => {
    const shown = entries.filter((entry) => {
      entry.hidden = !menus.every((menu) => !menu.value || entry.dataset[menu.dataset.filter] === menu.value);
      return !entry.hidden;
    });
    count.textContent = `${shown.length} of ${entries.length} claims shown.`;
    for (const part of document.querySelectorAll("section:has(> details.ledger)")) {
      part.hidden = !part.querySelector("details.ledger:not([hidden])");
    }
  };
  const clear = () => { menus.forEach((menu) => { menu.value = ""; }); apply(); };

  const keep = () => {
    const chosen = menus.filter((menu) => menu.value).map((menu) => [menu.dataset.filter, menu.value]);
    history.replaceState(null, "", `#${new URLSearchParams(chosen)}`); // the address shows what one sees
  };

  const follow = () => {
    const key = decodeURIComponent(location.hash.slice(1)), wanted = new URLSearchParams(location.hash.slice(1));
    if (menus.some((menu) => wanted.get(menu.dataset.filter))) {
      menus.forEach((menu) => { menu.value = wanted.get(menu.dataset.filter) ?? ""; });
      apply();
      filters.scrollIntoView();
      return;
    }
    const entry = entries.find((one) => one.id === key);
    if (!entry) return;
    if (entry.hidden) clear();
    entry.open = true;
    entry.scrollIntoView();
  };

  menus.forEach((menu) => menu.addEventListener("change", () => { apply(); keep(); }));
  filters.querySelector("button").addEventListener("click", () => { clear(); keep(); });
  filters.hidden = false;
  window.addEventListener("hashchange", follow);
  follow();
})();
