// The worker: onnxruntime in WebAssembly, away from the page's own thread. The page makes it from the texts of the
// runtime, `tryItCore` and this function, because a page opened from a disk may not load a worker from a file.
"use strict";

function tryItWorker(core, ort) {
  let session = null;
  let depth = 0;
  let current = 0; // number of the job that may go on

  async function network(planes, height, width) {
    const answer = await session.run({ images: new ort.Tensor("float32", planes, [1, 3, height, width]) });
    depth = answer.embeddings.dims[1];
    return { logits: answer.logits.data, embeddings: answer.embeddings.data, depth };
  }

  async function start({ glue, wasm, model, parity }) {
    ort.env.wasm.numThreads = 1; // more would need headers that a plain web server does not send
    ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(new Blob([glue], { type: "text/javascript" })) };
    ort.env.wasm.wasmBinary = wasm;
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    const photo = { data: parity.pixels, width: parity.side, height: parity.side };
    const { logits } = await network(core.planes(photo, 0, 0, parity.side, parity.side), parity.side, parity.side);
    return { difference: logits.reduce((most, v, i) => Math.max(most, Math.abs(v - parity.logits[i])), 0) };
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
    const map = await core.tiledMap(photo, size, overlap, network, step);
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
