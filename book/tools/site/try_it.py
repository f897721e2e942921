"""Pack what the page in chapter 21 needs besides its own scripts: runtime, model, examples, calibration.

    python book/tools/site/try_it.py [--weights lite] [--calibrate]

Writes `about.js` (small, read when the page opens), `runtime.js` and `model.js` (read on the first click) beside the
page, in book/assets/try-it; git ignores them. The runtime is onnxruntime-web from npm, pinned by version and sha256. A
page that is opened from a disk may load scripts, but neither modules nor other files: so everything is a script that
holds base64. `--calibrate` scores authentic photographs anew and writes book/results/try-it.json, which is committed,
with the size of what the first click reads.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import vendor
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "book" / "assets" / "try-it"
RESULT = ROOT / "book" / "results" / "try-it.json"
RUNTIME = ("onnxruntime-web", "1.30.0", "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71")
# The flavour without WebGPU, which is half the size of the other.
PARTS = {
    "library": "dist/ort.wasm.min.js",
    "glue": "dist/ort-wasm-simd-threaded.mjs",
    "wasm": "dist/ort-wasm-simd-threaded.wasm",
}
TOLERANCE = 1e-3  # of the start-up tile's logits
SIDE, AUTHENTIC = 384, 100  # pixels of an example; photographs that the score is compared with
SCENES = ["packaged", "dead_leaves"]
# Kind, index into the generator's test stream, title, what to look for. Chosen by hand, so that success and failure are
# both among them.
EXAMPLES = [
    (
        "splice",
        9,
        "A splice, saved as PNG",
        "Click inside the marked piece: its pixels are alike, the rest less so.",
    ),
    (
        "splice",
        6,
        "A splice, saved as JPEG",
        "Click inside the pasted piece: after a JPEG save its pixels are still alike.",
    ),
    (
        "copy_move",
        4,
        "A copy-move that is missed",
        "Click the moved piece (see Truth): one camera, no two sides.",
    ),
    ("removal", 3, "A removal", "What inpainting made up is smooth: click it and see it stand out."),
    (
        "authentic",
        3,
        "An untouched photograph",
        "Nothing was changed: what is marked here follows content.",
    ),
]
PACKED = ("about.js", "runtime.js", "model.js")


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def runtime() -> str:
    with tempfile.TemporaryDirectory() as folder:
        vendor.unpack(vendor.fetch(*RUNTIME), {path: key for key, path in PARTS.items()}, Path(folder))
        packed = {key: text(gzip.compress((Path(folder) / key).read_bytes(), mtime=0)) for key in PARTS}
    return f"const TRY_IT_RUNTIME = {json.dumps(packed)};\n"


def examples() -> list[dict[str, Any]]:
    from mpc_lite.forgeries.scenes import Scenes
    from mpc_lite.forgeries.synth import forge

    scenes, entries = Scenes("test", SCENES), []
    for kind, index, title, look_for in EXAMPLES:
        forgery = forge("test", 21, index, scenes, SIDE, kind=kind)
        file = forgery.jpeg or png(forgery.image)
        entries.append(
            {
                "name": f"{kind}-{index}",
                "title": title,
                "look_for": look_for,
                "type": "image/jpeg" if forgery.jpeg else "image/png",
                "file": text(file),
                "truth": text(png(forgery.mask * 255)) if kind != "authentic" else None,
                "image": forgery.image,
            }
        )
    return entries


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", optimize=True)
    return out.getvalue()


def large_files(weights: str, localizer: Any, entries: list[dict[str, Any]]) -> dict[str, str]:
    """What the first click reads: runtime, and model with examples and the start-up tile; {file name: content}."""
    import torch

    from mpc_lite.inference.export import export_bytes

    if localizer.mode != "tiles":
        raise SystemExit(f"the page computes tiles; the recipe of {weights} asks for mode '{localizer.mode}'")
    tile = np.ascontiguousarray(entries[0]["image"][: localizer.size, : localizer.size])
    with torch.inference_mode():
        logits = localizer.model(torch.from_numpy(tile).permute(2, 0, 1)[None].float() / 255)[0, 0].numpy()
    opaque = np.concatenate([tile, np.full_like(tile[..., :1], 255)], axis=2)
    parity = {"side": localizer.size, "pixels": text(opaque.tobytes()), "logits": text(logits.tobytes())}
    stored = [{key: entry[key] for key in ("name", "type", "file", "truth")} for entry in entries]
    model = {"model": text(export_bytes(weights)), "parity": parity, "examples": stored}
    return {"runtime.js": runtime(), "model.js": f"const TRY_IT_MODEL = {json.dumps(model)};\n"}


def pack(weights: str) -> None:
    from mpc_lite.inference.localizer import Localizer

    localizer = Localizer.from_pretrained(weights, device="cpu")
    calibration = json.loads(RESULT.read_text())
    if calibration["fingerprint"] != localizer.fingerprint:
        raise SystemExit(f"{RESULT.name} was made with other weights: run this command with --calibrate")
    entries = examples()
    files = large_files(weights, localizer, entries)
    about = {
        "bytes": sum(len(x) for x in files.values()),
        "size": localizer.size,
        "overlap": localizer.overlap,
        "tolerance": TOLERANCE,
        "authentic": calibration["scores"],
        "authentic_are": calibration["photographs"],
        "examples": [{key: entry[key] for key in ("name", "title", "look_for")} for entry in entries],
    }
    files["about.js"] = f"const TRY_IT_ABOUT = {json.dumps(about, ensure_ascii=False)};\n"
    for name, content in files.items():
        (PAGE / name).write_text(content, encoding="utf-8")
        print(f"{name}: {len(content) / 1e6:.2f} MB")


def calibrate(weights: str) -> None:
    from mpc_lite.forgeries.scenes import Scenes
    from mpc_lite.forgeries.synth import forge
    from mpc_lite.inference.localizer import Localizer
    from mpc_lite.provenance import commit, versions

    localizer = Localizer.from_pretrained(weights, device="cpu", backend="onnx")
    original = Localizer.from_pretrained(weights, device="cpu")
    scenes = Scenes("validation", SCENES)
    scores = [
        localizer(forge("validation", 21, i, scenes, SIDE, kind="authentic").image).score for i in range(AUTHENTIC)
    ]
    facts = {
        "schema": 1,
        "command": f"python book/tools/site/try_it.py --weights {weights} --calibrate",
        "versions": versions(),
        "commit": commit(),
        "fingerprint": original.fingerprint,
        "bytes": sum(len(content) for content in large_files(weights, original, examples()).values()),
        "photographs": f"{AUTHENTIC} made by the generator, validation split, {SIDE} pixels wide and high",
        "scores": sorted(round(score, 4) for score in scores),
    }
    RESULT.write_text(json.dumps(facts, indent=1) + "\n")


def state(weights: str) -> str:
    """A name for all that the packed files are made from."""
    digest = hashlib.sha256(f"{weights} {RUNTIME}".encode())
    package = ROOT / "mpc_lite"
    for path in [Path(__file__), RESULT, *sorted(package.rglob("*.py")), *sorted((package / "pretrained").glob("*"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--calibrate", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.calibrate:
        calibrate(chosen.weights)
    stamp, now = PAGE / "stamp", state(chosen.weights)
    complete = all((PAGE / name).is_file() for name in PACKED)
    if not (complete and stamp.is_file() and stamp.read_text() == now):
        pack(chosen.weights)
        stamp.write_text(now)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
