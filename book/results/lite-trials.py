# ruff: noqa: E501 - the docstring lists trials, one a line
"""Short trials of what might make the lite model better, scored on validation images. Write lite-trials.json beside this.

    MPC_LITE_DATA=… python book/results/lite-trials.py FOLDER [TRIAL,… [SEED,…]]

Each trial is stage 2 of recipe `lite2` from the first edition, cut to 350 steps, with one thing changed:

`as it is`         nothing
`averaged`         the same run; scored is the exponential moving average of its weights (EMA), decay 0.98
`second residual`  three more input channels: a 5×5 fourth difference of each colour beside the built-in 3×3 one
`JPEG grid`        two more: |cross difference| of brightness, and how far its mean over ±16 pixels in steps of 8 is from
                   the mean of all grid positions, which stands out where the 8×8 blocks of a JPEG end
`mixed crops`      crops of 128, 192 and 256 by turns, as many as have about the pixels of 16 of 128
`stage 1 of both`  starts from 300 more steps of stage 1 on both worlds, and `stage 1 of one` from the encoder that those
                   started from: the pair tells what these steps are worth

New channels begin with weights of zero, so all trials of a seed start from the same score maps. Finished runs of FOLDER
are not run again. Scored on 120 validation images of both worlds in tiles; nothing is looked at on a test set.
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mpc_lite.contrast.views import resize_mask
from mpc_lite.data.augment.on_device import augment
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.finetune import Finetuning, LocalizationStep
from mpc_lite.training.loop import train
from mpc_lite.training.pretrain import pretrain

RESULT = Path(__file__).with_suffix(".json")
TRIALS = ("as it is", "averaged", "second residual", "JPEG grid", "mixed crops", "stage 1 of one", "stage 1 of both")
SEEDS = (0, 1, 2)
STEPS, STAGE1_STEPS, DECAY = 350, 300, 0.98
IMAGES, SIDE, IMAGES_SEED = 120, 256, 1
SHORT = {
    "finetune.steps": STEPS,
    "finetune.validate_every": STEPS,
    "finetune.schedule": {"name": "cosine", "warmup": 20},
    "pretrain.steps": STAGE1_STEPS,
    "pretrain.validate_every": STAGE1_STEPS,
    "pretrain.schedule": {"name": "cosine", "warmup": 20},
    "data.validation_images": 32,
}


class SecondResidual(nn.Module):
    """Images (B,3,H,W) in [0,1] -> (B,9,H,W): what the network has, and a fourth difference in [-1,1]."""

    more = 3

    def __init__(self, residual: nn.Module):
        super().__init__()
        self.residual = residual

    def forward(self, images: Tensor) -> Tensor:
        row = torch.tensor([1.0, -4, 6, -4, 1], device=images.device)
        kernel = (row[:, None] * row / 36).expand(3, 1, 5, 5)
        fine = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="replicate"), kernel, groups=3)
        return torch.cat([self.residual(images), (fine * 255 / 8).clamp(-1, 1)], 1)


class JPEGGrid(SecondResidual):
    """Images (B,3,H,W) in [0,1] -> (B,8,H,W): what the network has, the strength of corners, and that of the grid."""

    more = 2

    def forward(self, images: Tensor) -> Tensor:
        grey = F.pad(images.mean(1, keepdim=True), (0, 1, 0, 1), mode="replicate")
        corner = (grey[..., 1:, 1:] + grey[..., :-1, :-1] - grey[..., 1:, :-1] - grey[..., :-1, 1:]).abs()
        corner = (corner * 255 / 8).clamp(max=1)
        same_place = F.conv2d(
            F.pad(corner, [16] * 4, mode="reflect"), corner.new_full((1, 1, 5, 5), 1 / 25), dilation=8
        )
        all_places = F.avg_pool2d(F.pad(same_place, [3, 4, 3, 4], mode="reflect"), 8, stride=1)
        return torch.cat([self.residual(images), corner, (4 * (same_place - all_places)).clamp(-1, 1)], 1)


FRONT_ENDS = {"second residual": SecondResidual, "JPEG grid": JPEGGrid}


def widen(model: MPC, trial: str) -> None:
    """The trial's channels in front of the network, with weights of zero."""
    if trial in FRONT_ENDS:
        encoder, stem = model.encoder, model.encoder.conv1
        encoder.residual = FRONT_ENDS[trial](encoder.residual)
        stem.in_channels += encoder.residual.more
        stem.weight = nn.Parameter(F.pad(stem.weight.detach(), (0, 0, 0, 0, 0, encoder.residual.more)))


CROPS = {256: (4, 1), 192: (7, 1), 128: (4, 4)}  # side: of how many images of a batch of 256 × 256, how many crops each


class MixedCrops(LocalizationStep):
    """Stage 2 on crops of the next side in CROPS, cut from turned images of 256 × 256 at a random place; crops of 128
    are an image's four quarters."""

    steps = 0

    def encode(self, batch: dict[str, Tensor]) -> tuple[list[Tensor], Tensor]:
        side = list(CROPS)[self.steps % len(CROPS)]
        images, each = CROPS[side]
        self.steps += 1
        batch = augment({key: x[:images] for key, x in batch.items()})
        pixels = torch.cat([batch[0].float() / 255, batch[1][:, None].float()], 1)
        y, x = torch.randint(256 - side + 1, (2,)).tolist() if each == 1 else (0, 0)
        pixels = pixels[..., y:, x:].unfold(2, side, side)[:, :, : 256 // side].unfold(3, side, side)
        pixels = pixels.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        maps = self.model.encoder(pixels[:, :3].contiguous(memory_format=torch.channels_last))
        return maps, resize_mask(pixels[:, 3].byte(), maps[0].shape[2:])


def stage2(recipe, trial: str, out: Path, start: str | Path) -> None:
    """Train; `last.safetensors` holds the weights after the last step, `averaged.safetensors` their moving average."""
    last: dict[str, nn.Module] = {}

    class Trial(Finetuning):
        def __init__(self, model: MPC, recipe):
            widen(model, trial)
            super().__init__(model, recipe)
            if trial == "mixed crops":
                self.network = MixedCrops(model, self.settings)
            average = copy.deepcopy(model)
            last.update(model=model, average=average)

            def follow(*_) -> None:
                """Before each step, the average takes in the weights that the step before left."""
                pairs = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
                for kept, now in pairs:
                    kept.lerp_(now, 1 - DECAY) if kept.is_floating_point() else kept.copy_(now)

            self.network.register_forward_pre_hook(follow)

        def count(self, batch: dict[str, Tensor]) -> int:
            """Of a mixed batch as many as of 16 crops of 128, whatever its side: sides then weigh alike."""
            return 16 * 32 * 32 if trial == "mixed crops" else super().count(batch)

    train(Trial, recipe, out, False, start, "cpu")
    for name, key in (("averaged", "average"), ("last", "model")):
        save_file({k: v.contiguous().clone() for k, v in last[key].state_dict().items()}, out / f"{name}.safetensors")


def score(trial: str, weights: Path, manifest: Path, settings: dict) -> dict:
    model = load_weights("lite")
    widen(model, trial)
    model.load_state_dict(load_file(weights))
    localizer = Localizer(model.eval(), settings["mode"], settings["size"], settings["overlap"])
    with tempfile.TemporaryDirectory() as maps:
        fixed = evaluate(localizer, manifest, "mpc", maps_dir=maps, baselines={})
        best = rescore(manifest, maps, "best_threshold")
    row = {key: round(fixed["average"][key], 4) for key in ("f1", "auc")}
    row["f1_best_threshold"] = round(best["average"]["f1"], 4)
    levels = fixed["image_level"]
    return row | {"image_auc": round(levels["auc"], 4), "false_alarm_rate": round(levels["false_alarm_rate"], 4)}


def run(trial: str, seed: int, folder: Path, manifest: Path) -> dict:
    mixed = {"data.size": 256, "finetune.batch": 7} if trial == "mixed crops" else {}
    recipe = load_recipe("lite2", overrides={**SHORT, **mixed, "seed": seed})
    start: str | Path = "lite"
    if trial.startswith("stage 1"):
        start = "lite-stage1"
    if trial == "stage 1 of both":
        start = pretrain(recipe, folder / f"stage1-{seed}", resume=True, weights="lite-stage1", device="cpu")
    out = folder / f"{'as it is' if trial == 'averaged' else trial}-{seed}".replace(" ", "-")
    if not (out / "last.safetensors").is_file():
        stage2(recipe, trial, out, start)
    weights = out / ("averaged.safetensors" if trial == "averaged" else "last.safetensors")
    scores = score(trial, weights, manifest, load_recipe("lite2").evaluate.model_dump())
    return {"trial": trial, "seed": seed, **scores}


def main(folder: Path, trials: list[str], seeds: list[int]) -> None:
    data = load_recipe("lite2").data
    manifest = folder / "validation" / "manifest.csv"
    if not manifest.is_file():
        Stream("validation", IMAGES_SEED, data, SIDE).write(manifest.parent, IMAGES, SIDE)
    for seed in seeds:
        for trial in trials:
            target = folder / f"{trial}-{seed}.json".replace(" ", "-")
            if not target.is_file():
                row = run(trial, seed, folder, manifest)
                target.write_text(json.dumps(row))
                print(json.dumps(row), flush=True)
            write(folder)


def write(folder: Path) -> None:
    rows = [json.loads(path.read_text()) for path in folder.glob("*-[0-9].json")]
    rows.sort(key=lambda row: (TRIALS.index(row["trial"]), row["seed"]))
    facts = record(
        command="MPC_LITE_DATA=… python book/results/lite-trials.py FOLDER",
        recipe="lite2",
        steps={"stage 2": STEPS, "more of stage 1": STAGE1_STEPS},
        decay=DECAY,
        validation={"images": IMAGES, "seed": IMAGES_SEED, "size": SIDE, "protocol": "mpc"},
        device="cpu",
    )
    write_atomic(RESULT, (json.dumps({"schema": 1, **facts, "runs": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    arguments = sys.argv[2:]
    chosen = arguments[0].split(",") if arguments else list(TRIALS)
    main(Path(sys.argv[1]), chosen, [int(x) for x in arguments[1].split(",")] if len(arguments) > 1 else list(SEEDS))
