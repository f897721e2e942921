// What computes: the runtime and the model are read on the first click, and a worker runs them, on the GPU where that
// gives Python's numbers, else in WebAssembly.
"use strict";

function tryItBackend({ about, say, progress, badge, canvasIsHonest }) {
  const NAMES = { webgpu: "WebGPU", wasm: "WebAssembly with one thread" };
  let worker = null;
  let loading = null;
  let backend = null; // that the worker computes with
  let refusal = ""; // why WebGPU is not used
  let number = 0; // of the last message to the worker
  const waiting = new Map();
  const scripts = new Set();

  const megabytes = (count) => `${(count / 1e6).toFixed(0)} MB`;

  /** Reads a script that lies beside the page, once. */
  function script(name) {
    if (scripts.has(name)) return;
    return new Promise((resolve, reject) => {
      const tag = document.createElement("script");
      tag.src = name;
      tag.onload = () => resolve(scripts.add(name));
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
      if (data.number === number) progress.value = data.share;
      return;
    }
    waiting.delete(data.number);
    if (!resolve) return;
    if (data.error) reject(data.error === "cancelled" ? new Told("Cancelled; what was computed so far stays.") : new Error(data.error));
    else resolve(data);
  }

  /** Whether the browser has a GPU to offer; asked once, before the first click, because the size depends on it. */
  const adapter = (async () => {
    try {
      if (await navigator.gpu.requestAdapter()) return true;
    } catch {
      // no navigator.gpu, or one that fails
    }
    refusal ||= "this browser offers no WebGPU";
    return false;
  })();

  /** A worker that computes with `name`, and how its start-up tile compares with Python's: {difference, seconds}. */
  async function started(name) {
    await script(`runtime-${name}.js`);
    const { library, glue, wasm } = TRY_IT_RUNTIMES[name];
    const text = new TextDecoder().decode(await unzipped(library));
    const parts = [text, "\n;(", tryItWorker, ")((", tryItCore, ")(), ort);"].map(String);
    const address = URL.createObjectURL(new Blob(parts, { type: "text/javascript" }));
    worker = new Worker(address);
    worker.onmessage = heard;
    worker.onerror = (event) => fail(event.message || "the worker stopped");
    const { parity } = TRY_IT_MODEL;
    const { result } = await ask({
      backend: name,
      glue: new TextDecoder().decode(await unzipped(glue)),
      wasm: await unzipped(wasm),
      model: bytes(TRY_IT_MODEL.model),
      parity: { side: parity.side, pixels: bytes(parity.pixels), logits: new Float32Array(bytes(parity.logits).buffer) },
    });
    URL.revokeObjectURL(address);
    return result;
  }

  /** All that the worker was asked is answered with an error. */
  function fail(message) {
    for (const { reject } of waiting.values()) reject(new Error(message));
    waiting.clear();
  }

  /** WebGPU is not used from here on; its worker goes. */
  function refuse(reason) {
    refusal = reason;
    worker?.terminate();
    worker = null;
    waiting.clear();
  }

  /** Starts WebGPU where it computes the start-up tile as Python does, and fast; else says why not in `refusal`. */
  async function startGpu() {
    const patience = setTimeout(() => fail(`no answer after ${about.patience} seconds`), 1000 * about.patience);
    try {
      const result = await started("webgpu");
      const digits = result.difference.toExponential(0);
      if (!(result.difference <= about.tolerance)) refuse(`WebGPU computes other numbers than Python here (difference ${digits})`);
      else if (result.seconds > about.slowest) refuse(`WebGPU is slow here (${result.seconds.toFixed(1)} seconds a tile)`);
      else return result;
    } catch (error) {
      if (error instanceof Told) throw error;
      refuse(`WebGPU does not work here (${error.message})`);
    } finally {
      clearTimeout(patience);
    }
    return null;
  }

  async function load() {
    const gpu = (await adapter) && !refusal;
    say(`Loading the runtime and the model, ${megabytes(about.bytes[gpu ? "webgpu" : "wasm"])} …`);
    await script("model.js");
    let result = gpu ? await startGpu() : null;
    backend = result ? "webgpu" : "wasm";
    if (!result) {
      if (gpu) say(`${refusal}: loading WebAssembly in its place …`);
      result = await started("wasm");
    }
    const same = result.difference <= about.tolerance;
    const digits = result.difference.toExponential(0);
    badge.textContent = `Backend: ${NAMES[backend]}${refusal && `, because ${refusal}`}. `;
    badge.textContent += same
      ? `Checked at the start: it computes what Python computes (largest difference ${digits}).`
      : `It computes other numbers than Python (difference ${digits}): do not rely on what it shows.`;
    Object.assign(badge.dataset, { same, backend });
    if (!canvasIsHonest()) {
      badge.textContent += " The browser returns other pixels than were drawn, as some privacy settings make it: maps will be wrong.";
      badge.dataset.canvas = "changed";
    }
  }

  function ready() {
    loading ||= load().catch((error) => {
      loading = null;
      worker?.terminate();
      worker = null;
      throw error;
    });
    return loading;
  }

  /** The GPU failed during a job: the next one is computed in WebAssembly. */
  function abandonGpu(message) {
    refuse(`WebGPU stopped (${message})`);
    loading = null;
  }

  const size = async () => megabytes(about.bytes[(await adapter) ? "webgpu" : "wasm"]);
  return { ready, ask, cancel, bytes, size, abandonGpu, isGpu: () => backend === "webgpu", name: () => NAMES[backend] };
}
