"""Pieces of work whose speed `versus.py` compares between checkouts; each imports what both layouts have.

python workloads.py NAME FOLDER SCALE     one line of JSON: what was measured, and a result to compare
python workloads.py FILE.py ARGUMENT…     a benchmark of this folder, with modules where this checkout has them

A measure is one that is better when smaller: seconds of an image, a row, a megapixel; bytes. FOLDER holds what was made
before and is equal for all: `images` (manifest.csv) and `list/list.csv`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flat_layout

# How much of each; "small" says only that it runs.
SCALES: dict[str, dict[str, Any]] = {
    "full": {
        "steps": 40,
        "size": 128,
        "images": 40,
        "grid": 6,  # images at each cell of a grid
        "photo": (2000, 3000),
        "photos": {2: (1200, 1600), 6: (2000, 3000), 12: (3000, 4000)},  # by their megapixels
        "forgeries": 40,
        "profile": "lite",
    },
    "small": {
        "steps": 4,
        "size": 64,
        "images": 4,
        "grid": 4,
        "photo": (200, 300),
        "photos": {2: (120, 160)},
        "forgeries": 2,
        "profile": "smoke",
    },
}
ROWS = {"full": 100_000, "small": 200}


def stage_1(folder: Path, scale: dict) -> dict:
    return _training("pretrain", scale)


def stage_2(folder: Path, scale: dict) -> dict:
    return _training("finetune", scale)


def stage_1_two(folder: Path, scale: dict) -> dict:
    return _training("pretrain", scale, processes=2)


def stage_2_two(folder: Path, scale: dict) -> dict:
    return _training("finetune", scale, processes=2)


def _training(stage: str, scale: dict, processes: int = 1) -> dict:
    """Recipe `lite` by its command, the whole loop with data. A long training has opened all its scenes, and each
    process opens them for itself: here they are the packaged ones, and the first half of the steps is left out. With
    two processes each takes half of the batch; the flat layout, which is compared, takes it in one."""
    from mpc_lite.recipes.load import load_recipe

    batch = getattr(load_recipe("lite", None, {"data.scenes": ["packaged"], "data.photos": None}), stage).batch
    if not (Path(importlib.util.find_spec("mpc_lite").origin).parent / "training").is_dir():
        processes = 1
    steps, every = scale["steps"], {"validate_every": scale["steps"], "checkpoint_every": 10 * scale["steps"]}
    values: dict[str, Any] = {"data.validation_images": 4, "data.size": scale["size"], f"{stage}.steps": steps}
    values |= {f"{stage}.{key}": value for key, value in every.items()}
    if processes > 1:
        values[f"{stage}.batch"] = batch // processes
    values |= {"data.scenes": "[packaged]", "data.photos": "null"}
    with tempfile.TemporaryDirectory() as out:
        options = [word for key, value in values.items() for word in ("-p", f"{key}={value}")]
        options += ["--weights", "lite-stage1"] if stage == "finetune" else []
        _command(
            out, stage, "--recipe", "lite", "--out", f"{out}/run", "--device", "cpu", *options, processes=processes
        )
        lines = [json.loads(line) for line in (Path(out) / "run/log.jsonl").read_text().splitlines()]
    times = [(x["step"], x["seconds"]) for x in lines if "seconds" in x]
    (first, start), (last, end) = times[len(times) // 2], times[-1]
    return {"measures": {"seconds an image": (end - start) / (last - first) / batch}}


def _images(folder: Path, count: int) -> Path:
    """The first images of the folder's manifest as one of their own."""
    lines = (folder / "images/manifest.csv").read_text().splitlines(keepends=True)
    part = folder / f"images/first-{count}.csv"
    part.write_text("".join(lines[: count + 1]))
    return part


def evaluating(folder: Path, scale: dict) -> dict:
    from mpc_lite.data.manifest import read_manifest
    from mpc_lite.evaluation.evaluate import evaluate
    from mpc_lite.inference.localizer import Localizer

    rows, network = read_manifest(_images(folder, scale["images"])), Localizer.from_pretrained("lite", device="cpu")
    _as_the_commands_do()
    evaluate(network, rows[:1])  # libraries, their buffers, the folded network
    seconds, table = _timed(lambda: evaluate(network, rows))
    scores = {key: round(table["average"][key], 7) for key in ("f1", "iou", "auc")}
    return {"measures": {"seconds an image": seconds / len(rows)}, "result": scores}


def robustness_grid(folder: Path, scale: dict) -> dict:
    from mpc_lite.evaluation.robustness import robustness
    from mpc_lite.inference.localizer import Localizer

    network, manifest = Localizer.from_pretrained("lite", device="cpu"), _images(folder, scale["grid"])
    seconds, found = _timed(lambda: robustness(network, manifest, grid="paper"))
    scores = [round(cell["f1"], 5) for cell in found["cells"] if cell["f1"] is not None]
    return {"measures": {"seconds an image": seconds / scale["grid"]}, "result": scores}


def _shipped() -> str:
    """The weights that the commands take: the second edition, with its tiles, where the checkout has one."""
    from mpc_lite.network.weights import pretrained_names

    return "lite2" if "lite2" in pretrained_names() else "lite"


def photograph(folder: Path, scale: dict) -> dict:
    """Maps of other weights and tiles are other maps: what they are worth, second-edition.json compares."""
    import numpy as np

    from mpc_lite.inference.localizer import Localizer

    height, width = scale["photo"]
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    network = Localizer.from_pretrained(_shipped(), mode="tiles", device="cpu")
    _as_the_commands_do()
    network(photo[:200, :200])
    seconds, hit = _timed(lambda: network(photo))
    return {"measures": {"seconds a megapixel": seconds / (height * width / 1e6)}, "result": list(hit.score_map.shape)}


def onnx(folder: Path, scale: dict) -> dict:
    """Photographs with onnxruntime where the checkout has it, else with PyTorch; memory beyond photograph and map."""
    import numpy as np

    from mpc_lite.inference import localizer

    backend = {"backend": "onnx"} if hasattr(localizer, "BACKENDS") else {}
    network = localizer.Localizer.from_pretrained(_shipped(), mode="tiles", device="cpu", **backend)
    measures, shapes = {}, []
    for megapixels, (height, width) in scale["photos"].items():
        photo = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        network(photo[:600, :600])
        peak, seconds, hit = _peak_and_time(lambda photo=photo: network(photo))
        measures[f"seconds a megapixel at {megapixels}"] = seconds / (height * width / 1e6)
        if peak:
            measures[f"bytes beyond the map at {megapixels}"] = max(peak - hit.score_map.nbytes, 1)
        shapes.append(list(hit.score_map.shape))
    return {"measures": measures, "result": shapes}


def forgery(folder: Path, scale: dict) -> dict:
    from mpc_lite.forgeries.scenes import Scenes
    from mpc_lite.forgeries.synth import forge

    scenes, count = Scenes("train", ["packaged", "dead_leaves"], None), scale["forgeries"]
    for i in range(count):  # the same, so that every scene has been opened: in a training that happens once
        forge("train", 0, i, scenes, 128)
    seconds, made = _timed(lambda: [forge("train", 0, i, scenes, 128) for i in range(count)])
    digest = hashlib.sha256(b"".join(one.image.tobytes() for one in made)).hexdigest()
    trip = min(_timed(lambda: [_round_trip(one) for one in made[:10]])[0] / len(made[:10]) for _ in range(5))
    measures = {"seconds a forgery": seconds / count, "JPEG round trips of 256² a forgery": seconds / count / trip}
    return {"measures": measures, "result": digest}


def _round_trip(forgery: Any) -> Any:
    """A picture of 256², saved as JPEG and opened again by Pillow: a unit of time that any machine has."""
    import io

    from PIL import Image

    with io.BytesIO() as buffer:
        Image.fromarray(forgery.image).resize((256, 256)).save(buffer, "JPEG", quality=90)
        return Image.open(buffer).convert("RGB")


def manifest(folder: Path, scale: dict) -> dict:
    from mpc_lite.data.epoch import Rows, epoch_order
    from mpc_lite.data.manifest import check, read_manifest

    file = folder / "list/list.csv"
    read, rows = _timed(lambda: read_manifest(file))
    packed, _ = _timed(lambda: Rows(rows))
    ordered, order = _timed(lambda: epoch_order(0, 0, len(rows)))
    few = file.with_name(f"few-{os.getpid()}.csv")
    few.write_text("".join(file.read_text().splitlines(keepends=True)[: 1 + max(100, len(rows) // 100)]))
    checked, problems = _timed(lambda: check(few))
    few.unlink()
    measures = {"seconds to read a row": read, "seconds to pack a row": packed, "seconds to order a row": ordered}
    measures = {name: value / len(rows) for name, value in measures.items()}
    result = [len(rows), len(problems), hashlib.sha256(order.tobytes()).hexdigest()]
    return {"measures": {**measures, "seconds to check a row": checked / max(100, len(rows) // 100)}, "result": result}


def predicted(folder: Path, scale: dict) -> dict:
    """The command on one small photograph, which is over almost as soon as it has started."""
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as out:
        noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        Image.fromarray(noise).save(Path(out) / "photo.png")
        seconds, _ = _timed(lambda: _command(out, "predict", "photo.png", "--out", "maps"))
        line = json.loads((Path(out) / "maps/predictions.jsonl").read_text())
    return {"measures": {"seconds": seconds}, "result": [line["width"], line["height"]]}


def quickstart(folder: Path, scale: dict) -> dict:
    """The command that the README begins with, from its start to its end, in a process of its own."""
    with tempfile.TemporaryDirectory() as out:
        seconds, _ = _timed(lambda: _command(out, "reproduce", "quickstart", "--profile", scale["profile"]))
        results = json.loads(next(Path(out).rglob("results.json")).read_text())
    return {"measures": {"seconds": seconds}, "result": results["average"]["f1"]}


def _as_the_commands_do() -> None:
    """What commands set before they score, where the checkout has it."""
    try:
        from mpc_lite.network.devices import keep_freed_memory
    except ImportError:  # a checkout from before there was such a function
        return
    keep_freed_memory()


def _command(folder: str, *arguments: str, processes: int = 1) -> None:
    """`mpc-lite …` of the checkout in use, in a process of its own or in several that torchrun starts."""
    run = "import sys, flat_layout; flat_layout.bridge(); from mpc_lite.cli import main; sys.exit(main())"
    paths = os.pathsep.join([os.environ["PYTHONPATH"], str(Path(__file__).parent)])
    call = [sys.executable, "-c", run, *arguments]
    if processes > 1:
        together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        call = [sys.executable, *together, "-m", "mpc_lite.cli", *arguments]
    done = subprocess.run(call, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def _peak_and_time(do: Callable[[], Any]) -> tuple[int | None, float, Any]:
    from side_by_side import peak_bytes

    found: list[Any] = []
    peak = peak_bytes(lambda: found.extend(_timed(do)))
    return peak, *found


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


WORK: dict[str, Callable[[Path, dict], dict]] = {
    "stage-1": stage_1,
    "stage-2": stage_2,
    "stage-1-two": stage_1_two,
    "stage-2-two": stage_2_two,
    "evaluate": evaluating,
    "robustness": robustness_grid,
    "localizer": photograph,
    "onnx": onnx,
    "forgery": forgery,
    "manifest": manifest,
    "predict": predicted,
    "quickstart": quickstart,
}


def main() -> None:
    flat_layout.bridge()
    if sys.argv[1].endswith(".py"):
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
    name, folder, scale = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    import mpc_lite

    found = WORK[name](folder, SCALES[scale])
    print(json.dumps({"result": None, **found, "package": str(Path(mpc_lite.__file__).parent)}))


if __name__ == "__main__":
    main()
