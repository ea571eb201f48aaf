/* What the theory predicts of the algorithm: many agents whose training forgets, equation (13) of the paper, on a grid of h.

   Cell (i, j) of the grid, at j · n + i, has its centre at h = (at(i), at(j)). */
(() => {
  "use strict";
  const { H, WELLS, WIDTHS, FLAT, uniforms, accepted } = globalThis.pbt;
  const grid = { low: -7, step: 0.1, n: 140, at: (i) => -7 + 0.1 * (i + 0.5) };
  const { n, at } = grid;
  const table = (f) => Float64Array.from({ length: n * n }, (_, c) => f(at(c % n), at(Math.floor(c / n))));

  /* Points x, y and weights for integrals over the Gibbs measure of Himmelblau's loss at h = (0, s), by importance. */
  function nodes(s) {
    const each = 128, found = [];
    WELLS.forEach(({ x, y, p, q, r }, k) => {
      const u = uniforms(1, k, 0)[0];
      for (let i = 0; i < each; i++) { // a lattice, shifted
        const radius = Math.sqrt(-2 * Math.log((i + 0.5) / each)), angle = 2 * Math.PI * (u + i * 0.6180339887498949);
        const scale = s / Math.sqrt(4 * FLAT), v = (scale * radius * Math.sin(angle)) / r;
        const point = [x + (scale * radius * Math.cos(angle) - q * v) / p, y + v];
        found.push([...point, WIDTHS[k] * accepted(s, ...point)]);
      }
    });
    const total = found.reduce((sum, [, , w]) => sum + w, 0);
    const kept = found.filter(([, , w]) => w > 1e-9 * total);
    return [0, 1, 2].map((part) => Float64Array.from(kept, (node) => node[part] / (part === 2 ? total : 1)));
  }

  /* For each cell β𝓕_β(h) = log ∫ exp(βF) dμ_h, which selection climbs, and the mean distance ∫ (F* − F) dμ_h. */
  const LANDSCAPES = {
    quadratic(beta) {
      const exponent = (h1, h2) => -2 * beta * h1 * h1 / (1 + beta * h2 * h2 / 2) - Math.log1p(beta * h2 * h2 / 2);
      return { exponent: table(exponent), distance: table((h1, h2) => 2 * h1 * h1 + h2 * h2 / 2) };
    },
    himmelblau(beta) {
      const exponent = new Float64Array(n * n), distance = new Float64Array(n * n);
      for (let j = n / 2; j < n; j++) {
        const [xs, ys, shares] = nodes(at(j)), values = new Float64Array(xs.length);
        for (let i = 0; i < n; i++) {
          let least = Infinity, sum = 0, mean = 0;
          for (let k = 0; k < xs.length; k++) {
            values[k] = H(xs[k] + at(i), ys[k] + at(i));
            mean += shares[k] * values[k];
            least = Math.min(least, values[k]);
          }
          for (let k = 0; k < xs.length; k++) {
            const below = beta * (values[k] - least);
            if (below < 30) sum += shares[k] * Math.exp(-below);
          }
          for (const row of [j, n - 1 - j]) { // the law knows h₂ by its square only
            exponent[row * n + i] = Math.log(sum) - beta * least;
            distance[row * n + i] = mean;
          }
        }
      }
      return { exponent, distance };
    },
  };

  /* The law at the start, as the share of each cell. */
  function begin({ start }) {
    const bell = (z) => Math.exp(-z * z / 2);
    const law = table(start === "box" ? (a, b) => Number(Math.max(Math.abs(a), Math.abs(b)) < 5) : (a, b) => bell((a - 2.5) / 0.2) * bell((b - 0.7) / 0.2));
    return scaled(law, sum(law));
  }
  const sum = (values) => values.reduce((a, b) => a + b);
  const scaled = (values, total) => values.map((v) => v / total);

  /* The law of h + σξ, axis by axis; what would leave the grid stays in its last cell. */
  function mutated(law, sigma) {
    const reach = Math.max(1, Math.ceil(4 * sigma / grid.step)), tail = sigma / grid.step;
    let taps = Float64Array.from({ length: 2 * reach + 1 }, (_, k) => Math.exp(-(((k - reach) / tail) ** 2) / 2));
    if (tail < 1) taps = Float64Array.of(tail * tail / 2, 1 - tail * tail, tail * tail / 2); // of the same variance
    const half = (taps.length - 1) / 2;
    taps = scaled(taps, sum(taps));
    for (const stride of [1, n]) {
      const next = new Float64Array(n * n);
      for (let c = 0; c < n * n; c++) {
        const place = Math.floor(c / stride) % n;
        if (law[c] > 1e-15) for (let k = -half; k <= half; k++)
          next[c + stride * (Math.min(Math.max(place + k, 0), n - 1) - place)] += law[c] * taps[k + half];
      }
      law = next;
    }
    return law;
  }

  /* One simultaneous update of Gibbs selection: the share τ jumps. */
  function next(law, weights, { sigma, tau }) {
    const parents = law.map((mass, c) => mass * weights[c]), born = mutated(scaled(parents, sum(parents)), sigma);
    return law.map((mass, c) => (1 - tau) * mass + tau * born[c]);
  }

  /* The weights e^{β𝓕}, the largest 1. */
  function weightsOf(exponent) {
    const top = exponent.reduce((a, b) => Math.max(a, b));
    return exponent.map((v) => Math.exp(v - top));
  }

  /* Mean and spread of the bias, mean size and spread of the noise: of a law, and of agents. */
  function moments(h1, h2, shares) {
    let a = 0, aa = 0, b = 0, bb = 0;
    shares.forEach((w, i) => { a += w * h1(i); aa += w * h1(i) ** 2; b += w * Math.abs(h2(i)); bb += w * h2(i) ** 2; });
    return { bias: a, biasSpread: Math.sqrt(Math.max(aa - a * a, 0)), noise: b, noiseSpread: Math.sqrt(Math.max(bb - b * b, 0)) };
  }
  const ofLaw = (law) => moments((c) => at(c % n), (c) => at(Math.floor(c / n)), law);
  const ofAgents = ({ h }) => moments((i) => h[2 * i], (i) => h[2 * i + 1], new Float64Array(h.length / 2).fill(2 / h.length));
  const distanceOf = (law, distance) => law.reduce((total, mass, c) => total + mass * distance[c], 0);

  globalThis.pbtLimit = { grid, LANDSCAPES, begin, next, weightsOf, ofLaw, ofAgents, distanceOf };
})();
