// The worker: onnxruntime away from the page's own thread, in WebAssembly or on the GPU. The page makes it from the texts
// of the runtime, `tryItCore` and this function, because a page opened from a disk may not load a worker from a file.
"use strict";

function tryItWorker(core, ort) {
  let session = null;
  let current = 0; // number of the job that may go on

  const logitsOnly = (planes, height, width) => network(planes, height, width, ["logits"]);

  async function network(planes, height, width, wanted = ["logits", "embeddings"]) {
    const answer = await session.run({ images: new ort.Tensor("float32", planes, [1, 3, height, width]) }, wanted);
    const { logits, embeddings } = answer;
    if (!embeddings) return { logits: logits.data };
    return { logits: logits.data, embeddings: embeddings.data, depth: embeddings.dims[1] };
  }

  /** Makes the session and computes the start-up tile; {largest difference to Python's logits, seconds of the tile}. */
  async function start({ backend, glue, wasm, model, parity }) {
    ort.env.logLevel = "error"; // it warns of what is meant so: shapes are computed on the CPU
    ort.env.wasm.numThreads = 1; // more would need headers that a plain web server does not send
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
    ort.env.wasm.wasmBinary = wasm;
    session = await ort.InferenceSession.create(model, { executionProviders: [backend] });
    const { side, logits: expected } = parity;
    const tile = core.planes({ data: parity.pixels, width: side, height: side }, 0, 0, side, side);
    let difference = 0;
    let seconds = 0;
    for (let round = 0; round < (backend === "webgpu" ? 2 : 1); round++) { // a GPU compiles in the first
      const began = performance.now();
      const { logits } = await logitsOnly(tile, side, side);
      seconds = (performance.now() - began) / 1000;
      difference = logits.reduce((most, v, i) => Math.max(most, Math.abs(v - expected[i])), difference);
    }
    return { difference, seconds };
  }

  async function job({ number, photo, preview, size, overlap }) {
    if (preview) {
      const { map, embeddings } = await core.wholeMap(photo, network);
      return { map, embeddings };
    }
    const step = async (share) => {
      postMessage({ number, share });
      await new Promise((resume) => setTimeout(resume)); // lets a message in
      if (number !== current) throw new Error("cancelled");
    };
    const map = await core.tiledMap(photo, size, overlap, logitsOnly, step);
    return { map, score: core.imageScore(map, photo.height, photo.width) };
  }

  let queue = Promise.resolve(); // one run at a time
  onmessage = ({ data }) => {
    current = data.number;
    if (data.cancel) return;
    queue = queue.then(async () => {
      if (data.number !== current) return postMessage({ number: data.number, error: "cancelled" });
      try {
        const began = performance.now();
        const result = data.model ? await start(data) : await job(data);
        postMessage({ number: data.number, result, seconds: (performance.now() - began) / 1000 });
      } catch (error) {
        postMessage({ number: data.number, error: String((error && error.message) || error) });
      }
    });
  };
}
