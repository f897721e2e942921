// What the page computes itself: tiles, blending and scores as mpc_lite's Localizer does them, in plain functions.
// The page, its worker (which gets the text of this function) and the tests in node use the same code.
"use strict";

function tryItCore() {
  /** First pixels of the tiles that cover `length` >= size pixels: every size - overlap, the last one moved inside. */
  function tileStarts(length, size, overlap) {
    const starts = [];
    for (let start = 0; start < length - size; start += size - overlap) starts.push(start);
    starts.push(length - size);
    return starts;
  }

  /** Weights of each tile along one axis: raised cosine, divided by their sum at each pixel. */
  function blendWeights(starts, size) {
    const window = Float64Array.from({ length: size }, (_, i) => Math.sin((Math.PI * (i + 0.5)) / size) ** 2);
    const total = new Float64Array(starts[starts.length - 1] + size);
    for (const start of starts) for (let i = 0; i < size; i++) total[start + i] += window[i];
    return starts.map((start) => window.map((value, i) => value / total[start + i]));
  }

  /** Index into a line of `n` pixels that is mirrored beyond its end, as numpy's "reflect" does; 0 <= i. */
  function mirrored(i, n) {
    if (n === 1) return 0;
    const period = 2 * (n - 1);
    const j = i % period;
    return j < n ? j : period - j;
  }

  /** Pixels (RGBA bytes of a whole photo) -> float planes (3,height,width) in [0,1] of a cut, mirrored beyond the edge. */
  function planes(photo, top, left, height, width) {
    const area = height * width;
    const out = new Float32Array(3 * area);
    for (let y = 0; y < height; y++) {
      const row = mirrored(top + y, photo.height) * photo.width;
      for (let x = 0; x < width; x++) {
        const from = 4 * (row + mirrored(left + x, photo.width));
        const to = y * width + x;
        out[to] = photo.data[from] / 255;
        out[area + to] = photo.data[from + 1] / 255;
        out[2 * area + to] = photo.data[from + 2] / 255;
      }
    }
    return out;
  }

  /** Bilinear, corners not aligned: values (h,w) -> (height,width). */
  function enlarged(values, h, w, height, width) {
    const out = new Float32Array(height * width);
    const line = (n, from) =>
      Array.from({ length: n }, (_, i) => {
        const at = Math.max(0, ((i + 0.5) * from) / n - 0.5);
        const low = Math.min(Math.floor(at), from - 1);
        return [low, Math.min(low + 1, from - 1), at - low];
      });
    const columns = line(width, w);
    line(height, h).forEach(([y0, y1, fy], y) => {
      for (let x = 0; x < width; x++) {
        const [x0, x1, fx] = columns[x];
        const upper = values[y0 * w + x0] * (1 - fx) + values[y0 * w + x1] * fx;
        const lower = values[y1 * w + x0] * (1 - fx) + values[y1 * w + x1] * fx;
        out[y * width + x] = upper * (1 - fy) + lower * fy;
      }
    });
    return out;
  }

  const sigmoid = (values) => values.map((v) => 1 / (1 + Math.exp(-v)));

  /**
   * The score map (height·width) of a photo at native size. network(planes, height, width) answers {logits} at a quarter
   * of the sides; step(share done) is awaited after each tile and may throw to stop.
   */
  async function tiledMap(photo, size, overlap, network, step) {
    const height = Math.max(photo.height, size);
    const width = Math.max(photo.width, size);
    const tops = tileStarts(height, size, overlap);
    const lefts = tileStarts(width, size, overlap);
    const down = blendWeights(tops, size);
    const across = blendWeights(lefts, size);
    const map = new Float32Array(photo.height * photo.width);
    const band = new Float64Array(size * width);
    for (let i = 0; i < tops.length; i++) {
      for (let j = 0; j < lefts.length; j++) {
        const { logits } = await network(planes(photo, tops[i], lefts[j], size, size), size, size);
        const scores = enlarged(sigmoid(logits), size / 4, size / 4, size, size);
        for (let y = 0; y < size; y++) {
          for (let x = 0; x < size; x++) {
            band[y * width + lefts[j] + x] += down[i][y] * across[j][x] * scores[y * size + x];
          }
        }
        await step((i * lefts.length + j + 1) / (tops.length * lefts.length));
      }
      const done = (i + 1 < tops.length ? tops[i + 1] : height) - tops[i]; // rows that no later tile touches
      for (let y = 0; y < done && tops[i] + y < photo.height; y++) {
        map.set(band.subarray(y * width, y * width + photo.width), (tops[i] + y) * photo.width);
      }
      band.copyWithin(0, done * width);
      band.fill(0, (size - done) * width);
    }
    return map;
  }

  /**
   * A whole photo in one go: its map, and the embeddings of the finest scale {values (D,h,w), depth, height, width}.
   * network answers {logits, embeddings, depth}.
   */
  async function wholeMap(photo, network) {
    const height = Math.ceil(photo.height / 32) * 32;
    const width = Math.ceil(photo.width / 32) * 32;
    const { logits, embeddings, depth } = await network(planes(photo, 0, 0, height, width), height, width);
    const large = enlarged(sigmoid(logits), height / 4, width / 4, height, width);
    const map = new Float32Array(photo.height * photo.width);
    for (let y = 0; y < photo.height; y++) {
      map.set(large.subarray(y * width, y * width + photo.width), y * photo.width);
    }
    return { map, embeddings: { values: embeddings, depth, height: height / 4, width: width / 4 } };
  }

  /** Cosine similarity in [-1,1] of the embedding at (row, column) to every other one: (h·w). */
  function similarity({ values, depth, height, width }, row, column) {
    const area = height * width;
    const at = row * width + column;
    const dots = new Float64Array(area);
    const squares = new Float64Array(area);
    for (let d = 0; d < depth; d++) {
      const own = values[d * area + at];
      for (let i = 0; i < area; i++) {
        const value = values[d * area + i];
        dots[i] += own * value;
        squares[i] += value * value;
      }
    }
    return Float32Array.from(dots, (dot, i) => dot / Math.max(Math.sqrt(squares[i] * squares[at]), 1e-12));
  }

  /** How tampered the whole photo looks: the maximum of the map after 8×8 mean pooling. */
  function imageScore(map, height, width) {
    let highest = 0;
    for (let top = 0; top < height; top += 8) {
      for (let left = 0; left < width; left += 8) {
        const bottom = Math.min(top + 8, height);
        const right = Math.min(left + 8, width);
        let sum = 0;
        for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) sum += map[y * width + x];
        highest = Math.max(highest, sum / ((bottom - top) * (right - left)));
      }
    }
    return highest;
  }

  /** F1 of the pixels above the threshold against truth (0 or 1); NaN where nothing is tampered. */
  function f1(map, truth, threshold) {
    let both = 0;
    let either = 0;
    let tampered = 0;
    for (let i = 0; i < map.length; i++) {
      const marked = map[i] > threshold ? 1 : 0;
      both += marked & truth[i];
      either += marked + truth[i];
      tampered += truth[i];
    }
    return tampered ? (2 * both) / either : NaN;
  }

  /** The share of authentic photographs that score as high, in (0,1]: the photograph itself counts as one. */
  function authenticAbove(score, scores) {
    return (1 + scores.filter((x) => x >= score).length) / (scores.length + 1);
  }

  /** A share of authentic photographs in words, counted in a hundred, or in a thousand below one; as in Python. */
  function ofHundred(share) {
    const even = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // halves to even, as Python rounds
    const [count, of] = share >= 0.01 ? [even(100 * share), 100] : [even(1000 * share), 1000];
    if (count < 1) return `fewer than 1 of ${of} authentic photographs score`;
    return `${count} of ${of} authentic photographs score${count === 1 ? "s" : ""}`;
  }

  /** The score in words, as `mpc-lite predict` says it: {word, verdict}; the word is where its sentence begins. */
  function verdict(score, { scores, suspicious, unsure }) {
    const share = authenticAbove(score, scores);
    const word = share > unsure ? "cannot tell" : share > suspicious ? "unsure" : "look here";
    return { word, verdict: `${word}: ${ofHundred(share)} as high` };
  }

  return { tileStarts, blendWeights, mirrored, planes, enlarged, tiledMap, wholeMap, similarity, imageScore, f1, verdict };
}

if (typeof module !== "undefined") module.exports = tryItCore;
