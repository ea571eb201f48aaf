/* Draws the moving figures: data from moving/NAME.js (recorded by a chapter, see pbtlib/moving.py), SVG, native sliders. */
(() => {
  const base = new URL("moving/", document.currentScript.src);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const W = 340, H = 240, LEFT = 58, RIGHT = 14, TOP = 26, BOTTOM = 42;

  function svg(name, attributes = {}, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  function html(name, properties = {}, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  }

  /* ------------------------------------------------------------------------------------------ axes and curves */

  function scale({ low, high, log }, from, to) {
    const f = log ? Math.log10 : (v) => v;
    return (v) => from + ((f(v) - f(low)) / (f(high) - f(low))) * (to - from);
  }
  function ticks({ low, high, log }) {
    const found = [];
    if (log) {
      const decades = Math.log10(high / low), every = Math.ceil(decades / 5);
      for (let k = Math.ceil(Math.log10(low) - 1e-9); 10 ** k <= high * 1.0001; k++)
        if (decades < 5 || k % every === 0) found.push(10 ** k);
    } else {
      const raw = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(raw));
      const step = unit * [1, 2, 5, 10].find((m) => m * unit >= raw * 0.99);
      for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k++) found.push(k * step);
    }
    return found;
  }
  function tickText(value, log) {
    if (log && (value >= 1e4 || value <= 1e-2)) {
      const digits = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
      return "10" + [...String(Math.round(Math.log10(value)))].map((c) => digits[c]).join("");
    }
    return String(Number(value.toPrecision(6))).replace("-", "−");
  }

  function panel(spec, number, name) {
    const x = scale(spec.x, LEFT, W - RIGHT), y = scale(spec.y, H - BOTTOM, TOP);
    const clip = `clip-${name}-${number}`, inside = svg("g", { "clip-path": `url(#${clip})` });
    const drawing = svg("svg", { viewBox: `0 0 ${W} ${H}`, "aria-hidden": "true" },
      svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: TOP, width: W - LEFT - RIGHT, height: H - TOP - BOTTOM })));
    const text = (x, y, anchor, words, more = {}) => {
      const node = svg("text", { x, y, "text-anchor": anchor, ...more });
      node.textContent = words;
      drawing.append(node);
    };
    for (const t of ticks(spec.x)) {
      drawing.append(svg("line", { class: "grid", x1: x(t), x2: x(t), y1: TOP, y2: H - BOTTOM }));
      text(x(t), H - BOTTOM + 16, "middle", tickText(t, spec.x.log));
    }
    for (const t of ticks(spec.y)) {
      drawing.append(svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(t), y2: y(t) }));
      text(LEFT - 6, y(t) + 4, "end", tickText(t, spec.y.log));
    }
    drawing.append(svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${H - BOTTOM}H${W - RIGHT}` }), inside);
    text((LEFT + W - RIGHT) / 2, H - 8, "middle", spec.x.label);
    text(12, (TOP + H - BOTTOM) / 2, "middle", spec.y.label, { transform: `rotate(-90 12 ${(TOP + H - BOTTOM) / 2})` });
    text(LEFT, 16, "start", spec.title, { class: "title" });
    return { drawing, inside, x, y };
  }

  function shape(curve, { x: sx, y: sy }) {
    const at = (x, y) => `${sx(x).toFixed(2)} ${sy(y).toFixed(2)}`;
    const { x, y } = curve;
    switch (curve.kind) {
      case "band": {
        const there = x.map((v, i) => at(v, curve.high[i])), back = x.map((v, i) => at(v, y[i])).reverse();
        return "M" + [...there, ...back].join("L") + "Z";
      }
      case "bars":
        return y.map((v, i) => `M${at(x[i], 0)}L${at(x[i], v)}L${at(x[i + 1], v)}L${at(x[i + 1], 0)}Z`).join("");
      case "points":
      case "mark": {
        const r = curve.kind === "mark" ? 6 : 3.5;
        return x.map((v, i) => `M${at(v, y[i])}m${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`).join("");
      }
      default:
        return "M" + x.map((v, i) => at(v, y[i])).join("L");
    }
  }

  const style = (curve) => (curve.style === -1 ? "quiet" : `style-${curve.style}`);

  function legend(curves) {
    return html("ul", { className: "legend" }, ...curves.map((curve) => {
      const sample = { band: "M1 3H27V13H1Z", bars: "M3 2H25V14H3Z", points: "M14 8m-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0",
        mark: "M14 8m-6 0a6 6 0 1 0 12 0a6 6 0 1 0 -12 0" }[curve.kind] ?? "M1 8H27";
      return html("li", {}, svg("svg", { viewBox: "0 0 28 16", "aria-hidden": "true" },
        svg("path", { class: `${curve.kind} ${style(curve)}`, d: sample })), curve.label);
    }));
  }

  /* ------------------------------------------------------------------------------------------ a figure with sliders */

  function figure(box, name, data) {
    const panels = data.panels.map((spec, i) => panel(spec, i, name));
    const paths = data.curves.map((curve) => {
      const path = svg("path", { class: `${curve.kind} ${style(curve)}`, "data-label": curve.label });
      panels[curve.panel].inside.append(path);
      return path;
    });
    const says = html("p", { className: "says" });
    says.setAttribute("aria-live", "polite");
    let shown = [];
    const inputs = data.sliders.map((slider, i) => {
      const id = `${name}-${i}`, value = html("output", { htmlFor: id });
      const input = html("input", { type: "range", id, min: 0, max: slider.values.length - 1, step: 1, value: slider.start });
      input.addEventListener("input", draw);
      return { input, value, slider, row: html("div", { className: "slider" },
        html("label", { htmlFor: id, textContent: slider.label }), input, value) };
    });

    function draw() {
      let index = 0;
      for (const { input, value, slider } of inputs) {
        index = index * slider.values.length + Number(input.value);
        value.textContent = slider.values[input.value];
        input.setAttribute("aria-valuetext", slider.values[input.value]);
      }
      const frame = data.frames[index];
      shown = data.curves.map((curve, i) => ({ ...curve, ...frame.curves[i] }));
      shown.forEach((curve, i) => paths[i].setAttribute("d", shape(curve, panels[curve.panel])));
      says.textContent = frame.says;
    }

    function asTable() {
      const rows = [["panel", "curve", "x", "y", "high"]];
      for (const c of shown)
        c.x.forEach((x, i) => rows.push([data.panels[c.panel].title, c.label, x, c.y[i] ?? "", c.high?.[i] ?? ""]));
      return rows.map((row) => row.map((v) => (typeof v === "string" && v ? `"${v.replaceAll('"', '""')}"` : v)).join(","))
        .join("\r\n") + "\r\n";
    }
    const csv = html("a", { href: "#", download: `${name}.csv`, textContent: "These curves (CSV)" });
    csv.addEventListener("click", () => {
      csv.href = URL.createObjectURL(new Blob(["\ufeff" + asTable()], { type: "text/csv" }));
    });
    const all = html("a", { href: new URL(`${name}.json`, base).href, download: `${name}.json`, textContent: "every position (JSON)" });
    const drawings = html("div", { className: "panels" }, ...panels.map(({ drawing }, i) =>
      html("div", { className: "panel" }, drawing, legend(data.curves.filter((c) => c.panel === i)))));
    drawings.setAttribute("role", "img");
    drawings.setAttribute("aria-label", data.alt);
    box.replaceChildren(html("p", { className: "name", textContent: data.title }),
      html("div", { className: "controls" }, ...inputs.map(({ row }) => row)), drawings, says,
      html("p", { className: "take" }, "Data: ", csv, ", ", all, ` · made by ${data.made}`));
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", data.title);
    draw();
  }

  /* ------------------------------------------------------------------------------------------ the landing page */

  function film(box, name, data) {
    const SIZE = 300, WIDE = 200, agents = data.theta[0].length, last = data.theta.length - 1;
    const contour = (lines, to) => lines.map((line) => svg("path", { class: "contour", d: "M" + line.map(to).join("L") }));
    const left = ([x, y]) => `${150 + x * 0.48} ${150 - y * 0.48}`;
    const right = ([x, y]) => `${150 + x * 0.48} ${270 - y * 0.92}`;
    const dots = () => Array.from({ length: agents }, () => svg("circle", { r: 4.5 }));
    const train = dots(), evolve = dots();
    const word = (x, y, words, anchor = "middle") => {
      const node = svg("text", { x, y, "text-anchor": anchor });
      node.textContent = words;
      return node;
    };
    const stage = (lines, to, marks, label, ...words) => html("div", { className: "panel" }, html("p", { textContent: label }),
      svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, "aria-hidden": "true" }, ...contour(lines, to), ...words, ...marks));
    const high = Math.log10(Math.max(...data.median)), low = Math.log10(Math.min(...data.median));
    const x = (frame) => 6 + (frame / last) * 288, y = (value) => 12 + (WIDE - 42) * (high - Math.log10(value)) / (high - low);
    const cursor = svg("circle", { r: 6, class: "cursor" });
    const strip = svg("svg", { viewBox: `0 0 300 ${WIDE}`, class: "strip", "aria-hidden": "true" },
      svg("path", { class: "axis", d: `M2 4V${WIDE - 22}H298` }), word(150, WIDE - 4, "time →"),
      svg("path", { class: "line style-0", d: "M" + data.median.map((v, k) => `${x(k)} ${y(v)}`).join("L") }), cursor);
    const button = html("button", { type: "button", className: "play" });
    const time = html("input", { type: "range", min: 0, max: last, step: 1, value: 0, id: `${name}-time` });
    const state = html("span", { className: "state" });
    let now = 0, playing = false, before = 0;

    function draw() {
      const k = Math.floor(now), part = now - k, next = Math.min(k + 1, last);
      const update = Math.min(Math.floor(k / data.per_update), data.updates);
      const jump = next > k && next % data.per_update === 0;
      train.forEach((dot, i) => {
        const [a, b] = [data.theta[k][i], data.theta[next][i]];
        dot.setAttribute("cx", 150 + (a[0] + part * (b[0] - a[0])) * 0.48);
        dot.setAttribute("cy", 150 - (a[1] + part * (b[1] - a[1])) * 0.48);
        dot.setAttribute("class", `family-${data.family[update][i]}`);
      });
      evolve.forEach((dot, i) => {
        const a = data.h[update][i], b = jump ? data.h[Math.min(update + 1, data.updates)][i] : a;
        dot.setAttribute("cx", 150 + (a[0] + part * (b[0] - a[0])) * 0.48);
        dot.setAttribute("cy", 270 - (a[1] + part * (b[1] - a[1])) * 0.92);
        dot.setAttribute("class", `family-${data.family[update][i]}`);
      });
      cursor.setAttribute("cx", x(now));
      cursor.setAttribute("cy", y(data.median[k]));
      time.value = Math.round(now);
      const words = k >= last ? `after ${data.updates} updates` : jump ? `update ${update + 1}: the fitter are copied` : `training, ${update} update${update === 1 ? "" : "s"} so far`;
      state.textContent = words;
      time.setAttribute("aria-valuetext", words);
      box.dataset.now = now;
    }
    function step(stamp) {
      if (!playing) return;
      const jumping = (Math.floor(now) + 1) % data.per_update === 0;
      now = Math.min(now + (Math.max(stamp - before, 0) / 1000) * (jumping ? 2 : 9), last); // a frame may be dated early
      before = stamp;
      draw();
      if (now >= last) return play(false);
      requestAnimationFrame(step);
    }
    function play(on) {
      playing = on;
      button.textContent = on ? "Pause" : now >= last ? "Play again" : "Play";
      box.dataset.playing = on;
      if (!on) return;
      if (now >= last) now = 0;
      before = performance.now();
      requestAnimationFrame(step);
    }
    button.addEventListener("click", () => play(!playing));
    time.addEventListener("input", () => { now = Number(time.value); play(false); draw(); });
    still.addEventListener("change", () => still.matches && play(false));
    document.addEventListener("visibilitychange", () => document.hidden && play(false));
    const stages = html("div", { className: "panels" },
      stage(data.fitness_contours, left, train, "Weights train"),
      stage(data.effective_contours, right, evolve, "Hyperparameters evolve",
        word(150, 292, "bias →"), word(4, 16, "noise ↑", "start")),
      html("div", { className: "panel wide" }, html("p", { textContent: "Distance from the best fitness" }), strip));
    stages.setAttribute("role", "img");
    stages.setAttribute("aria-label", data.alt);
    box.replaceChildren(stages, html("div", { className: "controls" }, button,
      html("label", { htmlFor: time.id, textContent: "time", className: "unseen" }), time, state));
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", data.title);
    draw();
    play(!still.matches);
  }

  /* ------------------------------------------------------------------------------------------ start */

  function show(box) {
    const name = box.dataset.name, draw = () => (name === "landing" ? film : figure)(box, name, window.bookMoving[name]);
    if (window.bookMoving?.[name]) return draw(); // its data stand in the page's head
    const script = html("script", { src: new URL(`${name}.js`, base).href });
    script.addEventListener("load", draw);
    document.head.append(script);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const waiting = new Set(document.querySelectorAll("div.moving[data-name]"));
    const start = (box) => waiting.delete(box) && show(box);
    const near = new IntersectionObserver((seen) => seen.forEach((one) => one.isIntersecting && start(one.target)), { rootMargin: "100%" });
    waiting.forEach((box) => (window.bookMoving?.[box.dataset.name] ? start(box) : near.observe(box)));
    addEventListener("load", () => waiting.forEach(start)); // what is far off comes when the page itself is there
  });
})();
