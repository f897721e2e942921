"""Seconds of a stage-2 step: as in the released code, with a frozen encoder, on cached maps.

python FILE [--size nano|base] [--pixels N] [--batch B] [--json OUT]; without --size both sizes, one after the other.

released code   encoder in training mode, gradients through all of it, of which only the head's are used
frozen          encoder in evaluation mode, no gradients in it
cached, disk    head alone on the maps that `MapCache` keeps, read from its files in every step, without workers
cached, memory  the same, the maps at hand

Weights are random, images are noise, decoded beforehand; the files of the maps have been read before, so the system may
hold them in memory. Seconds are medians of interleaved repeats, after one round that is not counted.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from side_by_side import kept_bytes, write

from mpc_lite.data.loader import loader
from mpc_lite.data.stream import datasets
from mpc_lite.network.devices import choose_accelerator
from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.cached_maps import MapCache
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.processes import Processes

CASES = {"base": (512, 1), "nano": (128, 16)}  # pixels, images of a batch
ROUNDS = 5
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def recipe(folder: Path, size: str, pixels: int, batch: int):
    """A set of `batch` training rows and one for validation."""
    lines = ["image,mask,label,source,split"]
    for i in range(batch + 1):
        noise = np.random.default_rng(i).integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")
        Image.fromarray(np.tri(pixels, dtype=np.uint8) * 255).save(folder / f"{i}_m.png")
        lines.append(f"{i}.png,{i}_m.png,1,noise,{'train' if i else 'validation'}")
    (folder / "m.csv").write_text("\n".join(lines))
    values = {"model.size": size, "data.manifest": str(folder / "m.csv"), "data.size": pixels}
    return load_recipe("quickstart", "smoke", {**values, "augment.dihedral": False, "finetune.batch": batch})


def stage_of(plan, encoder: str):
    torch.manual_seed(0)
    settings = plan.finetune.model_copy(update={"encoder": encoder})
    stage = Finetuning(MPC.build(plan.model.size), plan.model_copy(update={"finetune": settings}))
    stage.model.to(DEVICE, memory_format=torch.channels_last)
    stage.prepare_epoch()
    return stage, torch.optim.AdamW(stage.model.decoder.parameters(), 1e-4, fused=True)


def step(stage, optimizer, batch: dict) -> None:
    stage.network(on_device(batch))["total"].backward()
    optimizer.step()
    stage.network.zero_grad()


def on_device(batch: dict) -> dict:
    return {k: [x.to(DEVICE) for x in v] if k == "maps" else v.to(DEVICE) for k, v in batch.items()}


def seconds(work) -> float:
    start = time.perf_counter()
    work()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(size: str, pixels: int, batch: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = recipe(folder, size, pixels, batch)
        released, frozen = stage_of(plan, "trained"), stage_of(plan, "frozen")
        images = datasets(plan, "finetune")[0]
        cache = MapCache(images, frozen[0].model.encoder, folder / "features", "fp32")
        processes = Processes(choose_accelerator(DEVICE.type, "fp32"))
        fill = seconds(
            lambda: cache.fill(
                lambda b: frozen[0].network.encode(on_device(b)), batch, 0, processes, stop=lambda: False
            )
        )
        position = [list(range(batch))]
        decoded, maps = next(iter(loader(images, position, 0))), next(iter(loader(cache, position, 0)))
        works = {
            "released code": lambda: step(*released, decoded),
            "frozen": lambda: step(*frozen, decoded),
            "cached, disk": lambda: step(*frozen, next(iter(loader(cache, position, 0)))),
            "cached, memory": lambda: step(*frozen, maps),
        }
        rounds = [{way: seconds(work) for way, work in works.items()} for _ in range(ROUNDS + 1)][1:]
        times = {way: [r[way] for r in rounds] for way in works}
        kept = [
            kept_bytes(lambda s=stage, b=batch: s.network(on_device(b)), tuple(stage.network.parameters()))
            for stage, batch in ((released[0], decoded), (frozen[0], decoded), (frozen[0], maps))
        ]
        middle = {way: statistics.median(values) for way, values in times.items()}
        return {
            "size": size,
            "pixels": pixels,
            "batch": batch,
            "fill_seconds": fill,
            "bytes_on_disk": sum(file.stat().st_size for file in cache.folder.iterdir()) // batch,
            "steps": [
                {
                    "way": way,
                    "seconds": middle[way],
                    "all_seconds": times[way],
                    "times_frozen": middle["frozen"] / middle[way],
                    "times_released": middle["released code"] / middle[way],
                    "bytes_kept_for_backward": bytes_kept,
                }
                for way, bytes_kept in zip(works, [k["beyond_inputs"] for k in [*kept, kept[-1]]], strict=True)
            ],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=CASES, help="one network; default: base, then nano")
    parser.add_argument("--pixels", type=int, help="side of the images; default: 512 with base, 128 with nano")
    parser.add_argument("--batch", type=int, help="images of a step; default: 1 with base, 16 with nano")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    print(
        f"{'network':8}{'pixels':>7}{'batch':>7}  {'step':16}{'seconds':>9}"
        f"{'÷ frozen':>10}{'÷ released':>12}{'MiB kept':>10}"
    )
    for size in [given.size] if given.size else CASES:
        pixels, batch = given.pixels or CASES[size][0], given.batch or CASES[size][1]
        rows.append(measure(size, pixels, batch))
        for s in rows[-1]["steps"]:
            print(
                f"{size:8}{pixels:7}{batch:7}  {s['way']:16}{s['seconds']:9.3f}{s['times_frozen']:9.1f}×"
                f"{s['times_released']:11.1f}×{s['bytes_kept_for_backward'] / 2**20:10.0f}",
                flush=True,
            )
    if given.json:
        write(given.json, {"rounds": ROUNDS, "rows": rows})


if __name__ == "__main__":
    main()
