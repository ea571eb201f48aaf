/* Algorithms 1 and 2 of the paper, as in pbtlib/training.py and pbtlib/evolution.py: arithmetic on typed arrays, nothing of a page.

   A population is { theta, h, founder, update, step }. The two coordinates of agent i stand at 2i and 2i + 1 of theta and h;
   founder[i] is its ancestor at the start; step counts the training steps since the last update. Settings are { problem, N,
   start, seed, algorithm, steps, tau, rule, beta, q, sigma }. No function changes what it is given. Every random number
   belongs to a key (seed, update, what for, step): how many steps are taken at a time changes nothing. */
(() => {
  "use strict";

  /* -------------------------------------------------------------------------------------------- random numbers */

  const START = 1, TRAIN = 2, TIES = 3, WHO = 4, PARENT = 5, MUTATE = 6;

  function mix(x) { // the finaliser of MurmurHash3
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return x ^ (x >>> 16);
  }

  /* n uniform numbers between 0 and 1 that belong to a key, by Doty-Humphrey's generator sfc32. */
  function uniforms(n, ...key) {
    const values = new Float64Array(n);
    let [a, b, c] = [1, 2, 3].map((salt) => key.reduce((x, word) => mix((x + word + 0x9e3779b9) | 0), salt));
    for (let count = 1; count <= n + 15; count++) { // the first fifteen only mix
      const bits = (a + b + count) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + bits) | 0;
      if (count > 15) values[count - 16] = ((bits >>> 0) + 0.5) / 4294967296;
    }
    return values;
  }

  /* n standard normal numbers, by Box and Muller; n is even. */
  function normals(n, ...key) {
    const values = uniforms(n, ...key);
    for (let i = 0; i < n; i += 2) {
      const radius = Math.sqrt(-2 * Math.log(values[i])), angle = 2 * Math.PI * values[i + 1];
      values[i] = radius * Math.cos(angle);
      values[i + 1] = radius * Math.sin(angle);
    }
    return values;
  }

  /* -------------------------------------------------------------------------------------------- problems */

  const H = (x, y) => (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2;
  const MINIMA = [[3, 2], [-2.805118086952745, 3.131312518250573], [-3.779310253377747, -3.2831859912861696],
    [3.5844283403304917, -1.8481265269644036]];

  /* At each minimum of H half its Hessian is (a b; b c), of lower Cholesky factor (p 0; q r). */
  const WELLS = MINIMA.map(([x, y]) => {
    const a = 6 * x * x + 2 * y - 21, b = 2 * (x + y), c = 6 * y * y + 2 * x - 13;
    const p = Math.sqrt(a), q = b / p, r = Math.sqrt(c - q * q);
    return { x, y, p, q, r, bowl: (u, v) => a * (u - x) ** 2 + 2 * b * (u - x) * (v - y) + c * (v - y) ** 2 };
  });
  const WIDTHS = WELLS.map(({ p, r }) => 1 / (p * r)), WIDTH = WIDTHS.reduce((sum, w) => sum + w);
  const FLAT = 0.24; // H ≥ FLAT · min over the wells of `bowl`, everywhere

  /* A point with density ∝ Σ over the wells of exp(−2 FLAT bowl/s²), from a uniform number and two normal ones. */
  function proposal(s, pick, z1, z2) {
    let k = 0;
    for (pick *= WIDTH; k < 3 && pick > WIDTHS[k]; k++) pick -= WIDTHS[k];
    const { x, y, p, q, r } = WELLS[k], scale = s / Math.sqrt(4 * FLAT);
    const v = (scale * z2) / r;
    return [x + (scale * z1 - q * v) / p, y + v];
  }
  /* Its density, up to a constant, is at least that of the Gibbs measure, exp(−2H/s²): this is the ratio of the two. */
  function accepted(s, x, y) {
    const alpha = 2 / (s * s);
    return Math.exp(-alpha * H(x, y)) / WELLS.reduce((sum, { bowl }) => sum + Math.exp(-alpha * FLAT * bowl(x, y)), 0);
  }

  /* Each loss is one function of θ − h₁𝟏, with this gradient; the fitness looks at θ. draw fills θ from the Gibbs measures. */
  const PROBLEMS = {
    quadratic: {
      dt: 0.01, best: 1.2, fitness: (x, y) => 1.2 - x * x - y * y, slope: [(x, y) => 2 * x, (x, y) => 2 * y],
      draw(theta, h, ...key) {
        const noise = normals(theta.length, ...key, 0);
        for (let j = 0; j < theta.length; j++) theta[j] = h[j & ~1] + (Math.abs(h[j | 1]) / 2) * noise[j];
      },
    },
    himmelblau: {
      dt: 0.001, best: 0, fitness: (x, y) => -H(x, y),
      slope: [(x, y) => 4 * x * (x * x + y - 11) + 2 * (x + y * y - 7), (x, y) => 2 * (x * x + y - 11) + 4 * y * (x + y * y - 7)],
      draw(theta, h, ...key) { // by rejection: about every fourth proposal is accepted
        let waiting = Array.from({ length: theta.length / 2 }, (_, i) => i);
        for (let round = 0; waiting.length; round++) {
          const u = uniforms(2 * waiting.length, ...key, 2 * round), z = normals(2 * waiting.length, ...key, 2 * round + 1);
          waiting = waiting.filter((i, j) => {
            const s = Math.max(Math.abs(h[2 * i + 1]), 1e-9), [x, y] = proposal(s, u[2 * j], z[2 * j], z[2 * j + 1]);
            if (u[2 * j + 1] > accepted(s, x, y)) return true;
            theta[2 * i] = x + h[2 * i];
            theta[2 * i + 1] = y + h[2 * i];
            return false;
          });
        }
      },
    },
  };

  /* -------------------------------------------------------------------------------------------- selection rules */

  function softmax(values) {
    const top = values.reduce((a, b) => Math.max(a, b)), weights = values.map((v) => Math.exp(v - top));
    const total = weights.reduce((a, b) => a + b);
    return weights.map((w) => w / total);
  }

  /* What a rule makes of the fitness: gain, the probability of each agent to be a parent; loss, over the agent's mass 1/N. */
  const RULES = {
    gibbs: (F, { beta }) => ({ gain: softmax(F.map((f) => beta * f)), loss: F.map(() => 1) }),
    removal: (F, { beta }) => ({ gain: softmax(F.map((f) => beta * f)), loss: softmax(F.map((f) => -beta * f)).map((w) => w * F.length) }),
    truncation(F, { q }, ties) { // the best and the worst ⌊qN⌋
      const n = Math.floor(q * F.length + 1e-9), gain = new Float64Array(F.length), loss = new Float64Array(F.length);
      const order = Array.from(F.keys()).sort((i, j) => F[i] - F[j] || ties[i] - ties[j]);
      for (const i of order.slice(-n)) gain[i] = 1 / n;
      for (const i of order.slice(0, n)) loss[i] = 1;
      return { gain, loss };
    },
  };

  /* -------------------------------------------------------------------------------------------- the loop */

  /* θ is uniform on [−5, 5]², and so is h from the start "box"; "quiet" is a cloud of great bias and little noise. */
  function start({ N, seed, start }) {
    const h = start === "box" ? uniforms(2 * N, seed, 0, START, 1).map((u) => 10 * u - 5)
      : normals(2 * N, seed, 0, START, 1).map((z, j) => (j % 2 ? 0.7 : 2.5) + 0.2 * z);
    return { theta: uniforms(2 * N, seed, 0, START, 0).map((u) => 10 * u - 5), h, founder: Uint16Array.from({ length: N }, (_, i) => i), update: 0, step: 0 };
  }

  /* How many steps of training lie between two updates; the draw of Algorithm 2 is one. */
  const between = ({ algorithm, steps, tau }) => (algorithm === 2 ? 1 : Math.max(1, Math.round(steps * tau)));

  /* Some steps of training: Euler and Maruyama's for dθ = −∇L dt + |h₂| dB, or (Algorithm 2) a draw from the equilibrium. */
  function train(population, { problem, algorithm, seed }, steps) {
    const { h, update } = population, theta = population.theta.slice(), { dt, slope: [slope1, slope2], draw } = PROBLEMS[problem];
    if (algorithm === 2) draw(theta, h, seed, update, TRAIN);
    else for (let step = population.step; step < population.step + steps; step++) {
      const noise = normals(theta.length, seed, update, TRAIN, step), root = Math.sqrt(dt);
      for (let j = 0; j < theta.length; j += 2) {
        const x = theta[j] - h[j], y = theta[j + 1] - h[j], s = Math.abs(h[j + 1]) * root;
        theta[j] += s * noise[j] - dt * slope1(x, y);
        theta[j + 1] += s * noise[j + 1] - dt * slope2(x, y);
      }
    }
    return { ...population, theta, step: population.step + steps };
  }

  function fitness({ theta }, { problem }) {
    const { fitness } = PROBLEMS[problem];
    return Float64Array.from({ length: theta.length / 2 }, (_, i) => fitness(theta[2 * i], theta[2 * i + 1]));
  }

  /* Who jumps, with probability τ·loss, and which parent each agent copies; one that does not jump is its own. */
  function select(F, settings, update) {
    const { rule, tau, seed } = settings, N = F.length;
    if (!F.every(Number.isFinite)) throw new RangeError("an agent has diverged: its fitness is not finite");
    const { gain, loss } = RULES[rule](F, settings, uniforms(N, seed, update, TIES));
    const highest = tau * loss.reduce((a, b) => Math.max(a, b));
    if (highest > 1 + 1e-9) throw new RangeError(
      `an agent would be replaced with probability ${highest.toPrecision(2)}, more than 1; this rule now needs τ below ${(tau / highest).toPrecision(2)}, or less pressure`);
    const who = Uint8Array.from(uniforms(N, seed, update, WHO), (u, i) => u < tau * loss[i]);
    const pick = uniforms(N, seed, update, PARENT), reach = new Float64Array(N); // partial sums of the gain
    gain.reduce((sum, g, i) => (reach[i] = sum + g), 0);
    const parent = Uint16Array.from(who, (jumps, i) => {
      if (!jumps) return i;
      let low = 0, high = N - 1; // the first agent whose reach is beyond the pick
      for (const goal = pick[i] * reach[N - 1]; low < high;) {
        const middle = (low + high) >> 1;
        if (reach[middle] > goal) high = middle; else low = middle + 1;
      }
      return low;
    });
    return { who, parent };
  }

  /* The end of an update, when all have trained: select, copy, mutate. The jumps are told too. */
  function evolve(population, settings) {
    const { theta, h, founder, update } = population, { seed, sigma } = settings;
    const { who, parent } = select(fitness(population, settings), settings, update);
    const copied = (values) => values.map((_, j) => values[2 * parent[j >> 1] + (j & 1)]);
    const noise = normals(h.length, seed, update, MUTATE);
    return {
      theta: copied(theta), h: copied(h).map((value, j) => value + (who[j >> 1] ? sigma * noise[j] : 0)),
      founder: founder.map((_, i) => founder[parent[i]]), update: update + 1, step: 0, parent,
    };
  }

  globalThis.pbt = { PROBLEMS, MINIMA, H, FLAT, WELLS, WIDTHS, uniforms, normals, accepted, start, between, train, fitness, select, evolve };
})();
