"""Seconds that a batch of data costs beside one nano training step of the same batch: python FILE [--json OUT].

128 pixels, 12 images a batch in stage 1 and 16 in stage 2, forgeries as in the recipe quickstart and, where the
environment variable MPC_LITE_DATA is set, the images of its forged.csv. Every part of the data is timed in one thread:

make     forgeries generated from scenes in memory, or files read and squashed; put together as a batch
augment  what the pipeline adds: `dihedral` the turns; `jpeg` half the images saved, and the turns; `official` the
         released code's
labels   masks brought to the size of the maps
step     forward, loss, backward, AdamW, with torch's default threads

Medians over repeats, each with a batch of its own, all parts by turns in one process, after one repeat that does not
count. `ratio`: data / 2 workers / step. Turns and labels belong to the step's process and are in its seconds too, so
the ratio is rather too high.

In the loop `data.loader` with two workers feeds the step. `waits`: the share of its time in which the step waits for a
batch; `slower`: seconds of the loop over those of as many steps on one batch that is there, just after it. Workers take
cores from the step where there are no others, so a loop that never waits may be slower all the same.
"""

import os
import statistics
import time

import cv2
import numpy as np
import torch
from side_by_side import report
from torch.utils.data import default_collate

from mpc_lite.contrast.views import label_pyramid, resize_mask
from mpc_lite.data.augment.official import official_augment
from mpc_lite.data.augment.on_device import dihedral
from mpc_lite.data.augment.pixels import jpeg
from mpc_lite.data.loader import loader
from mpc_lite.data.manifest import read_manifest, read_mask
from mpc_lite.data.stream import Forgeries, ManifestImages, Positions
from mpc_lite.files import expand
from mpc_lite.images import read_image
from mpc_lite.network.model import MPC
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import Finetuning
from mpc_lite.training.pretrain import Pretraining

REPEATS, STEPS, WORKERS = 7, 16, 2  # STEPS of a loop: several times as many batches as two workers make in advance
PIPELINES = {
    "dihedral": {},
    "jpeg": {"augment.jpeg": "{quality: [50, 95], share: 0.5}"},
    "official": {"augment.pipeline": "official", "augment.dihedral": False},
}
STAGES = {  # stage, its batch, what of the network learns
    "1": (Pretraining, 12, {}),
    "2 frozen": (Finetuning, 16, {"finetune.encoder": "frozen"}),
    "2 trained": (Finetuning, 16, {"finetune.encoder": "trained"}),
}


def recipe(pipeline: str = "dihedral", stage: str = "1"):
    return load_recipe("quickstart", overrides={**PIPELINES[pipeline], **STAGES[stage][2]})


def training_set(source: str, pipeline: str):
    if source == "generated":
        return Forgeries(recipe(pipeline), "train")
    return ManifestImages(recipe(pipeline), "train", read_manifest(expand("$MPC_LITE_DATA/forged.csv")))


class Step:
    """One training step of a stage on a batch, as in the training loop."""

    def __init__(self, stage: str):
        kind, self.batch, _ = STAGES[stage]
        torch.manual_seed(0)
        model = MPC.build("nano").to(memory_format=torch.channels_last)
        self.stage = kind(model, recipe(stage=stage))
        self.stage.prepare_epoch()
        learning = [p for p in self.stage.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(learning, lr=1e-4, fused=True)

    def __call__(self, batch: dict) -> None:
        (self.stage.network(batch)["total"] / max(1, self.stage.count(batch))).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def timed(do, threads: int = 1) -> tuple[float, object]:
    torch.set_num_threads(threads)
    start = time.perf_counter()
    result = do()
    return time.perf_counter() - start, result


def parts(data, batch: int, repeat: int, steps: dict[str, Step], threads: int) -> dict[str, float]:
    """Seconds of each part for one batch, and of each step on it."""
    positions = range(repeat * batch, (repeat + 1) * batch)
    chance = np.random.default_rng(repeat)
    seconds, found = {}, {}
    seconds["make"], found = timed(lambda: default_collate([data[p] for p in positions]))
    images, masks = found["image"], found["mask"]
    native = [(image.permute(1, 2, 0).numpy(), mask.numpy()) for image, mask in zip(images, masks, strict=True)]
    if isinstance(data, ManifestImages):
        samples = [data.samples[data.row(p)] for p in positions]
        pictures = [read_image(sample.image) for sample in samples]
        native = [(image, read_mask(s, image.shape[:2])) for s, image in zip(samples, pictures, strict=True)]
    seconds["official"], _ = timed(lambda: [official_augment(i, m, chance, data.size) for i, m in native])
    half = [image.permute(1, 2, 0).numpy() for image in images[::2]]
    qualities = chance.integers(50, 96, len(half)).tolist()
    seconds["jpeg"], _ = timed(lambda: [jpeg(np.ascontiguousarray(i), q) for i, q in zip(half, qualities, strict=True)])
    seconds["dihedral"], (_, turned) = timed(lambda: dihedral(images, masks, found["turn"]))
    maps = [torch.empty(batch, 1, side, side) for side in (data.size // stride for stride in (4, 8, 16, 32))]
    seconds["labels 1"], _ = timed(lambda: label_pyramid(turned, maps))
    seconds["labels 2"], _ = timed(lambda: resize_mask(turned, tuple(maps[0].shape[2:])))
    for stage, step in steps.items():
        if step.batch == batch:
            seconds[f"step {stage}"], _ = timed(lambda step=step: step(found), threads)
    return seconds


def loop(source: str, pipeline: str, step: Step, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    stream = iter(loader(training_set(source, pipeline), Positions(0, STEPS + 1, step.batch), WORKERS))
    fixed = next(stream)  # workers start and their libraries load
    waited, start = 0.0, time.perf_counter()
    for _ in range(STEPS):
        before = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - before
        step(batch)
    total = time.perf_counter() - start
    del stream
    return {"waits": waited / total, "loop": total / STEPS, "batch": fixed}


def measure(source: str, steps: dict[str, Step], threads: int) -> list[dict]:
    data = training_set(source, "dihedral")
    taken = {batch: [] for batch in sorted({step.batch for step in steps.values()})}
    for repeat in range(REPEATS + 1):
        for batch, found in taken.items():
            found.append(parts(data, batch, repeat, steps, threads))
    median = {b: {k: statistics.median(x[k] for x in found[1:]) for k in found[0]} for b, found in taken.items()}
    rows = []
    for stage, step in steps.items():
        m = median[step.batch]
        labels, alone = m[f"labels {stage[0]}"], m[f"step {stage}"]
        for pipeline in PIPELINES:
            augment = {"dihedral": m["dihedral"], "jpeg": m["jpeg"] + m["dihedral"], "official": m["official"]}[
                pipeline
            ]
            total = m["make"] + augment + labels
            looped = loop(source, pipeline, step, threads)
            fixed = looped.pop("batch")
            beside = statistics.median(timed(lambda s=step, b=fixed: s(b), threads)[0] for _ in range(REPEATS))
            rows.append(
                {
                    "stage": stage,
                    "batch": step.batch,
                    "source": source,
                    "pipeline": pipeline,
                    "seconds": {"make": m["make"], "augment": augment, "labels": labels, "data": total, "step": alone},
                    "ratio": total / WORKERS / alone,
                    "loop": {**looped, "step_alone": beside, "slower": looped["loop"] / beside},
                    "cuda": "not measured",
                }
            )
            print(line(rows[-1]), flush=True)
    return rows


def line(row: dict) -> str:
    milliseconds = " ".join(f"{1000 * value:8.1f}" for value in row["seconds"].values())
    looped = f"{row['loop']['waits']:6.1%} {row['loop']['slower']:7.2f}"
    return f"{row['stage']:<9} {row['source']:<10} {row['pipeline']:<9} {milliseconds} {row['ratio']:6.2f} {looped}"


def main() -> None:
    threads = torch.get_num_threads()
    cv2.setNumThreads(0)
    names = " ".join(f"{name:>8}" for name in ("make", "augment", "labels", "data", "step"))
    print(
        f"{'stage':<9} {'source':<10} {'pipeline':<9} {names}  ratio  waits  slower   (parts in milliseconds a batch)"
    )
    steps = {stage: Step(stage) for stage in STAGES}
    sources = ["generated", *(["manifest"] if os.environ.get("MPC_LITE_DATA") else [])]
    rows = [row for source in sources for row in measure(source, steps, threads)]
    at_work = {"step": threads, "data": 1, "workers": WORKERS}
    report([], {"threads_at_work": at_work, "repeats": REPEATS, "steps": STEPS, "rows": rows})


if __name__ == "__main__":
    main()
