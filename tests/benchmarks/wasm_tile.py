"""Our ONNX file in WebAssembly on one thread, in node, beside PyTorch's own export, taking turns:
python FILE [A.onnx …] [--weights lite2] [--side 256] [--rounds 15] [--json OUT].

The runtime is the page's. Milliseconds of processor time for one tile, because on a shared machine the clock measures
the others, and the ratio of each file to the first. Without files it makes the two: what `torch.onnx.export` makes of
the trained network once its attention is written out, since it refuses the fused kernel, and what `mpc-lite export`
makes. Then what each kind of operator of the last file takes: the least of the rounds, by the clock.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import torch
from side_by_side import ratio, report
from torch import nn

from mpc_lite.inference.export import export
from mpc_lite.inference.graph import OPSET
from mpc_lite.network.hrformer import BiasedAttention
from mpc_lite.network.model import MPC

sys.path.insert(0, str(Path(__file__).parents[2] / "book/tools/site"))
import try_it
import vendor

NODE = """
globalThis.self = globalThis;
const [folder, side, rounds, profile, ...files] = process.argv.slice(2);
const fs = require("fs"), ort = require(folder + "/library.js");
(async () => {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { mjs: "file://" + folder + "/glue.mjs" };
  ort.env.wasm.wasmBinary = fs.readFileSync(folder + "/wasm");
  ort.env.logLevel = profile === "yes" ? "verbose" : "error";
  const how = { executionProviders: ["wasm"], enableProfiling: profile === "yes", logSeverityLevel: 3 };
  const sessions = [];
  const read = (file) => new Uint8Array(fs.readFileSync(file));
  for (const file of files) sessions.push(await ort.InferenceSession.create(read(file), how));
  const pixels = Float32Array.from({ length: 3 * side * side }, (_, i) => (Math.imul(i, 2654435761) >>> 0) / 2 ** 32);
  const images = new ort.Tensor("float32", pixels, [1, 3, +side, +side]);
  const times = files.map(() => []), last = [];
  for (let round = -2; round < rounds; round++) {
    for (const [i, session] of sessions.entries()) {
      const before = process.cpuUsage();
      last[i] = (await session.run({ images }, ["logits"])).logits.data;
      const { user, system } = process.cpuUsage(before);
      if (round >= 0) times[i].push((user + system) / 1000);
    }
  }
  if (profile === "yes") sessions.at(-1).endProfiling();
  const apart = last.map((x) => x.reduce((most, v, i) => Math.max(most, Math.abs(v - last[0][i])), 0));
  console.log("RESULT " + JSON.stringify({ times, apart }));
})().catch((error) => {
  console.log(error);
  process.exit(1);
});
"""


def option(name: str, default: str) -> str:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def in_node(files: list[str], profile: bool) -> str:
    library, binary = try_it.PARTS["wasm"]
    places = {library: "library.js", f"{binary}.mjs": "glue.mjs", f"{binary}.wasm": "wasm"}
    with tempfile.TemporaryDirectory() as folder:
        vendor.unpack(vendor.fetch(*try_it.RUNTIME), places, Path(folder))
        script = Path(folder) / "run.cjs"
        script.write_text(NODE)
        how = [option("--side", "256"), option("--rounds", "15"), "yes" if profile else "no"]
        done = subprocess.run(["node", script, folder, *how, *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise SystemExit(done.stdout.decode())
        return done.stdout.decode()


def written_out(self, tokens):
    """`BiasedAttention.forward` in operators that PyTorch's exporter knows."""
    projections = (self.q_proj, self.k_proj, self.v_proj)
    q, k, v = (project(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in projections)
    mixed = ((q / q.shape[-1] ** 0.5) @ k.transpose(2, 3) + self.bias()[None]).softmax(3) @ v
    return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Plain(nn.Module):
    def __init__(self, weights: str):
        super().__init__()
        self.model = MPC.from_pretrained(weights).eval()

    def forward(self, images):
        return self.model.localize(self.model.encoder(images))


def both(weights: str, folder: Path) -> list[str]:
    """PyTorch's export and ours, of the same weights."""
    plain, ours = folder / "pytorch.onnx", folder / "ours.onnx"
    sides = {"images": {0: "batch", 2: "height", 3: "width"}}
    how = {"input_names": ["images"], "output_names": ["logits"], "dynamic_axes": sides, "opset_version": OPSET}
    with patch.object(BiasedAttention, "forward", written_out), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on itself
        torch.onnx.export(Plain(weights), (torch.rand(1, 3, 64, 64),), plain, dynamo=False, **how)
    export(weights, ours)
    return [str(plain), str(ours)]


def kernels(file: str) -> list[tuple[str, str, float, list, list]]:
    """(operator, name, milliseconds, shapes in, shapes out) of each node, in its fastest round."""
    least: dict[str, list] = {}
    for text in re.findall(r'\{"cat" : "Node".*?\}\}', in_node([file], True)):
        event = json.loads(text)
        if event["name"].endswith("kernel_time"):
            known = least.setdefault(event["name"], [event["args"], event["dur"]])
            known[1] = min(known[1], event["dur"])

    def shapes(value) -> list:
        return [next(iter(shape.values())) for shape in (json.loads(value) if isinstance(value, str) else value)]

    return [
        (about["op_name"], name, time / 1000, shapes(about["input_type_shape"]), shapes(about["output_type_shape"]))
        for name, (about, time) in least.items()
    ]


def profile(file: str) -> dict:
    """Time by kind of operator; of the convolutions that mix channels also their arithmetic."""
    kinds: dict[str, list[float]] = defaultdict(list)
    flops = dense = 0.0
    for kind, _, time, inputs, outputs in kernels(file):
        if "Conv" in kind and inputs[1][1] > 1:
            kind = "Conv, dense"
            flops += 2 * math.prod(outputs[0]) * math.prod(inputs[1][1:])
            dense += time
        elif "Conv" in kind:
            kind = "Conv, depthwise"
        kinds[kind].append(time)
    by_time = sorted(kinds.items(), key=lambda entry: -sum(entry[1]))
    return {
        "kinds": {kind: {"nodes": len(times), "milliseconds": sum(times)} for kind, times in by_time},
        "milliseconds": sum(map(sum, kinds.values())),
        "dense": {"flops": flops, "milliseconds": dense, "flops_per_second": 1000 * flops / dense},
    }


def main() -> None:
    side, weights = int(option("--side", "256")), option("--weights", "lite2")
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(x).resolve()) for x in sys.argv[1:] if x.endswith(".onnx")] or both(weights, Path(folder))
        measured = json.loads(re.search(r"^RESULT (.*)$", in_node(files, False), re.M)[1])
        last = profile(files[-1])
    first, lines, rows = measured["times"][0], [], {}
    for file, times, apart in zip(files, measured["times"], measured["apart"], strict=True):
        share = ratio(times, first)
        rows[Path(file).stem] = {"milliseconds": statistics.median(times), "share_of_first": share, "apart": apart}
        share = f"{share['median']:.2f}× the first ({share['low']:.2f}–{share['high']:.2f})"
        lines.append(f"{Path(file).name:20s} {statistics.median(times):6.0f} ms   {share}   logits apart {apart:.1e}")
    for kind, row in last["kinds"].items():
        part = row["milliseconds"] / last["milliseconds"]
        lines.append(f"  {kind:20s} {row['nodes']:4d} {row['milliseconds']:8.1f} ms {part:6.1%}")
    dense = last["dense"]
    lines.append(f"  dense: {dense['flops'] / 1e9:.2f} GFLOP, {dense['flops_per_second'] / 1e9:.1f} GFLOP/s")
    report(lines, {"side": side, "weights": weights, "runtime": try_it.RUNTIME[1], "files": rows, "profile": last})


if __name__ == "__main__":
    main()
