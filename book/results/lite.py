# ruff: noqa: E501 - a line of the card is a line of this file
"""Measure the shipped model kind by kind; ship its first edition.

    MPC_LITE_DATA=… python book/results/lite.py lite2

scores `lite2` on the test sets of the first edition and writes book/results/lite2.json and the table of the README.

    MPC_LITE_DATA=… mpc-lite pretrain --recipe lite --out runs/lite
    MPC_LITE_DATA=… mpc-lite finetune --recipe lite --out runs/lite
    MPC_LITE_DATA=… python book/results/lite.py runs/lite

copies the weights of the first edition, measures them, and writes book/results/lite.json and the card lite.md. Without
an argument it only measures these weights again.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

from mpc_lite.evaluation.baselines import LABELS
from mpc_lite.evaluation.evaluate import evaluate
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import forge, write_set
from mpc_lite.images import decode, encode_jpeg
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.network.weights import pretrained_file, read_facts, save_weights
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.progress import read_log

ROOT = Path(__file__).parents[2]
CARD, RESULTS = ROOT / "mpc_lite/pretrained/lite.md", ROOT / "book/results/lite.json"
README, MARKS = ROOT / "README.md", ("<!-- lite: written by book/results/lite.py -->", "<!-- /lite -->")


def ship(run: Path) -> dict:
    """Copy the run's weights under their shipped names; returns steps and seconds of both stages.

    How a map is made (`evaluate`) may have been settled after training; what was trained may not have changed.
    """
    recipe = load_recipe("lite").as_dict()
    for stage, file in (("pretrain", "stage1"), ("finetune", "model")):
        trained = read_facts(run / f"{file}.safetensors")["recipe"]
        for section in ("seed", "model", "data", "augment", stage):
            if trained[section] != recipe[section]:
                raise SystemExit(
                    f"{file}.safetensors was trained with another '{section}' than recipes/lite.yaml names"
                )
    torch.manual_seed(recipe["seed"])
    initial = MPC.build(recipe["model"]["size"], recipe["model"]["head"])
    save_weights(CARD.with_name("lite-initial.safetensors"), initial, recipe, stage="initial")
    for name, file in (("lite-stage1", "stage1"), ("lite", "model")):
        facts = read_facts(run / f"{file}.safetensors")
        more = {k: facts[k] for k in ("stage", "step", "validation")}
        save_weights(CARD.with_name(f"{name}.safetensors"), load_weights(run / f"{file}.safetensors"), recipe, **more)
    entries = [e for e in read_log(run / "log.jsonl") if "seconds" in e]
    training = {"steps": {}, "seconds": {}}
    for stage in ("pretrain", "finetune"):
        mine = [e for e in entries if e["stage"] == stage]
        # Seconds count up within a session; where they fall, a resumed session begins.
        ends = [a for a, b in pairwise(mine) if b["seconds"] < a["seconds"]] + mine[-1:]
        training["steps"][stage] = mine[-1]["step"]
        training["seconds"][stage] = round(sum(e["seconds"] for e in ends), 1)
    return training


def measure(weights: str, folder: Path) -> dict:
    """Every set of the first edition's card: {name: what `evaluate` returns}."""
    localizer, data = Localizer.from_pretrained(weights), load_recipe("lite").data
    scenes = {
        "all scenes": Scenes("test", data.scenes, data.photos),
        "packaged photographs and dead leaves": Scenes("test", ["packaged", "dead_leaves"]),
        "clothing photographs": Scenes("test", ["photos"], data.photos),
    }
    sets = {}
    for name, scene in scenes.items():
        manifest = write_set(folder / name, "test", data.test_images, 0, data.test_size, scene, data.authentic_share)
        sets[f"generated forgeries, {name}"] = evaluate(localizer, manifest)
    manifest = write_set(folder / "null", "test", data.test_images, 0, data.test_size, scenes["all scenes"], null=True)
    sets["generated null splices, all scenes"] = evaluate(localizer, manifest)
    sets["research images"] = evaluate(localizer, Path(os.environ["MPC_LITE_DATA"]) / "forged.csv", split="test")
    return sets


def splits_digest() -> str:
    return hashlib.sha256((ROOT / "mpc_lite/forgeries/splits.yaml").read_bytes()).hexdigest()


def forgery_cost(n: int = 40, size: int = 256) -> float:
    """Time of a forgery as a ratio to one Pillow JPEG round trip of the same image, interleaved, median of `n`."""
    scenes, ratios = Scenes("test", ["packaged", "dead_leaves"]), []
    forgeries = [forge("test", 0, i, scenes, size) for i in range(n)]  # warms the cache of scenes
    for i in range(n):
        start = time.perf_counter()
        forge("test", 0, i, scenes, size)
        middle = time.perf_counter()
        decode(encode_jpeg(forgeries[i].image, 90, 2))
        ratios.append((middle - start) / (time.perf_counter() - middle))
    return round(statistics.median(ratios), 1)


def rows(sets: dict) -> list[str]:
    """The card's table; per source, and for generated sets the mean over their images."""
    lines = [
        "| test images | n | F1 | 95 % interval | IoU | pixel AUC | "
        + " | ".join(f"F1 {b}" for b in LABELS.values())
        + " |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, table in sets.items():
        entries = dict(table["sets"])
        for source, s in entries.items():
            if not s["n"]:
                continue
            label = name if len(entries) == 1 else f"{name}: {source.split('-')[-1]}"
            lines.append(row(label, s))
        if len(entries) > 1 and name.startswith("generated"):
            lines.append(row(f"**{name}: all**", table["average"]))
    return lines


def row(label: str, s: dict) -> str:
    low, high = s["f1_ci95"]
    base = [f"{s['baselines'][b]['f1']:.3f}" for b in LABELS]
    scores = [f"{s['f1']:.3f}", f"{low:.3f}–{high:.3f}", f"{s['iou']:.3f}", f"{s['auc']:.3f}"]
    return f"| {' | '.join([label, str(s['n']), *scores, *base])} |"


def image_rows(sets: dict) -> list[str]:
    lines = ["| test images | authentic | tampered | image AUC | false-alarm rate |", "|---|---|---|---|---|"]
    for name, table in sets.items():
        i = table["image_level"]
        if i["n_authentic"]:
            auc = "–" if i["auc"] is None else f"{i['auc']:.3f}"
            lines.append(f"| {name} | {i['n_authentic']} | {i['n_tampered']} | {auc} | {i['false_alarm_rate']:.3f} |")
    return lines


def card(results: dict) -> str:
    facts, recipe = read_facts("lite"), load_recipe("lite")
    t = results["training"]
    minutes = {k: f"{v / 60:.0f}" for k, v in t["seconds"].items()}
    digest = {n: results["sha256"][n] for n in ("lite", "lite-stage1", "lite-initial")}
    e = recipe.evaluate
    n = sum(p.numel() for p in MPC.from_pretrained("lite").parameters())
    sets = results["sets"]
    splice = next(s for s in sets["generated forgeries, all scenes"]["sets"] if s.endswith("-splice"))
    null, mixed = sets["generated null splices, all scenes"]["average"], sets["generated forgeries, all scenes"]
    alarms = sets["research images"]["image_level"]["false_alarm_rate"]
    return f"""# Model card: `lite`, the first edition

Commands use the second edition, `lite2` (lite2.md), unless told otherwise. This one is a `nano` network ({n:,} parameters, encoder and {recipe.model.head} head) for learning and for trying things out on a
laptop. It is not a forensic instrument: it marks something in nearly every authentic photograph, and on forgeries made
by people its scores are low.

## Training

- Recipe `lite`, seed {recipe.seed}, one run, two slow shared CPU cores.
- Stage 1: {t["steps"]["pretrain"]} steps of {recipe.pretrain.batch} crops of {recipe.data.size}², `{recipe.pretrain.formulation}` contrastive loss, {minutes["pretrain"]} minutes.
- Stage 2: {t["steps"]["finetune"]} steps of {recipe.finetune.batch} crops, focal loss with alpha {recipe.finetune.alpha} and gamma {recipe.finetune.gamma}, encoder {recipe.finetune.encoder}, {minutes["finetune"]} minutes.
- Our choices, not the paper's: no ImageNet weights; the stem also sees a truncated high-pass residual; stage 2 trains
  the whole network, where the paper freezes the encoder.
- Scenes: 80 % of 600 photographs of the clothing dataset (CC0 1.0), photographs packaged with scikit-image and
  scikit-learn (NOTICE), dead-leaves images. All forgeries are generated; no research data set was used.
- The best step by held-out generated validation images was kept: step {facts["step"]}, F1 {facts["validation"]["f1"]:.3f} on
  {recipe.data.size}² crops at 0.5. Validation and test share neither scenes nor cameras with training.
- The ranges of the test split were fixed before training (`mpc_lite/forgeries/splits.yaml`, sha256
  `{results["splits_sha256"]}`).
- One 256² forgery costs {results["jpeg_round_trips"]} Pillow JPEG round trips of the same image (median of 40).

## Measured

Protocol `mpc`: foreground F1 and IoU at threshold 0.5, mean over tampered images; the interval is a bootstrap over
images. Score maps: {e.mode} of {e.size} pixels, overlap {e.overlap}, native size. Each baseline has the best fixed
threshold for generated validation images (`baselines.json`). Measured on CPU, torch {results["versions"]["torch"]}.

{chr(10).join(rows(results["sets"]))}

The *null splices* are the control: host and donor come from one camera with the same settings, so that no trace
differs. What the model marks there it owes to content and paste edges, not to camera traces. Its F1 of {null["f1"]:.2f} there,
beside {mixed["sets"][splice]["f1"]:.2f} on splices from two cameras and {null["baselines"]["all_tampered"]["f1"]:.2f} for marking everything, says that it has learnt both.

{chr(10).join(image_rows(results["sets"]))}

False-alarm rate: share of authentic images whose score (maximum of the map after 8×8 mean pooling) exceeds 0.5.

## Limits

- It raises a false alarm on {alarms:.0%} of the authentic research photographs: its image score ranks images, but 0.5 is no
  threshold for it.
- Where the interval of F1 touches a baseline's F1 in the table, it is no better than that baseline.
- Trained on generated forgeries only. `casia2`, `lalonde` and `cvip` are given as they are; `cvip` holds copy-moves
  without other traces, and a mark on the pasted copy is all that counts there.
- Photographs that were resized or recompressed hard have lost most of the traces that the network knows.
- A high score is a reason to look, never a proof.

## Files

| name | what | sha256 |
|---|---|---|
| `lite` | after stage 2 | `{digest["lite"]}` |
| `lite-stage1` | after stage 1 | `{digest["lite-stage1"]}` |
| `lite-initial` | before training, seed {recipe.seed} | `{digest["lite-initial"]}` |

Made by `mpc-lite pretrain --recipe lite --out runs/lite`, `mpc-lite finetune --recipe lite --out runs/lite` and
`python book/results/lite.py runs/lite`, with `MPC_LITE_DATA` naming the folder that holds `photos/clothing` and
`forged.csv`. Figures: `book/results/lite.json`.
"""


def summary(sets: dict) -> str:
    """The short table of the README: averages of generated sets, every set of research images."""
    lines = ["| test images | n | F1 (protocol `mpc`) | 95 % interval | best baseline F1 |", "|---|---|---|---|---|"]
    for name, table in sets.items():
        whole = {name: table["average"]} if name.startswith("generated") else table["sets"]
        for label, s in whole.items():
            low, high = s["f1_ci95"]
            best = max(s["baselines"], key=lambda b: s["baselines"][b]["f1"])
            beside = f"{s['baselines'][best]['f1']:.2f} ({LABELS[best]})"
            lines.append(f"| {label} | {s['n']} | {s['f1']:.2f} | {low:.2f}–{high:.2f} | {beside} |")
    return "\n".join(lines)


def second_edition() -> None:
    """lite2.json, and the README's table from it."""
    results = {"schema": 1, "command": "python book/results/lite.py lite2"}
    with tempfile.TemporaryDirectory() as folder:
        results["sets"] = measure("lite2", Path(folder))
    results["sha256"] = {"lite2": hashlib.sha256(pretrained_file("lite2").read_bytes()).hexdigest()}
    results |= record(device="cpu")
    RESULTS.with_name("lite2.json").write_text(json.dumps(results, indent=1) + "\n")
    before, start, rest = README.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{start}\n{summary(results['sets'])}\n{end}{after}")


def main() -> None:
    if sys.argv[1:] == ["lite2"]:
        return second_edition()
    training = ship(Path(sys.argv[1])) if len(sys.argv) > 1 else json.loads(RESULTS.read_text())["training"]
    results = {"training": training, "splits_sha256": splits_digest(), "jpeg_round_trips": forgery_cost()}
    with tempfile.TemporaryDirectory() as folder:
        results["sets"] = measure("lite", Path(folder))
    names = ("lite", "lite-stage1", "lite-initial")
    results["sha256"] = {n: hashlib.sha256(pretrained_file(n).read_bytes()).hexdigest() for n in names}
    results |= record(device="cpu")
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    CARD.write_text(card(results))
    print(CARD.read_text())


if __name__ == "__main__":
    main()
