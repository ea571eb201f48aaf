/* The playground: draws what algorithm.js computes beside what limit.js predicts, and keeps its settings in the address. */
(() => {
  "use strict";
  const { PROBLEMS, MINIMA, H, start, between, train, fitness, evolve } = globalThis.pbt;
  const { grid, LANDSCAPES, begin, next, weightsOf, ofLaw, ofAgents, distanceOf } = globalThis.pbtLimit;
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  /* What can be set: the allowed values and their names. `initial` is the default. */
  const CHOICES = {
    problem: { label: "Problem", values: { quadratic: "quadratic", himmelblau: "Himmelblau" }, initial: "quadratic" },
    algorithm: { label: "Algorithm", values: { 1: "1: gradient steps", 2: "2: drawn anew" }, initial: 1 },
    rule: { label: "Selection", values: { gibbs: "softmax (Gibbs)", truncation: "truncation", removal: "removal of the unfit" }, initial: "gibbs" },
    start: { label: "Start", values: { box: "anywhere in the box", quiet: "biased and quiet" }, initial: "box" },
    N: { label: "Agents N", values: [10, 30, 100, 300, 500, 1000, 2000], initial: 300 },
    beta: { label: "Pressure β", values: [0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10], initial: 1 },
    q: { label: "Share q copied and lost", values: [0.05, 0.1, 0.2, 0.3, 0.5], initial: 0.2 },
    sigma: { label: "Mutation σ", values: [0, 0.02, 0.05, 0.1, 0.2, 0.4], initial: 0.1 },
    steps: { label: "Training steps per unit of time", values: [1, 2, 5, 10, 20, 50, 100, 200, 400], initial: 100 },
    tau: { label: "Clock τ: time between updates", values: [0.05, 0.1, 0.25, 0.5, 1], initial: 1 },
  };
  const RANGES = { seed: { low: 0, high: 4294967295, initial: 1 }, update: { low: 0, high: 1000, initial: 0 } };
  const SPEEDS = { 0.5: "slow", 1.5: "normal", 8: "fast", 60: "very fast" }; // updates per second
  const TEETH = 12, KEPT = 80; // updates that the two time axes show at most
  const SPANS = [1.6, 3.2, 6.4]; // of the planes, from the centre; as little as shows nearly all

  /* -------------------------------------------------------------------------------------------- the address */

  /* Settings from "#problem=quadratic&N=300&…", and what in it is not allowed, in words. */
  function parse(hash) {
    const settings = { update: 0 }, wrong = [];
    for (const [name, { initial }] of Object.entries({ ...CHOICES, ...RANGES })) settings[name] = initial;
    for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
      const value = text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
      const allowed = CHOICES[name] && (Array.isArray(CHOICES[name].values) ? CHOICES[name].values : Object.keys(CHOICES[name].values));
      if (allowed?.some((v) => String(v) === String(value))) settings[name] = value;
      else if (allowed) wrong.push(`${name} = ${text} is none of ${allowed.join(", ")}; it is ${settings[name]} here.`);
      else if (!RANGES[name]) wrong.push(`There is nothing called ${name} to be set.`);
      else if (Number.isInteger(value) && value >= RANGES[name].low && value <= RANGES[name].high) settings[name] = value;
      else wrong.push(`${name} = ${text} is no whole number from ${RANGES[name].low} to ${RANGES[name].high}; it is ${settings[name]} here.`);
    }
    return { settings, wrong };
  }
  const address = (settings, update) => "#" + new URLSearchParams({ ...settings, update });
  const isLink = (hash) => hash.includes("=");

  /* -------------------------------------------------------------------------------------------- drawing */

  function element(name, properties = {}, ...children) {
    const node = Object.assign(document.createElement(name), properties);
    node.append(...children);
    return node;
  }

  /* The level line {f = level} of values on an n × n lattice, as a path; at(i) is the coordinate of column or row i. */
  function contour(values, n, level, x, y) {
    const path = new Path2D();
    for (let j = 0; j + 1 < n; j++) for (let i = 0; i + 1 < n; i++) {
      const at = j * n + i, inside = values[at] > level; // most cells have no end of a line, and cost no array
      if (values[at + 1] > level === inside && values[at + n] > level === inside && values[at + n + 1] > level === inside) continue;
      const c = [values[at], values[at + 1], values[at + n + 1], values[at + n]].map((v) => v - level);
      const ends = [[0, 1, 0, 0, 1, 0], [1, 2, 1, 0, 0, 1], [2, 3, 1, 1, -1, 0], [3, 0, 0, 1, 0, -1]]
        .filter(([a, b]) => c[a] > 0 !== c[b] > 0)
        .map(([a, b, u, v, du, dv]) => { const t = c[a] / (c[a] - c[b]); return [x(i + u + t * du), y(j + v + t * dv)]; });
      for (let k = 0; k + 1 < ends.length; k += 2) { path.moveTo(...ends[k]); path.lineTo(...ends[k + 1]); }
    }
    return path;
  }

  const HUES = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#56b4e9", "#ca9161", "#ece133", "#fbafe4"];
  const towards = (hue, end, part) => `rgb(${[1, 3, 5].map((k) => Math.round((1 - part) * parseInt(hue.slice(k, k + 2), 16) + part * end))})`;
  const colours = (dark) => [...HUES, ...HUES.map((hue) => towards(hue, dark ? 255 : 0, dark ? 0.45 : 0.3))];
  const number = (value) => (Math.abs(value) < 5e-3 ? 0 : value).toFixed(2).replace("-", "−");

  /* A canvas that is sharp on its screen, with a picture behind what moves. */
  function stage(name, words) {
    const canvas = element("canvas", { className: name }), behind = element("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", words);
    const pen = canvas.getContext("2d");
    return { canvas, pen, behind, fit() {
      const ratio = Math.min(devicePixelRatio || 1, 2), { clientWidth: w, clientHeight: h } = canvas;
      for (const one of [canvas, behind]) { one.width = Math.max(1, Math.round(w * ratio)); one.height = Math.max(1, Math.round(h * ratio)); }
      const back = behind.getContext("2d");
      for (const one of [pen, back]) one.setTransform(ratio, 0, 0, ratio, 0, 0);
      Object.assign(this, { w, h, ratio, back, drawn: null });
    }, changed(...what) { // whether it shows something else than this
      if (this.drawn && what.every((value, k) => value === this.drawn[k])) return false;
      this.drawn = what;
      return true;
    }, clear() {
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(behind, 0, 0);
      pen.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    } };
  }

  /* -------------------------------------------------------------------------------------------- the playground */

  function playground(box) {
    let settings, population, landscape, weights, law, prediction, moved; // moved: where agents were before they jumped
    let flight = 1, playing = false, target = 0, trouble = "", before = 0, due = 0, visible = true, look = {}, palette = [], spans = { theta: 6.4, h: 6.4 };
    let teeth = [], families = [], predicted = [];

    /* ---- the panels */
    const stages = {
      theta: stage("plane", "The weights of all agents as dots in the plane, with level lines of the fitness."),
      h: stage("plane", "The hyperparameters of all agents as dots, bias to the right, noise upwards, with level lines of what selection climbs and of the density that the limit predicts."),
      teeth: stage("strip", "Distance of the mean fitness from the best fitness over time, a sawtooth, with what the limit predicts."),
      families: stage("strip", "The share of each family of agents with one founder, over the updates."),
    };
    const panel = (name, title) => element("div", { className: `panel ${name}` }, element("p", { className: "title", textContent: title }), stages[name].canvas);
    const panels = element("div", { className: "panels" }, panel("theta", "Weights θ: they train"), panel("h", "Hyperparameters h: they evolve"),
      panel("teeth", "Fitness: a sawtooth"), panel("families", "Families: one colour, one founder"));

    const across = (one, span, value) => (value / span / 2 + 0.5) * one.w; // from a plane to its canvas
    const down = (one, span, value) => (0.5 - value / span / 2) * one.h;
    function wanted(values) { // the span that shows nearly all agents
      const far = Float64Array.from(values, Math.abs).sort();
      return SPANS.find((span) => far[Math.ceil(0.995 * far.length) - 1] < 0.95 * span) ?? SPANS.at(-1);
    }
    function zoom() {
      const theta = settings.problem === "quadratic" ? wanted(population.theta) : SPANS.at(-1), h = wanted(population.h);
      if (theta === spans.theta && h === spans.h) return;
      spans = { theta, h };
      scenery();
    }

    function scenery() {
      const style = getComputedStyle(box), get = (name) => style.getPropertyValue(name).trim();
      look = { text: get("--pst-color-text-base"), quiet: get("--quiet"), line: get("--pst-color-border"), paper: get("--paper"), limit: get("--limit"), tooth: get("--tooth"), font: `12px ${style.fontFamily}` };
      palette = colours(document.documentElement.dataset.theme === "dark");
      for (const one of Object.values(stages)) one.fit();
      const n = 129, lattice = (k) => (k / (n - 1) * 2 - 1) * spans.theta;
      const { fitness: F, best } = PROBLEMS[settings.problem];
      const gaps = Float64Array.from({ length: n * n }, (_, c) => best - F(lattice(c % n), lattice(Math.floor(c / n))));
      const plane = (one, span, values, size, x, y, levels) => {
        one.back.fillStyle = look.paper;
        one.back.fillRect(0, 0, one.w, one.h);
        one.back.font = look.font;
        one.back.lineWidth = 1;
        one.back.strokeStyle = look.line;
        one.back.beginPath();
        const tick = { 1.6: 1, 3.2: 2, 6.4: 5 }[span];
        one.back.fillStyle = look.text;
        for (let t = -tick; t <= tick; t += tick) {
          const px = across(one, span, t), py = down(one, span, t), words = String(t).replace("-", "−");
          one.back.moveTo(px, 0); one.back.lineTo(px, one.h); one.back.moveTo(0, py); one.back.lineTo(one.w, py);
          if (t <= 0) one.back.fillText(words, px + 3, one.h - 4); // the other corner is the axis's name
          if (t < 0) one.back.fillText(words, 3, py - 3);
        }
        one.back.stroke();
        one.back.strokeStyle = look.quiet;
        levels.forEach((level, k) => {
          one.back.globalAlpha = 0.75 - 0.09 * k;
          one.back.stroke(contour(values, size, level, x, y));
        });
        one.back.globalAlpha = 1;
      };
      const { theta, h } = stages;
      plane(theta, spans.theta, gaps, n, (k) => (k / (n - 1)) * theta.w, (k) => (1 - k / (n - 1)) * theta.h,
        settings.problem === "quadratic" ? [0.1, 0.5, 2, 6, 14, 28, 50] : [2, 13.3, 40, 100, 180, 400]);
      const [x, y] = onLattice(h), levels = [-0.1, -0.25, -0.5, -1, -2, -4, ...(settings.problem === "quadratic" ? [-8] : [])];
      plane(h, spans.h, landscape.exponent, grid.n, x, y, settings.rule === "truncation" ? [] : levels);
      const label = (one, words) => { one.back.fillStyle = look.text; one.back.textAlign = "right"; one.back.fillText(words, one.w - 4, one.h - 4); one.back.textAlign = "left"; };
      label(theta, "θ₁ →"); label(h, "bias h₁ →");
      theta.back.fillText("θ₂ ↑", 4, 14); h.back.fillText("noise h₂ ↑", 4, 14);
      if (settings.problem === "himmelblau") {
        theta.back.strokeStyle = look.text;
        for (const [a, b] of MINIMA) { theta.back.beginPath(); theta.back.arc(across(theta, spans.theta, a), down(theta, spans.theta, b), 7, 0, 7); theta.back.stroke(); }
      }
      for (const one of [theta, h]) {
        one.ground = pixelsOf(one.back, one.canvas);
        one.image = one.pen.createImageData(one.canvas.width, one.canvas.height);
        one.pixels = new Uint32Array(one.image.data.buffer);
      }
      limit.width = limit.height = 0;
      sprites();
      drawFamilies();
    }
    const onLattice = (one) => [(k) => across(one, spans.h, grid.at(k)), (k) => down(one, spans.h, grid.at(k))];
    const pixelsOf = (pen, { width, height }) => new Uint32Array(pen.getImageData(0, 0, width, height).data.buffer);

    /* A dot of each colour, as pixels. */
    let dots = [], side = 12;
    function sprites() {
      const size = (settings.N > 600 ? 4.7 : settings.N > 100 ? 7 : 9) * (stages.theta.w < 220 ? 0.75 : 1), { ratio } = stages.theta;
      side = Math.ceil(size * ratio);
      dots = palette.map((colour) => {
        const dot = element("canvas", { width: side, height: side }), pen = dot.getContext("2d");
        pen.scale(side / size, side / size);
        pen.fillStyle = colour; pen.strokeStyle = look.paper; pen.lineWidth = 0.7;
        pen.beginPath(); pen.arc(size / 2, size / 2, size / 2 - 0.5, 0, 7); pen.fill();
        if (settings.N <= 600) pen.stroke(); // a rim tells dots apart, but thousands would be more rim than dot
        return pixelsOf(pen, dot);
      });
    }

    /* All dots on the ground of a plane, pixel by pixel: of thousands, that is many times as fast as the canvas's own drawing. */
    function drawPlane(one, span, now, old) {
      const { founder } = population, { pixels, canvas: { width, height } } = one, ease = flight * flight * (3 - 2 * flight);
      pixels.set(one.ground);
      for (let i = 0; i < founder.length; i++) {
        let x = now[2 * i], y = now[2 * i + 1];
        if (old) { x = old[2 * i] + ease * (x - old[2 * i]); y = old[2 * i + 1] + ease * (y - old[2 * i + 1]); }
        const left = Math.round(Math.min(Math.max((x / span / 2 + 0.5) * width - side / 2, 0), width - side));
        const top = Math.round(Math.min(Math.max((0.5 - y / span / 2) * height - side / 2, 0), height - side));
        const dot = dots[founder[i] % dots.length];
        for (let row = 0, k = 0; row < side; row++) for (let at = (top + row) * width + left, end = at + side; at < end; at++, k++) {
          const ink = dot[k], part = ink >>> 24;
          if (part === 255) pixels[at] = ink;
          else if (part) pixels[at] = over(ink, pixels[at], part);
        }
      }
      one.pen.putImageData(one.image, 0, 0);
    }
    const blend = (a, b, part) => (a * part + b * (255 - part)) / 255 | 0;
    const over = (a, b, part) => 255 << 24 | blend(a >> 16 & 255, b >> 16 & 255, part) << 16 | blend(a >> 8 & 255, b >> 8 & 255, part) << 8 | blend(a & 255, b & 255, part);

    const limit = element("canvas"); // the level lines of the law, which change with it only
    function drawLimit() {
      if (!law) return;
      const { canvas: { width, height }, pen, ratio } = stages.h;
      if (law !== drawLimit.of || limit.width !== width) {
        const [x, y] = onLattice(stages.h), top = law.reduce((a, b) => Math.max(a, b)), lines = limit.getContext("2d");
        Object.assign(limit, { width, height }); // empties it
        lines.scale(ratio, ratio);
        lines.strokeStyle = look.limit;
        [0.5, 0.05].forEach((part, k) => { lines.lineWidth = k ? 1.3 : 3; lines.stroke(contour(law, grid.n, part * top, x, y)); });
        drawLimit.of = law;
      }
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.drawImage(limit, 0, 0);
    }

    function drawTeeth() {
      const one = stages.teeth, { pen, w, h } = one, left = 40, bottom = 18, first = Math.max(0, population.update - TEETH + 1);
      one.clear();
      const seen = teeth.filter(([t]) => t >= first - 0.02), marks = predicted.filter(([t]) => t > first);
      const logs = [...seen, ...marks].map(([, v]) => Math.log10(Math.max(v, 1e-4)));
      const low = Math.floor(Math.min(...logs) * 3 - 0.3) / 3, high = Math.max(Math.ceil(Math.max(...logs) * 3 + 0.3) / 3, low + 1);
      const x = (t) => left + ((t - first) / TEETH) * (w - left - 6), y = (v) => 8 + (high - Math.log10(Math.max(v, 1e-4))) / (high - low) * (h - bottom - 12);
      pen.font = look.font; pen.fillStyle = look.text; pen.strokeStyle = look.line; pen.lineWidth = 1;
      pen.textAlign = "right";
      for (let k = Math.floor(low); k <= high; k++) for (const m of high - low > 2.5 ? [1] : high - low > 1.4 ? [1, 3] : [1, 2, 5]) {
        const value = m * 10 ** k, py = y(value);
        if (py < 8 || py > h - bottom - 2) continue;
        pen.beginPath(); pen.moveTo(left, py); pen.lineTo(w - 6, py); pen.stroke();
        pen.fillText(String(Number(value.toPrecision(2))), left - 5, py + 4);
      }
      pen.textAlign = "center";
      for (let t = first; t <= first + TEETH; t += 2) pen.fillText(String(t), x(t), h - 3);
      pen.textAlign = "left";
      pen.strokeStyle = look.text; pen.beginPath(); pen.moveTo(left, 4); pen.lineTo(left, h - bottom); pen.lineTo(w - 4, h - bottom); pen.stroke();
      pen.strokeStyle = look.tooth; pen.lineWidth = 2; pen.lineJoin = "round"; pen.beginPath();
      seen.forEach(([t, v], k) => pen[k ? "lineTo" : "moveTo"](x(t), y(v)));
      pen.stroke();
      pen.fillStyle = look.limit;
      for (const [t, v] of marks) { pen.beginPath(); pen.arc(x(t), y(v), 3.6, 0, 7); pen.fill(); }
    }

    const bands = element("canvas");
    function drawFamilies() {
      const one = stages.families, { back: pen, w, h } = one, left = 4, bottom = 18, kept = [20, 40, KEPT].find((many) => many >= families.length) ?? KEPT;
      const shown = families.slice(-kept), first = families.length - shown.length, wide = (w - left - 4) / kept;
      const inks = dots.map((dot) => dot[(side >> 1) * (side + 1)]), image = new ImageData(kept, Math.max(1, Math.round((h - bottom - 4) * one.ratio)));
      const pixels = new Uint32Array(image.data.buffer), of = (row) => (row + 0.5) / image.height * settings.N;
      shown.forEach((shares, k) => { // a column of pixels for an update
        let row = 0, agents = 0;
        for (const [founder, count] of shares) for (agents += count; of(row) < agents; row++) pixels[row * kept + k] = inks[founder % inks.length];
      });
      Object.assign(bands, { width: kept, height: image.height }).getContext("2d").putImageData(image, 0, 0);
      pen.clearRect(0, 0, w, h);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(bands, left, 4, kept * wide, h - bottom - 4);
      pen.font = look.font; pen.fillStyle = look.text; pen.textAlign = "center";
      for (let t = 0; t <= kept; t += kept / 4) pen.fillText(String(first + t), Math.min(Math.max(left + t * wide, 10), w - 14), h - 3);
      pen.textAlign = "left";
      one.clear();
    }

    /* Draw what has changed: h and the law do at updates only, the sawtooth a dozen times between them. */
    function draw() {
      const old = flight < 1 && moved;
      if (stages.theta.changed(population.theta, flight)) drawPlane(stages.theta, spans.theta, population.theta, old?.theta);
      if (stages.h.changed(population.h, flight, law)) {
        drawPlane(stages.h, spans.h, population.h, old?.h);
        drawLimit();
      }
      if (stages.teeth.changed(teeth.at(-1), predicted.length)) drawTeeth();
    }

    /* ---- what it says */
    const says = element("p", { className: "says" });
    says.setAttribute("aria-live", "polite");
    function say() {
      const { update, founder } = population, here = ofAgents(population), left = new Set(founder).size;
      const lines = [`After ${update} update${update === 1 ? "" : "s"} the bias is ${number(here.bias)} ± ${number(here.biasSpread)} and the noise ${number(here.noise)} on average; ${left} of ${settings.N.toLocaleString("en-GB")} families ${left === 1 ? "is" : "are"} left.`];
      lines.push(prediction ? `The limit says bias ${number(prediction.bias)} ± ${number(prediction.biasSpread)}, noise ${number(prediction.noise)}.`
        : "The limit is drawn for softmax only.");
      if (settings.problem === "himmelblau") {
        const count = [0, 0, 0, 0], { theta } = population;
        for (let i = 0; i < settings.N; i++) {
          const far = MINIMA.map(([a, b]) => (theta[2 * i] - a) ** 2 + (theta[2 * i + 1] - b) ** 2);
          count[far.indexOf(Math.min(...far))]++;
        }
        const top = Math.max(...count), [a, b] = MINIMA[count.indexOf(top)];
        lines.push(`${Math.round(100 * top / settings.N)}% are nearest to the optimum (${number(a)}, ${number(b)}).`);
      }
      if (trouble) lines.push(`Stopped: ${trouble}.`);
      const words = lines.join(" ");
      if (says.textContent !== words) says.textContent = words;
    }

    /* ---- time */
    const gap = () => PROBLEMS[settings.problem].best - fitness(population, settings).reduce((a, b) => a + b) / settings.N;
    function record() {
      teeth.push([population.update + population.step / between(settings), gap()]);
      if (teeth.length > 2000) teeth = teeth.slice(-1000);
    }
    function countFamilies() {
      const count = new Map();
      for (const founder of population.founder) count.set(founder, (count.get(founder) ?? 0) + 1);
      families.push([...count].sort((a, b) => a[0] - b[0]));
    }

    /* Train for at most so many steps; when an update's worth is done, select, copy and mutate. Returns the steps. */
    function advance(most) {
      const whole = between(settings), every = Math.max(1, Math.ceil(whole / 12));
      if (population.step < whole) {
        const steps = Math.min(most, whole - population.step, every - (population.step % every));
        population = train(population, settings, steps);
        if (population.step % every === 0 || population.step === whole) record();
        return steps;
      }
      moved = population;
      try {
        population = evolve(population, settings);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        trouble = error.message;
        play(false);
        return 0;
      }
      if (law) {
        predicted.push([population.update, distanceOf(law, landscape.distance)]);
        law = next(law, weights, settings);
        prediction = ofLaw(law);
      }
      record();
      countFamilies();
      return 0;
    }
    function oneUpdate() {
      while (!trouble && advance(Infinity));
      flight = 1;
    }

    function frame(stamp) {
      const passed = Math.min(stamp - before, 100) / 1000, speed = Number(speeds.value), begun = performance.now();
      before = stamp;
      if (population.update < target && !trouble) { // on the way to the update that a link asks for
        while (population.update < target && !trouble && performance.now() - begun < 25) advance(between(settings));
        flight = 1;
        drawFamilies();
      } else if (playing && visible) {
        if (flight < 1) flight = Math.min(1, flight + passed * speed * 3); // a third of the time for the jump
        else {
          due = Math.min(due + passed * speed * 1.5 * between(settings), 2 * between(settings) + 1);
          while (due >= 1 && playing && flight === 1 && performance.now() - begun < 12) {
            const steps = advance(Math.floor(due));
            due -= steps || 1;
            if (!steps && speed < 2 && !trouble) flight = due = 0; // the jump is shown
          }
        }
      }
      if (families.length !== frame.shown) { zoom(); drawFamilies(); frame.shown = families.length; }
      if (stamp - (frame.said ?? 0) > 250) { say(); frame.said = stamp; } // nobody reads faster
      draw();
      if (playing || population.update < target) requestAnimationFrame(frame);
      else settle();
    }
    let running = false;
    function run() {
      if (running) return;
      running = true;
      before = performance.now();
      requestAnimationFrame(frame);
    }
    /* At rest: the words are read out, and the address leads to what is seen. */
    function settle() {
      running = false;
      says.setAttribute("aria-live", "polite");
      say();
      zoom();
      drawFamilies();
      draw();
      history.replaceState(null, "", address(settings, population.update));
      box.dataset.update = population.update;
    }
    function play(on) {
      if (on && trouble) return;
      playing = on;
      button.textContent = on ? "Pause" : "Play";
      box.dataset.playing = on;
      if (!on) return;
      says.setAttribute("aria-live", "off"); // it would be read out several times a second
      run();
    }

    /* ---- controls */
    const button = element("button", { type: "button", className: "play", textContent: "Play" });
    const once = element("button", { type: "button", textContent: "One update" });
    const again = element("button", { type: "button", textContent: "Start again" });
    const other = element("button", { type: "button", textContent: "Other numbers" });
    const link = element("button", { type: "button", textContent: "Copy link" });
    const field = (id, label, input, ...more) => element("div", { className: `field ${id}` }, element("label", { htmlFor: input.id, textContent: label }), input, ...more);
    const options = (values) => Object.entries(values).map(([value, textContent]) => element("option", { value, textContent }));
    const speeds = element("select", { id: "playground-speed" }, ...options(SPEEDS));
    speeds.value = 1.5;
    const inputs = {}, fields = Object.entries(CHOICES).map(([name, { label, values }]) => {
      const id = `playground-${name}`, list = Array.isArray(values);
      const input = list ? element("input", { type: "range", id, min: 0, max: values.length - 1, step: 1 }) : element("select", { id }, ...options(values));
      const value = list ? element("output", { htmlFor: id }) : "";
      inputs[name] = { input, show() {
        if (!list) input.value = settings[name];
        else {
          input.value = values.indexOf(settings[name]);
          value.textContent = settings[name].toLocaleString("en-GB");
          input.setAttribute("aria-valuetext", value.textContent);
        }
      } };
      input.addEventListener(list ? "input" : "change", () => {
        const chosen = list ? values[input.value] : Number.isNaN(Number(input.value)) ? input.value : Number(input.value);
        begun({ ...settings, [name]: chosen }, 0, playing);
      });
      return field(name, label, input, value);
    });
    const seed = element("input", { type: "number", id: "playground-seed", min: 0, max: RANGES.seed.high, step: 1 });
    seed.addEventListener("change", () => {
      const { low, high } = RANGES.seed, value = Number(seed.value);
      if (Number.isInteger(value) && value >= low && value <= high && seed.value !== "") return begun({ ...settings, seed: value }, 0, playing);
      problemWords.textContent = `seed = ${seed.value} is no whole number from ${low} to ${high}; it stays ${settings.seed}.`;
    });
    button.addEventListener("click", () => play(!playing));
    once.addEventListener("click", () => { play(false); oneUpdate(); if (!running) settle(); });
    again.addEventListener("click", () => begun(settings, 0, playing));
    other.addEventListener("click", () => begun({ ...settings, seed: (settings.seed + 1) % 4294967296 }, 0, playing));
    link.addEventListener("click", async () => {
      history.replaceState(null, "", address(settings, population.update));
      try { await navigator.clipboard.writeText(location.href); link.textContent = "Link copied"; }
      catch { link.textContent = "Link is in the address bar"; }
      setTimeout(() => { link.textContent = "Copy link"; }, 2500);
    });
    const problemWords = element("p", { className: "wrong" });
    problemWords.setAttribute("role", "status");
    const key = element("p", { className: "key" }, element("span", { className: "sample" }), "the limit: half of its peak ",
      element("span", { className: "sample thin" }), "a twentieth ", element("span", { className: "sample dot" }), "its mean fitness after training");

    /* ---- start */
    function begun(asked, update, on) {
      const fresh = !settings || asked.problem !== settings.problem || asked.beta !== settings.beta;
      settings = Object.fromEntries(Object.entries(asked).filter(([name]) => name !== "update"));
      trouble = ""; target = update; flight = 1; due = 0; moved = null;
      population = start(settings);
      if (fresh) {
        landscape = LANDSCAPES[settings.problem](settings.beta);
        weights = weightsOf(landscape.exponent);
      }
      law = settings.rule === "gibbs" ? begin(settings) : null;
      prediction = law && ofLaw(law);
      teeth = []; families = []; predicted = [];
      record();
      countFamilies();
      spans = { theta: SPANS.at(-1), h: wanted(population.h) };
      Object.values(inputs).forEach(({ show }) => show());
      seed.value = settings.seed;
      problemWords.textContent = "";
      box.dataset.rule = settings.rule;
      box.dataset.algorithm = settings.algorithm;
      key.hidden = !law;
      scenery();
      play(on);
      if (!on) { if (target) { says.setAttribute("aria-live", "off"); run(); } else if (!running) settle(); }
    }
    function follow(hash, on) {
      const { settings: asked, wrong } = parse(hash);
      begun(asked, asked.update, on && !asked.update);
      problemWords.textContent = wrong.join(" ");
    }

    box.replaceChildren(element("div", { className: "buttons" }, button, once, again, other, link, field("speed", "Speed", speeds)),
      problemWords, panels, key, says, element("div", { className: "fields" }, ...fields, field("seed", "Seed", seed)));
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "Playground");
    follow(isLink(location.hash) ? location.hash : "", !still.matches);
    addEventListener("hashchange", () => {
      if (!isLink(location.hash)) return;
      follow(location.hash, !still.matches);
      box.scrollIntoView({ block: "start", behavior: still.matches ? "auto" : "smooth" });
    });
    still.addEventListener("change", () => still.matches && play(false));
    document.addEventListener("visibilitychange", () => document.hidden && play(false));
    new IntersectionObserver(([seen]) => { visible = seen.isIntersecting; }).observe(panels);
    new ResizeObserver(() => { if (stages.theta.canvas.clientWidth !== stages.theta.w) { scenery(); draw(); } }).observe(panels);
    new MutationObserver(() => { scenery(); draw(); }).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("div.playground").forEach(playground));
})();
