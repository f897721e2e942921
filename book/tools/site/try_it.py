"""Pack what the page in chapter 21 needs besides its own scripts: runtimes, model, examples, calibration.

    python book/tools/site/try_it.py [--weights lite2]

Writes `about.js` (small, read when the page opens), and what is read on the first click: `model.js`, and one of
`runtime-wasm.js` and `runtime-webgpu.js`. They go beside the page, in book/assets/try-it; git ignores them. The
runtimes are onnxruntime-web from npm, pinned by version and sha256. A page that is opened from a disk may load scripts,
but neither modules nor other files: so everything is a script that holds base64. What an image score means comes from
the calibration in the weights' file; weights without one are refused (`mpc-lite calibrate` adds it).
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
# WebGPU comes with a WebAssembly binary of its own, of twice the size, whose CPU kernels are ten times as slow.
PARTS = {
    "wasm": ("dist/ort.wasm.min.js", "dist/ort-wasm-simd-threaded"),
    "webgpu": ("dist/ort.webgpu.min.js", "dist/ort-wasm-simd-threaded.asyncify"),
}
TOLERANCE = 1e-3  # of the start-up tile's logits
SLOWEST = 0.25  # seconds of a tile on a GPU; WebAssembly takes as long on a slow machine
PATIENCE = 30  # seconds that a GPU's start may take, with what it compiles
PREVIEW = 384  # longer side of the first look, a multiple of 32
SIDE = 384  # pixels of an example
SCENES = ["packaged", "dead_leaves"]
# Kind, index into the generator's test stream, title, what to look for. Chosen by hand, so that success and failure are
# both among them.
EXAMPLES = [
    (
        "splice",
        9,
        "A splice, saved as PNG",
        "Click inside the marked piece: its pixels are alike, most others less so.",
    ),
    ("splice", 3, "A splice, saved as JPEG", "Marks in and beside the pasted bricks: compare the map with Truth."),
    ("copy_move", 4, "A copy-move that is missed", "Click the moved piece (see Truth): one camera, no two sides."),
    ("removal", 3, "A removal", "What inpainting made up is smooth: click it and see it stand out."),
    ("authentic", 2, "An untouched photograph", "Nothing was changed: what is marked here follows content."),
]
PACKED = ("about.js", "model.js", *(f"runtime-{name}.js" for name in PARTS))


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def runtime(name: str) -> str:
    library, binary = PARTS[name]
    places = {library: "library", f"{binary}.mjs": "glue", f"{binary}.wasm": "wasm"}
    with tempfile.TemporaryDirectory() as folder:
        vendor.unpack(vendor.fetch(*RUNTIME), places, Path(folder))
        packed = {key: text(gzip.compress((Path(folder) / key).read_bytes(), mtime=0)) for key in places.values()}
    return f"(globalThis.TRY_IT_RUNTIMES ||= {{}}).{name} = {json.dumps(packed)};\n"


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
    """What the first click reads: runtimes, and model with examples and the start-up tile; {file name: content}."""
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
    return {
        "model.js": f"const TRY_IT_MODEL = {json.dumps(model)};\n",
        **{f"runtime-{name}.js": runtime(name) for name in PARTS},
    }


def first_click(files: dict[str, str]) -> dict[str, int]:
    """Bytes that the first click reads, by what computes."""
    return {name: len(files["model.js"]) + len(files[f"runtime-{name}.js"]) for name in PARTS}


def calibration(weights: str, localizer: Any) -> dict[str, Any]:
    """What the page needs to say an image score in words, as `mpc_lite.inference.calibration` does."""
    from mpc_lite.inference.calibration import SUSPICIOUS, UNSURE

    known = localizer.calibration
    if known is None:
        raise SystemExit(f"{weights} carry no calibration for tiles of {localizer.size}: see 'mpc-lite calibrate'")
    measured = json.loads(RESULT.read_text())
    about_these = measured["fingerprint"] == localizer.fingerprint
    return {
        "scores": known.scores,
        "photographs": known.photographs,
        "megapixels": measured["megapixels"]["largest"] if about_these else None,
        "suspicious": SUSPICIOUS,
        "unsure": UNSURE,
    }


def pack(weights: str) -> None:
    from mpc_lite.inference.localizer import Localizer

    localizer = Localizer.from_pretrained(weights, device="cpu")
    entries = examples()
    files = large_files(weights, localizer, entries)
    about = {
        "bytes": first_click(files),
        "size": localizer.size,
        "overlap": localizer.overlap,
        "preview": PREVIEW,
        "tolerance": TOLERANCE,
        "slowest": SLOWEST,
        "patience": PATIENCE,
        "calibration": calibration(weights, localizer),
        "examples": [{key: entry[key] for key in ("name", "title", "look_for")} for entry in entries],
    }
    files["about.js"] = f"const TRY_IT_ABOUT = {json.dumps(about, ensure_ascii=False)};\n"
    for name, content in files.items():
        (PAGE / name).write_text(content, encoding="utf-8")
        print(f"{name}: {len(content) / 1e6:.2f} MB")


def state(weights: str) -> str:
    """A name for all that the packed files are made from."""
    digest = hashlib.sha256(f"{weights} {RUNTIME}".encode())
    package = ROOT / "mpc_lite"
    for path in [Path(__file__), RESULT, *sorted(package.rglob("*.py")), *sorted((package / "pretrained").glob("*"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="lite2")
    chosen = parser.parse_args(arguments)
    stamp, now = PAGE / "stamp", state(chosen.weights)
    complete = all((PAGE / name).is_file() for name in PACKED)
    if not (complete and stamp.is_file() and stamp.read_text() == now):
        pack(chosen.weights)
        stamp.write_text(now)
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
