// The page: takes a photograph, has the worker compute, and shows what comes back.
"use strict";

(() => {
  const core = tryItCore();
  const about = TRY_IT_ABOUT; // sizes, tiles, calibration: about.js
  const $ = (id) => document.getElementById(id);
  const SHOWN_SIDE = 1200; // larger photos are shown reduced; files to save have every pixel
  const state = { photo: null, map: null, score: null, embeddings: null, similar: null, truth: null, cross: null };
  const calibration = about.calibration;
  let first = null; // {photo, truth} that "Save and look" starts from
  let turn = 0; // of the photo that is looked at
  let chosen = 0; // of the reader's last choice, whose picture may yet be read

  const say = (text) => ($("status").textContent = text);
  const { context2d, blobOf, decoded, reduced, resized, canvasIsHonest, colour, nearest, outline, cross, save } =
    tryItPictures();
  const backend = tryItBackend({ about, say, progress: $("progress"), badge: $("badge"), canvasIsHonest });

  class Superseded extends Error {} // another photo came meanwhile: nothing to say

  // -------------------------------------------------------------------------------------------------------------- work

  const copy = (photo) => ({ data: photo.data.slice(), width: photo.width, height: photo.height });

  /** Look at a photo: preview, then the whole map. Adds a line to the table when it is done. */
  async function look(photo, truth, name) {
    const own = ++turn;
    const stillMine = (answer) => {
      if (own !== turn) throw new Superseded();
      return answer;
    };
    backend.cancel();
    await backend.ready();
    stillMine();
    Object.assign(state, { photo, truth, map: null, score: null, embeddings: null, similar: null, cross: null });
    document.querySelector("[name=show][value=heat]").checked = true;
    $("truth-choice").hidden = !truth;
    let lost = null;
    $("progress").removeAttribute("value");
    $("running").hidden = false;
    try {
      say("Computing a preview …");
      const small = reduced(photo, about.preview);
      const sent = copy(small);
      const preview = await backend.ask({ photo: sent, preview: true }, [sent.data.buffer]).then(stillMine);
      state.map = { values: preview.result.map, width: small.width, height: small.height };
      state.embeddings = { ...preview.result.embeddings, photo: small };
      show();
      say(`A preview after ${preview.seconds.toFixed(1)} seconds; the whole map follows.`);
      $("progress").value = 0;
      const whole = copy(photo);
      const job = { photo: whole, size: about.size, overlap: about.overlap };
      const { result, seconds } = await backend.ask(job, [whole.data.buffer]).then(stillMine);
      state.map = { values: result.map, width: photo.width, height: photo.height };
      state.score = result.score;
      say(`Done: ${photo.width} × ${photo.height} pixels in ${seconds.toFixed(1)} seconds, ${backend.name()}.`);
      show();
      remember(name);
    } catch (error) {
      if (own !== turn) throw new Superseded();
      if (!backend.isGpu() || error instanceof Told) throw error;
      lost = error;
    } finally {
      if (own === turn) $("running").hidden = true;
    }
    if (lost) { // the GPU was taken away, or has too little memory
      backend.abandonGpu(lost.message);
      await look(photo, truth, name);
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

  function begin(photo, truth, lookFor, generated) {
    first = { photo, truth };
    $("look-for").textContent = lookFor;
    $("generated").hidden = !generated;
    $("history").hidden = true;
    $("history").tBodies[0].replaceChildren();
    return look(photo, truth, "as it is");
  }

  /** Of what is awaited for a choice, nothing is looked at once the reader has chosen something else. */
  function choice() {
    const mine = ++chosen;
    return (answer) => {
      if (mine !== chosen) throw new Superseded();
      return answer;
    };
  }

  const take = (blob) =>
    attempt(async () => {
      const stillWanted = choice();
      say("Reading the picture …");
      await begin(stillWanted(await decoded(blob)), null, "", false);
    });

  const takeExample = (example) =>
    attempt(async () => {
      const stillWanted = choice();
      await backend.ready();
      const stored = TRY_IT_MODEL.examples.find((x) => x.name === example.name);
      const photo = await decoded(new Blob([backend.bytes(stored.file)], { type: stored.type }));
      const mask = stored.truth && (await decoded(new Blob([backend.bytes(stored.truth)], { type: "image/png" })));
      const truth = mask && Uint8Array.from({ length: mask.width * mask.height }, (_, i) => +(mask.data[4 * i] > 127));
      stillWanted();
      await begin(photo, truth, example.look_for, true);
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
      const stillWanted = choice();
      const again = await decoded(await blobOf(context.canvas, "image/jpeg", quality / 100));
      stillWanted();
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
    const { word } = core.verdict(state.score, calibration);
    const cells = [name, state.score.toFixed(2), word, Number.isNaN(f1) ? "–" : f1.toFixed(2)];
    for (const text of cells) row.insertCell().textContent = text;
    $("history").hidden = false;
  }

  /** What is laid over the photo: value(x, y) in [0,1] for pixel (x, y) of a canvas of that size; null for nothing. */
  function layer(width, height) {
    if (shown() === "similarity" && state.similar) {
      const value = nearest(state.similar, width, height);
      return (x, y) => (value(x, y) + 1) / 2;
    }
    if (shown() === "truth" && state.truth) {
      return nearest({ values: state.truth, width: state.photo.width, height: state.photo.height }, width, height);
    }
    if (shown() === "heat" && state.map) return nearest(state.map, width, height);
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
    if (value) { // the photograph turns grey, and the map alone has colours
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const at = 4 * (y * width + x);
          const over = colour(value(x, y));
          const grey = 0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2];
          for (let c = 0; c < 3; c++) picture.data[at + c] = grey + (over[c] - grey) * opacity;
        }
      }
    }
    if ($("contour").checked && value && shown() !== "similarity") outline(picture, value, shown() === "truth" ? 0.5 : threshold());
    const context = view.getContext("2d");
    context.putImageData(picture, 0, 0);
    if (state.cross) cross(context, state.cross);
    words();
  }

  function words() {
    const similar = shown() === "similarity";
    $("legend").hidden = shown() === "photo" || shown() === "truth";
    [$("low").textContent, $("high").textContent] = similar ? ["−1", "1"] : ["0", "1"];
    $("unit").textContent = similar ? "cosine similarity to the pixel under the cross" : "score: how tampered a pixel looks";
    for (const name of ["opacity", "threshold", "quality", "resize"]) $(`${name}-value`).textContent = $(name).value;
    const known = state.score !== null;
    const { word, verdict } = known ? core.verdict(state.score, calibration) : { word: "", verdict: "" };
    $("score").textContent = known
      ? `${verdict[0].toUpperCase()}${verdict.slice(1)} (image score ${state.score.toFixed(2)}).`
      : "The image score and what it means follow with the whole map; a preview's would mean nothing.";
    $("score").dataset.word = word;
    $("meaning").hidden = !known;
    const megapixels = state.photo ? (state.photo.width * state.photo.height) / 1e6 : 0;
    const larger = calibration.megapixels !== null && megapixels > calibration.megapixels;
    $("larger").hidden = !larger;
    if (larger) {
      $("larger").textContent = `Yours has ${megapixels.toFixed(1)} megapixels, the largest of them ` +
        `${calibration.megapixels.toFixed(1)}: with more places to look at, high scores are less rare than this says.`;
    }
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

  // ------------------------------------------------------------------------------------------------------------ events

  backend.size().then((size) => {
    $("size").textContent = `The first one loads the runtime and the model, ${size}, from beside this page.`;
  });
  $("bands").textContent = `Measured with ${calibration.photographs}. “Look here”: at most ` +
    `${100 * calibration.suspicious} of 100 authentic photographs like them score so high; “unsure”: at most ` +
    `${100 * calibration.unsure}; more often, the score cannot tell. `;
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
  $("cancel").onclick = backend.cancel;
  const redraw = () => state.photo && show();
  for (const id of ["opacity", "threshold", "contour"]) $(id).addEventListener("input", redraw);
  for (const id of ["quality", "resize"]) $(id).addEventListener("input", words);
  for (const radio of document.querySelectorAll("[name=show]")) radio.addEventListener("input", redraw);
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
      if (state.map && state.score !== null) return save(state.map, value, $(id).download);
      say("There is a preview only, reduced; the files to save have every pixel. Let the whole map be computed first.");
    };
  }
  const bar = $("colours").getContext("2d");
  for (let x = 0; x < 256; x++) {
    bar.fillStyle = `rgb(${colour(x / 255).map(Math.round)})`;
    bar.fillRect(x, 0, 1, 1);
  }
  window.tryIt = { state, core }; // what the tests look at
})();
