# ruff: noqa: E501 - a line of the card is a line of this file
"""What the second edition of the lite model is worth beside the first, and what its image score means.

    MPC_LITE_DATA=… python book/results/second-edition.py WEIGHTS

WEIGHTS is the file that the last of GOES wrote. Ships it as `lite2`, with its tiles (tiles.py), its scores moved to where
0.5 cuts best, the scores of authentic photographs in it and a model card, and writes second-edition.json beside this file,
with the validations of the training. Without WEIGHTS the shipped file is measured again. Chosen on validation images alone
(generated ones of the validation split, authentic photographs outside training): tiles, where to cut, and the summary of a
map that is the image score. Scored once, with that choice: `lalonde` test, `casia2`, `cvip`, generated test images, and
authentic photographs of the test splits.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from mpc_lite.data.manifest import manifest_rows, read_mask
from mpc_lite.evaluation.evaluate import evaluate, rescore
from mpc_lite.evaluation.metrics import roc_auc
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.forgeries.photographs import Photographs
from mpc_lite.images import read_image
from mpc_lite.inference.calibration import WRITTEN, write_calibrated
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import load_weights
from mpc_lite.network.weights import PRETRAINED, read_facts, save_weights, weights_sha256
from mpc_lite.provenance import record
from mpc_lite.recipes.load import load_recipe
from mpc_lite.training.progress import read_log

DATA = Path(os.environ.get("MPC_LITE_DATA", "."))  # looked into only where something is measured
TARGET = Path(__file__).with_suffix(".json")
CARD = PRETRAINED / "lite2.md"
GENERATED, SIDE = 300, 256
TILES = {"mode": "tiles", "size": 224, "overlap": 48}  # see tiles.json
GOES = (  # the second one starts from what this script made of the first
    "mpc-lite finetune --recipe lite2 --weights lite -p finetune.steps=4500",
    "mpc-lite finetune --recipe lite2 --weights lite2 -p finetune.steps=10000 -p finetune.batch=7 -p data.size=192",
)
CUTS = np.arange(0.02, 0.981, 0.02)  # thresholds tried on validation images
NAMES = {
    "test-simulated": "generated, simulated cameras",
    "test-null": "generated null splices",
    "test-real": "generated from real photographs",
}


def summaries(score_map: np.ndarray) -> dict[str, float]:
    """Candidates for an image score, of the means over 8×8 pixels."""
    height, width = (side // 8 * 8 for side in score_map.shape)
    blocks = np.sort(score_map[:height, :width].reshape(height // 8, 8, width // 8, 8).mean((1, 3)), axis=None)

    def top(share: float) -> float:
        return float(blocks[-max(1, round(share * blocks.size)) :].mean())

    return {"maximum": float(blocks[-1]), "top 1 %": top(0.01), "top 5 %": top(0.05), "mean": top(1)}


def photographs() -> dict[str, list[Path]]:
    """Authentic photographs that no training saw, by what they serve for."""
    data = load_recipe("lite2").data.real
    sets = {}
    for split in ("validation", "test"):
        for item in Photographs(split, data.lists, data.sources, smallest=32).items:
            sets.setdefault(f"{split}: {'clothing' if item.source == 'clothing' else 'open'}", []).append(item.path)
    with open(DATA / "photos.csv", newline="") as file:
        for row in csv.DictReader(file):
            if row["source"] in ("bsds500", "kodak"):
                sets.setdefault(f"validation: {row['source']}", []).append(DATA / row["image"])
    return sets


def image_scores(localizer: Localizer, folder: Path) -> dict[str, list[dict]]:
    """{set: [{label, width × height in megapixels, summaries}]}."""
    scores = {
        name: [{"label": 0, **summaries(localizer(read_image(path)).score_map)} for path in paths]
        for name, paths in photographs().items()
    }
    manifests = {"validation: real-camera forgeries": (folder / "validation-real" / "manifest.csv", None)}
    manifests |= {"casia2": (DATA / "forged.csv", "casia2"), "lalonde": (DATA / "forged.csv", "lalonde")}
    for name, (manifest, source) in manifests.items():
        for sample, problem in manifest_rows(manifest):
            if problem or (source and (sample.source != source or sample.split != "test")):
                continue
            line = {"label": sample.label, **summaries(localizer(read_image(sample.image)).score_map)}
            scores.setdefault(name, []).append(line)
    return scores


def pixel_scores(localizer: Localizer, folder: Path) -> dict[str, dict]:
    """Every set under protocol mpc, and with the best threshold of each image, from the same maps."""
    sets = {name: (folder / name / "manifest.csv", None) for name in ("test-simulated", "test-null", "test-real")}
    sets["research images"] = (DATA / "forged.csv", "test")
    tables = {}
    for name, (manifest, split) in sets.items():
        with tempfile.TemporaryDirectory() as maps:
            fixed = evaluate(localizer, manifest, "mpc", split, maps)
            best = rescore(manifest, maps, "best_threshold", split)
        for source, table in fixed["sets"].items():
            table["f1_best_threshold"] = best["sets"][source]["f1"]
        fixed["average"]["f1_best_threshold"] = best["average"]["f1"]
        tables[name] = fixed
    return tables


def verdicts(localizer: Localizer) -> dict[str, dict[str, int]]:
    """What `predict` says of authentic photographs that neither training nor calibration saw, counted."""
    return {
        name: dict(Counter(localizer(path).verdict.split(":")[0] for path in paths))
        for name, paths in photographs().items()
        if name.startswith("test")
    }


def write_sets(folder: Path) -> None:
    data = load_recipe("lite2").data
    real = data.model_copy(update={"real": data.real.model_copy(update={"share": 1.0})})
    simulated = data.model_copy(update={"real": None})
    Stream("validation", 1, real, SIDE).write(folder / "validation-real", GENERATED, SIDE)
    Stream("validation", 1, simulated, SIDE).write(folder / "validation-simulated", GENERATED, SIDE)
    Stream("test", 1, real, SIDE).write(folder / "test-real", GENERATED, SIDE)
    Stream("test", 1, simulated, SIDE).write(folder / "test-simulated", GENERATED, SIDE)
    Stream("test", 1, simulated, SIDE).write(folder / "test-null", GENERATED, SIDE, null=True)


def detection(scores: dict[str, list[dict]], key: str) -> dict:
    """With the threshold that 5 % of the authentic validation photographs exceed: alarms and detections of each set."""
    authentic = sorted(
        x[key]
        for name, s in scores.items()
        if name.startswith("validation")
        for x in s
        if not x["label"] and "forgeries" not in name
    )
    threshold = authentic[-(int(0.05 * (len(authentic) + 1)))]
    sets = {}
    for name, lines in scores.items():
        shares = {
            word: float(np.mean([x[key] > threshold for x in lines if x["label"] == label]))
            for label, word in ((0, "false_alarms"), (1, "detections"))
            if any(x["label"] == label for x in lines)
        }
        labels = np.array([x["label"] for x in lines])
        if 0 < labels.sum() < len(labels):
            shares["auc"] = roc_auc(labels, np.array([x[key] for x in lines]))
        sets[name] = {"n": len(lines), **shares}
    return {"photographs": len(authentic), "threshold": threshold, "sets": sets}


def best_cut(localizer: Localizer, folder: Path) -> dict[str, float]:
    """The threshold of CUTS with the highest F1, mean over the tampered validation images of each world, then of both."""
    worlds = []
    for name in ("validation-simulated", "validation-real"):
        curves = []
        for sample, problem in manifest_rows(folder / name / "manifest.csv"):
            if problem or not sample.label:
                continue
            score_map, truth = localizer(read_image(sample.image)).score_map, read_mask(sample.mask) == 1
            marked = [score_map > cut for cut in CUTS]
            curves.append([2 * (m & truth).sum() / (m.sum() + truth.sum()) for m in marked])
        worlds.append(np.mean(curves, axis=0))
    f1, at_half = np.mean(worlds, axis=0), int(np.argmin(abs(CUTS - 0.5)))
    best = int(f1.argmax())
    return {"threshold": float(CUTS[best]), "f1": float(f1[best]), "f1_at_0.5": float(f1[at_half])}


def ship(weights: str, folder: Path) -> None:
    """Move the scores so that the best cut of the validation images is 0.5, calibrate, and write the shipped file.

    The last bias takes it, so the order of the pixels of a tile stays; where tiles overlap, scores are averaged, and
    pixel AUC and best thresholds change a little. Half of the training images are authentic, a share no user's
    threshold knows of.
    """
    facts, model = read_facts(weights), load_weights(weights)
    if "cut" not in facts:  # else WEIGHTS is the shipped file itself
        model.recipe = facts["recipe"] = {**facts["recipe"], "evaluate": {**facts["recipe"]["evaluate"], **TILES}}
        facts["cut"] = best_cut(Localizer(model, **TILES), folder)
        with torch.no_grad():
            model.decoder.classifier[-1].bias -= torch.logit(torch.tensor(facts["cut"]["threshold"]))
    sets = {name: paths for name, paths in photographs().items() if name.startswith("validation")}
    words = ", ".join(f"{len(paths)} {name.removeprefix('validation: ')}" for name, paths in sets.items())
    paths = [path for group in sets.values() for path in group]
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "model.safetensors"
        facts = {key: fact for key, fact in facts.items() if key not in WRITTEN}
        save_weights(file, model, model.recipe, **facts)
        localizer = Localizer.from_pretrained(file, device="cpu")
        calibration = localizer.calibrate(paths, f"{len(paths)} authentic photographs outside training ({words})")
        write_calibrated(file, calibration, PRETRAINED / "lite2.safetensors")


def card(results: dict) -> str:
    facts = read_facts("lite2")
    recipe = facts["recipe"]
    data, finetune = recipe["data"], recipe["finetune"]
    first, second = results["weights"]["first"], results["weights"]["second"]
    rows = []
    for label, table in second["pixels"].items():
        before = first["pixels"][label]
        names = sorted(table["sets"]) if label == "research images" else [None]
        for name in names:
            pair = [each["sets"][name] if name else each["average"] for each in (before, table)]
            cells = [f"{entry[key]:.2f}" for key in ("f1", "f1_best_threshold", "auc") for entry in pair]
            rows.append(f"| {name or NAMES[label]} | {pair[0]['n']} | {' | '.join(cells)} |")
    alarms = []
    for name, table in second["images"]["maximum"]["sets"].items():
        before = first["images"]["maximum"]["sets"][name]
        cells = [
            "–" if key not in entry else f"{entry[key]:.2f}"
            for key in ("false_alarms", "detections", "auc")
            for entry in (before, table)
        ]
        alarms.append(f"| {name} | {table['n']} | {' | '.join(cells)} |")
    verdict_lines = "; ".join(
        f"{name.removeprefix('test: ')} ({sum(counts.values())}): "
        + ", ".join(f"{word} {count}" for word, count in sorted(counts.items()))
        for name, counts in second["verdicts"].items()
    )
    return f"""# Model card: `lite2`

The network of `lite`, trained further on both worlds: simulated cameras, and forgeries cut from real photographs that
went through resizing, re-saves and screenshots. It carries a calibration: how high authentic photographs score.

## Training

- In two goes, seed {recipe["seed"]}, one run each, one thread of a CPU. First `{GOES[0]}`:
  4500 steps of 16 crops of 128². Then, from what came of it, `{GOES[1]}`:
  {finetune["steps"]} steps of {finetune["batch"]} crops of {data["size"]}². Stage 1 is that of `lite`; the recipe's own stage 1 on both worlds is *not run*.
- Focal loss with alpha {finetune["alpha"]}; {data["authentic_share"]:.0%} of the images are authentic, {data["real"]["share"]:.0%} come from real photographs. NOTICE names their
  sources and licences, most of them CC0 1.0; with attribution merkato/odm_boruszyn_kap (CC BY 3.0) and
  MicroPasts/socketed-axe-version2 (CC BY 4.0). No research data set was trained on.
- The best step by held-out generated validation images of both worlds was kept: step {facts["step"]} of the second go, F1 {facts["validation"]["f1"]:.3f}
  on {data["size"]}² crops at 0.5.
- Photographs are seen in tiles of {recipe["evaluate"]["size"]} pixels that overlap by {recipe["evaluate"]["overlap"]} (chosen on validation images, `book/results/tiles.json`).
- Then all scores were moved, by the last bias, so that {facts["cut"]["threshold"]:.2f} became 0.5: the cut with the highest F1 on validation images of
  both worlds ({facts["cut"]["f1_at_0.5"]:.3f} before, {facts["cut"]["f1"]:.3f} after). The order of pixels within a tile is the same.

## Measured

Protocol `mpc`, each pair of columns: first edition (`lite`), this one. F1 at threshold 0.5, with the best threshold of
each image, and pixel AUC; means over tampered images.

| test images | n | F1: `lite` | F1: `lite2` | best: `lite` | best: `lite2` | AUC: `lite` | AUC: `lite2` |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

**Whole images.** The score is the maximum of the map after 8×8 mean pooling. The threshold is the score that 5 % of {second["images"]["maximum"]["photographs"]}
authentic photographs outside training exceed ({first["images"]["maximum"]["threshold"]:.3f} for `lite`, {second["images"]["maximum"]["threshold"]:.3f} for `lite2`); `validation` rows are those very
photographs.

| images | n | alarms: `lite` | alarms: `lite2` | found: `lite` | found: `lite2` | image AUC: `lite` | image AUC: `lite2` |
|---|---|---|---|---|---|---|---|
{chr(10).join(alarms)}

## Calibration

{facts["calibration"]["photographs"]}. `predict` says how many of them score as high as a photograph:
(1 + number at least as high) / ({len(facts["calibration"]["scores"])} + 1), a conformal p-value. If an authentic photograph is exchangeable with them, it falls to 5 % or
below in at most 5 of 100 cases. A photograph of another size, camera or history is not exchangeable with them.

Of authentic photographs that neither training nor calibration saw, `predict` says: {verdict_lines}.

## Limits

- A score above the threshold is a reason to look, never a proof; a score below it says "cannot tell".
- The limits of `lite` (lite.md) hold here too.

Made by the command above and `python book/results/second-edition.py runs/lite2/model.safetensors`, with
`MPC_LITE_DATA` naming the folder of photographs. Figures: `book/results/second-edition.json`.

| name | what | sha256 |
|---|---|---|
| `lite2` | after stage 2 on both worlds, with its calibration | `{second["sha256"]}` |
"""


def validations(weights: str | None) -> list[dict]:
    """[{step, f1, authentic_marked}] of the training that wrote WEIGHTS; without WEIGHTS as they were kept."""
    if weights is None:
        return json.loads(TARGET.read_text())["training"]
    lines = [line for line in read_log(Path(weights).with_name("log.jsonl")) if "validation" in line]
    return [{"step": x["step"], **{k: x["validation"][k] for k in ("f1", "authentic_marked")}} for x in lines]


def main(weights: str | None) -> None:
    results = {"schema": 1, "command": "python book/results/second-edition.py", **record(device="cpu")}
    results |= {"training": validations(weights), "weights": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sets(folder)
        if weights:
            ship(weights, folder)
        for label, file in (("first", "lite"), ("second", "lite2")):
            localizer = Localizer.from_pretrained(file, device="cpu")
            scores = image_scores(localizer, folder)
            results["weights"][label] = {
                "sha256": weights_sha256(file),
                "pixels": pixel_scores(localizer, folder),
                "images": {key: detection(scores, key) for key in ("maximum", "top 1 %", "top 5 %", "mean")},
            }
            if label == "second":
                results["weights"][label]["verdicts"] = verdicts(localizer)
            write_atomic(TARGET, (json.dumps(results, indent=1) + "\n").encode())
            print(label, json.dumps(results["weights"][label]["images"], indent=1), flush=True)
    CARD.write_text(card(results))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
