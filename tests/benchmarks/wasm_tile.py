"""ONNX files in WebAssembly on one thread, in node, taking turns: python FILE A.onnx B.onnx [--side 256] [--rounds 15].

The runtime is the page's. Milliseconds of processor time for one tile, because on a shared machine the clock measures
the others, and the ratio of each file to the first. With `--profile`, what each kind of operator of the last file
takes: the least of the rounds, by the clock.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

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


def main() -> None:
    files = [str(Path(x).resolve()) for x in sys.argv[1:] if x.endswith(".onnx")]
    found = json.loads(re.search(r"^RESULT (.*)$", in_node(files, False), re.M)[1])
    first = found["times"][0]
    for file, times, apart in zip(files, found["times"], found["apart"], strict=True):
        each = [a / b for a, b in zip(times, first, strict=True)]
        middle = statistics.median(times)
        share = f"{middle / statistics.median(first):.2f}× the first ({min(each):.2f}–{max(each):.2f})"
        print(f"{Path(file).name:20s} {middle:6.0f} ms   {share}   logits apart {apart:.1e}")
    if "--profile" not in sys.argv:
        return
    least: dict[str, list] = {}
    for text in re.findall(r'\{"cat" : "Node".*?\}\}', in_node(files[-1:], True)):
        event = json.loads(text)
        if event["name"].endswith("kernel_time"):
            known = least.setdefault(event["name"], [event["args"]["op_name"], event["dur"]])
            known[1] = min(known[1], event["dur"])
    kinds: dict[str, list[float]] = defaultdict(list)
    for kind, microseconds in least.values():
        kinds[kind].append(microseconds / 1000)
    whole = sum(map(sum, kinds.values()))
    for kind, times in sorted(kinds.items(), key=lambda entry: -sum(entry[1])):
        print(f"  {kind:20s} {len(times):4d} {sum(times):8.1f} ms {sum(times) / whole:6.1%}")


if __name__ == "__main__":
    main()
