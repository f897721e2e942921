// The page: takes a photograph, has the worker compute, and shows what comes back.
"use strict";

(() => {
  const core = tryItCore();
  const about = TRY_IT_ABOUT; // sizes, tiles, calibration: about.js
  const $ = (id) => document.getElementById(id);
  const MOST_PIXELS = 64e6;
  const PREVIEW_SIDE = 384; // a multiple of 32
  const SHOWN_SIDE = 1200; // larger photos are shown reduced; files to save have every pixel
  const BARRED = /^(video|audio|text|application)\//;
  // From 0 to 1, dark to light, so that the order is seen without colours too.
  const STOPS = [[13, 8, 60], [92, 18, 110], [173, 46, 92], [231, 98, 44], [251, 172, 42], [252, 255, 190]];
  const state = { photo: null, map: null, score: null, embeddings: null, similar: null, truth: null, cross: null };
  let first = null; // {photo, truth} that "Save and look" starts from
  let worker = null;
  let loading = null;
  let turn = 0; // of the photo that is looked at
  let number = 0; // of the last message to the worker
  const waiting = new Map();

  const say = (text) => ($("status").textContent = text);
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

  class Told extends Error {} // its message is a sentence for the reader
  class Superseded extends Error {} // another photo came meanwhile: nothing to say

  // ------------------------------------------------------------------------------------------------- runtime and model

  function script(name) {
    return new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = name;
      tag.onload = resolve;
      tag.onerror = () => reject(new Told(`The file ${name} is missing beside this page; copy the whole folder try-it.`));
      document.head.append(tag);
    });
  }

  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

  async function unzipped(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function ask(message, transfer = []) {
    return new Promise((resolve, reject) => {
      waiting.set(++number, { resolve, reject });
      worker.postMessage({ number, ...message }, transfer);
    });
  }

  /** The worker stops after the tile at hand, and its job is answered with an error. */
  const cancel = () => worker && worker.postMessage({ number: ++number, cancel: true });

  function heard({ data }) {
    const { resolve, reject } = waiting.get(data.number) || {};
    if (data.share !== undefined) {
      if (data.number === number) $("progress").value = data.share;
      return;
    }
    waiting.delete(data.number);
    if (!resolve) return;
    if (data.error) reject(data.error === "cancelled" ? new Told("Cancelled; what was computed so far stays.") : new Error(data.error));
    else resolve(data);
  }

  async function load() {
    say(`Loading the runtime and the model, ${megabytes(about.bytes)} …`);
    await script("runtime.js");
    await script("model.js");
    const { library, glue, wasm } = TRY_IT_RUNTIME;
    const text = new TextDecoder().decode(await unzipped(library));
    const parts = [text, "\n;(", tryItWorker, ")((", tryItCore, ")(), ort);"].map(String);
    worker = new Worker(URL.createObjectURL(new Blob(parts, { type: "text/javascript" })));
    worker.onmessage = heard;
    worker.onerror = (event) => {
      for (const { reject } of waiting.values()) reject(new Error(event.message || "the worker stopped"));
      waiting.clear();
    };
    const { parity } = TRY_IT_MODEL;
    const { result } = await ask({
      glue: new TextDecoder().decode(await unzipped(glue)),
      wasm: await unzipped(wasm),
      model: bytes(TRY_IT_MODEL.model),
      parity: { side: parity.side, pixels: bytes(parity.pixels), logits: new Float32Array(bytes(parity.logits).buffer) },
    });
    const same = result.difference <= about.tolerance;
    $("badge").textContent = same
      ? `Checked at the start: this browser computes what Python computes (largest difference ${result.difference.toExponential(0)}).`
      : `This browser computes other numbers than Python (difference ${result.difference.toExponential(0)}): do not rely on what it shows.`;
    $("badge").dataset.same = same;
    if (!canvasIsHonest()) {
      $("badge").textContent += " It also returns other pixels than were drawn, as some privacy settings make it: maps will be wrong.";
      $("badge").dataset.canvas = "changed";
    }
  }

  function ready() {
    loading ||= load().catch((error) => {
      loading = null;
      throw error;
    });
    return loading;
  }

  /** Some browsers add noise to what is read from a canvas: draw known pixels and read them back. */
  function canvasIsHonest() {
    const pixels = new ImageData(16, 16);
    for (let i = 0; i < pixels.data.length; i++) pixels.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256;
    const context = context2d(16, 16);
    context.putImageData(pixels, 0, 0);
    return context.getImageData(0, 0, 16, 16).data.every((v, i) => v === pixels.data[i]);
  }

  // ---------------------------------------------------------------------------------------------------------- pictures

  function context2d(width, height) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    return canvas.getContext("2d", { willReadFrequently: true });
  }

  const blobOf = (canvas, type, quality) => new Promise((resolve) => canvas.toBlob(resolve, type, quality));

  /** A file -> {data (RGBA), width, height}: upright, colour profile ignored, transparency over white, as in Python. */
  async function decoded(blob) {
    const name = blob.name ? `“${blob.name}”` : "The picture";
    if (!blob.size) throw new Told(`${name} is empty (0 bytes); choose another file.`);
    if (BARRED.test(blob.type)) throw new Told(`${name} is not a photograph (${blob.type}); choose a picture file.`);
    let bitmap;
    try {
      const how = { colorSpaceConversion: "none", imageOrientation: "from-image", premultiplyAlpha: "none" };
      bitmap = await createImageBitmap(blob, how);
    } catch {
      const heic = /\.hei[cf]$/i.test(blob.name || "") || /hei[cf]/.test(blob.type);
      throw new Told(heic
        ? `${name} is a HEIC file, which this browser cannot read; save it as JPEG or PNG first.`
        : `${name} cannot be read as a picture: it is damaged, cut off, or of a kind that this browser does not know.`);
    }
    const { width, height } = bitmap;
    try {
      if (width * height > MOST_PIXELS) {
        throw new Told(`${name} has ${Math.round((width * height) / 1e6)} megapixels; this page takes up to ${MOST_PIXELS / 1e6}.`);
      }
      const context = context2d(width, height);
      context.fillStyle = "white";
      context.fillRect(0, 0, width, height);
      context.drawImage(bitmap, 0, 0);
      const { data } = context.getImageData(0, 0, width, height);
      return { data, width, height };
    } finally {
      bitmap.close();
    }
  }

  /** The photo no larger than `side`; the same object where it fits. */
  function reduced(photo, side) {
    const scale = side / Math.max(photo.width, photo.height);
    if (scale >= 1) return photo;
    return resized(photo, Math.round(photo.width * scale) || 1, Math.round(photo.height * scale) || 1);
  }

  function resized(photo, width, height) {
    const from = context2d(photo.width, photo.height);
    from.putImageData(new ImageData(photo.data, photo.width, photo.height), 0, 0);
    const to = context2d(width, height);
    to.imageSmoothingQuality = "high";
    to.drawImage(from.canvas, 0, 0, width, height);
    return { data: to.getImageData(0, 0, width, height).data, width, height };
  }

  // -------------------------------------------------------------------------------------------------------------- work

  const copy = (photo) => ({ data: photo.data.slice(), width: photo.width, height: photo.height });

  /** Look at a photo: preview, then the whole map. Adds a line to the table when it is done. */
  async function look(photo, truth, name) {
    const own = ++turn;
    const stillMine = (answer) => {
      if (own !== turn) throw new Superseded();
      return answer;
    };
    cancel();
    await ready();
    stillMine();
    Object.assign(state, { photo, truth, map: null, score: null, embeddings: null, similar: null, cross: null });
    document.querySelector("[name=show][value=heat]").checked = true;
    $("truth-choice").hidden = !truth;
    $("progress").removeAttribute("value");
    $("running").hidden = false;
    try {
      say("Computing a preview …");
      const small = reduced(photo, PREVIEW_SIDE);
      const sent = copy(small);
      const preview = await ask({ photo: sent, preview: true }, [sent.data.buffer]).then(stillMine);
      state.map = { values: preview.result.map, width: small.width, height: small.height };
      state.embeddings = { ...preview.result.embeddings, photo: small };
      show();
      say(`A preview after ${preview.seconds.toFixed(1)} seconds; the whole map follows.`);
      $("progress").value = 0;
      const whole = copy(photo);
      const job = { photo: whole, size: about.size, overlap: about.overlap };
      const { result, seconds } = await ask(job, [whole.data.buffer]).then(stillMine);
      state.map = { values: result.map, width: photo.width, height: photo.height };
      state.score = result.score;
      say(`Done: ${photo.width} × ${photo.height} pixels in ${seconds.toFixed(1)} seconds, WebAssembly with one thread.`);
      show();
      remember(name);
    } catch (error) {
      throw own === turn ? error : new Superseded();
    } finally {
      if (own === turn) $("running").hidden = true;
    }
  }

  async function attempt(work) {
    try {
      await work();
    } catch (error) {
      if (error instanceof Superseded) return;
      const advice = "reload the page and try a smaller photograph.";
      say(error instanceof Told ? error.message : `This did not work (${error.message}); ${advice}`);
    }
  }

  function begin(photo, truth, lookFor) {
    first = { photo, truth };
    $("look-for").textContent = lookFor;
    $("history").hidden = true;
    $("history").tBodies[0].replaceChildren();
    return look(photo, truth, "as it is");
  }

  const take = (blob) =>
    attempt(async () => {
      say("Reading the picture …");
      await begin(await decoded(blob), null, "");
    });

  const takeExample = (example) =>
    attempt(async () => {
      await ready();
      const stored = TRY_IT_MODEL.examples.find((x) => x.name === example.name);
      const photo = await decoded(new Blob([bytes(stored.file)], { type: stored.type }));
      const mask = stored.truth && (await decoded(new Blob([bytes(stored.truth)], { type: "image/png" })));
      const truth = mask && Uint8Array.from({ length: mask.width * mask.height }, (_, i) => +(mask.data[4 * i] > 127));
      await begin(photo, truth, example.look_for);
    });

  /** The first photo, made smaller and compressed by the browser, looked at again. */
  const saveAgain = () =>
    attempt(async () => {
      const [quality, percent] = [+$("quality").value, +$("resize").value];
      const { photo, truth } = first;
      const [width, height] = [photo.width, photo.height].map((side) => Math.max(1, Math.round((side * percent) / 100)));
      const small = percent === 100 ? photo : resized(photo, width, height);
      const context = context2d(width, height);
      context.putImageData(new ImageData(small.data, width, height), 0, 0);
      const again = await decoded(await blobOf(context.canvas, "image/jpeg", quality / 100));
      const nearest = (i) => {
        const [y, x] = [Math.floor(i / width), i % width];
        return truth[Math.floor(((y + 0.5) * photo.height) / height) * photo.width + Math.floor(((x + 0.5) * photo.width) / width)];
      };
      const smaller = truth && Uint8Array.from({ length: width * height }, (_, i) => nearest(i));
      await look(again, smaller, `JPEG ${quality}, ${percent} %`);
    });

  // -------------------------------------------------------------------------------------------------------------- show

  const threshold = () => $("threshold").value / 100;
  const shown = () => document.querySelector("[name=show]:checked").value;

  function remember(name) {
    const f1 = state.truth ? core.f1(state.map.values, state.truth, threshold()) : NaN;
    const row = $("history").tBodies[0].insertRow();
    const cells = [name, state.score.toFixed(2), Number.isNaN(f1) ? "–" : f1.toFixed(2)];
    for (const text of cells) row.insertCell().textContent = text;
    $("history").hidden = false;
  }

  function colour(share) {
    const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
    const low = Math.min(Math.floor(at), STOPS.length - 2);
    return STOPS[low].map((v, i) => v + (STOPS[low + 1][i] - v) * (at - low));
  }

  /** What is laid over the photo: value(x, y) in [0,1] for pixel (x, y) of a canvas of that size; null for nothing. */
  function layer(width, height) {
    const nearest = ({ values, width: w, height: h }) => {
      const columns = Int32Array.from({ length: width }, (_, x) => Math.min(w - 1, Math.floor(((x + 0.5) * w) / width)));
      return (x, y) => values[Math.min(h - 1, Math.floor(((y + 0.5) * h) / height)) * w + columns[x]];
    };
    if (shown() === "similarity" && state.similar) {
      const value = nearest(state.similar);
      return (x, y) => (value(x, y) + 1) / 2;
    }
    if (shown() === "truth" && state.truth) return nearest({ values: state.truth, width: state.photo.width, height: state.photo.height });
    if (shown() === "heat" && state.map) return nearest(state.map);
    return null;
  }

  let base = null; // the photo at the size in which it is shown

  function show() {
    $("result").hidden = false;
    if (!base || base.of !== state.photo) base = { of: state.photo, ...reduced(state.photo, SHOWN_SIDE) };
    const { width, height, data } = base;
    const view = $("view");
    [view.width, view.height] = [width, height];
    const picture = new ImageData(data.slice(), width, height);
    const value = layer(width, height);
    const opacity = $("opacity").value / 100;
    if (value) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const at = 4 * (y * width + x);
          const over = colour(value(x, y));
          for (let c = 0; c < 3; c++) picture.data[at + c] += (over[c] - picture.data[at + c]) * opacity;
        }
      }
    }
    if ($("contour").checked && value && shown() !== "similarity") outline(picture, value);
    const context = view.getContext("2d");
    context.putImageData(picture, 0, 0);
    if (state.cross) cross(context);
    words();
  }

  /** A white line with a black rim where the mask begins: visible on any photo. */
  function outline(picture, value) {
    const { width, height, data } = picture;
    const limit = shown() === "truth" ? 0.5 : threshold();
    const line = [];
    for (let y = 0; y + 1 < height; y++) {
      for (let x = 0; x + 1 < width; x++) {
        const inside = value(x, y) > limit;
        if (inside !== value(x + 1, y) > limit || inside !== value(x, y + 1) > limit) line.push([x, y]);
      }
    }
    const paint = (x, y, grey) => {
      if (x >= 0 && y >= 0) data.fill(grey, 4 * (y * width + x), 4 * (y * width + x) + 3);
    };
    for (const [x, y] of line) for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) paint(x + dx, y + dy, 0);
    for (const [x, y] of line) paint(x, y, 255);
  }

  function cross(context) {
    const [x, y] = [state.cross.x * context.canvas.width, state.cross.y * context.canvas.height];
    for (const [style, thick] of [["black", 5], ["white", 2]]) {
      context.strokeStyle = style;
      context.lineWidth = thick;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
      context.stroke();
    }
  }

  function words() {
    const similar = shown() === "similarity";
    $("legend").hidden = shown() === "photo" || shown() === "truth";
    [$("low").textContent, $("high").textContent] = similar ? ["−1", "1"] : ["0", "1"];
    $("unit").textContent = similar ? "cosine similarity to the pixel under the cross" : "score: how tampered a pixel looks";
    for (const name of ["opacity", "threshold", "quality", "resize"]) $(`${name}-value`).textContent = $(name).value;
    const known = state.score !== null;
    const higher = known && core.rank(state.score, about.authentic);
    $("score").textContent = known
      ? `Image score ${state.score.toFixed(2)}: higher than ${higher} of 100 authentic photographs (${about.authentic_are}).`
      : "The image score follows with the whole map.";
    const truth = $("truth-score");
    truth.hidden = !state.truth || !known;
    if (!truth.hidden) {
      const f1 = core.f1(state.map.values, state.truth, threshold());
      truth.textContent = `F1 against the truth at this threshold: ${Number.isNaN(f1) ? "–" : f1.toFixed(2)}.`;
    }
    let marked = 0;
    if (state.map) for (const v of state.map.values) marked += v > threshold();
    const part = state.map ? Math.round((100 * marked) / state.map.values.length) : 0;
    $("view").setAttribute("aria-label", similar
      ? "The photograph under a map of cosine similarities"
      : `The photograph under its score map; ${part} per cent of it lie above the threshold`);
  }

  function pick(x, y) {
    if (!state.embeddings) return;
    state.cross = { x: Math.min(Math.max(x, 0), 0.9999), y: Math.min(Math.max(y, 0), 0.9999) };
    const { photo, width } = state.embeddings;
    // The map covers the photo mirrored up to a multiple of 32: a cell is 4 pixels of the photo that was encoded.
    const [row, column] = [Math.floor((state.cross.y * photo.height) / 4), Math.floor((state.cross.x * photo.width) / 4)];
    const values = core.similarity(state.embeddings, row, column);
    const [h, w] = [Math.ceil(photo.height / 4), Math.ceil(photo.width / 4)];
    const inside = new Float32Array(h * w);
    for (let y = 0; y < h; y++) inside.set(values.subarray(y * width, y * width + w), y * w);
    state.similar = { values: inside, width: w, height: h };
    document.querySelector("[name=show][value=similarity]").checked = true;
    const alike = Math.round((100 * inside.reduce((n, v) => n + (v > 0.5), 0)) / inside.length);
    const how = photo === state.photo ? "" : ` Computed on the photograph reduced to ${photo.width} × ${photo.height}.`;
    say(`${alike} per cent of the pixels have a cosine similarity above 0.5 to this one.${how}`);
    show();
  }

  async function saveLink(link, value) {
    if (!state.map) return;
    const { width, height, values } = state.map;
    const context = context2d(width, height);
    const picture = context.createImageData(width, height);
    picture.data.fill(255);
    for (let i = 0; i < values.length; i++) picture.data.fill(value(values[i]), 4 * i, 4 * i + 3);
    context.putImageData(picture, 0, 0);
    const url = URL.createObjectURL(await blobOf(context.canvas, "image/png"));
    const saving = document.createElement("a");
    saving.href = url;
    saving.download = link.download;
    saving.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  // ------------------------------------------------------------------------------------------------------------ events

  $("size").textContent = `The first one loads the runtime and the model, ${megabytes(about.bytes)}, from beside this page.`;
  for (const example of about.examples) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = example.title;
    button.onclick = () => takeExample(example);
    $("examples").append(" ", button);
  }
  $("file").onchange = () => {
    if ($("file").files[0]) take($("file").files[0]);
    $("file").value = "";
  };
  const files = (transfer) => [...(transfer ? transfer.files : [])];
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  addEventListener("dragleave", () => $("drop").classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    const [file] = files(event.dataTransfer);
    file ? take(file) : say("No file was dropped; drop a picture file.");
  });
  addEventListener("paste", (event) => {
    const [file] = files(event.clipboardData);
    if (file) take(file);
  });
  $("cancel").onclick = cancel;
  for (const id of ["opacity", "threshold", "contour"]) $(id).addEventListener("input", () => state.photo && show());
  for (const id of ["quality", "resize"]) $(id).addEventListener("input", words);
  for (const radio of document.querySelectorAll("[name=show]")) radio.addEventListener("input", () => state.photo && show());
  $("view").onclick = (event) => {
    const box = $("view").getBoundingClientRect();
    pick((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  $("view").onkeydown = (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!move && event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    const { x, y } = state.cross || { x: 0.5, y: 0.5 };
    if (!move) return pick(x, y);
    const far = event.shiftKey ? 0.1 : 0.02;
    state.cross = { x: Math.min(Math.max(x + move[0] * far, 0), 0.9999), y: Math.min(Math.max(y + move[1] * far, 0), 0.9999) };
    show();
  };
  $("again").onclick = saveAgain;
  for (const [id, value] of [["save-map", (v) => Math.round(255 * v)], ["save-mask", (v) => (v > threshold() ? 255 : 0)]]) {
    $(id).href = "#result";
    $(id).onclick = (event) => {
      event.preventDefault();
      saveLink($(id), value);
    };
  }
  const bar = $("colours").getContext("2d");
  for (let x = 0; x < 256; x++) {
    bar.fillStyle = `rgb(${colour(x / 255).map(Math.round)})`;
    bar.fillRect(x, 0, 1, 1);
  }
  window.tryIt = { state, core }; // what the tests look at
})();
