"""Ship the lite model: copy its weights, measure them, write book/results/lite.json and the model card.

    MPC_LITE_DATA=… mpc-lite pretrain --recipe lite --out runs/lite
    MPC_LITE_DATA=… mpc-lite finetune --recipe lite --out runs/lite
    MPC_LITE_DATA=… python book/tools/lite_card.py runs/lite

Without a run folder it only measures the shipped weights again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

import torch

from mpc_lite.config import load_recipe
from mpc_lite.evaluate import evaluate
from mpc_lite.localizer import Localizer
from mpc_lite.model import MPC
from mpc_lite.progress import read_log
from mpc_lite.results import commit, versions
from mpc_lite.scenes import Scenes
from mpc_lite.synth import write_set
from mpc_lite.weights import load_weights, pretrained_file, read_facts, save_weights

ROOT = Path(__file__).parents[2]
CARD, RESULTS = ROOT / "mpc_lite/pretrained/lite.md", ROOT / "book/results/lite.json"
README, MARKS = ROOT / "README.md", ("<!-- lite: written by book/tools/lite_card.py -->", "<!-- /lite -->")
IMAGES = {"forgeries": 200, "null splices": 100}
BASELINES = {"all_tampered": "all tampered", "ela": "error level", "noise_residual": "noise residual"}


def ship(run: Path) -> None:
    """Copy the run's weights under their shipped names, with the recipe as it now stands."""
    recipe = load_recipe("lite").as_dict()
    torch.manual_seed(recipe["seed"])
    initial = MPC.build(recipe["model"]["size"], recipe["model"]["head"])
    save_weights(CARD.with_name("lite-initial.safetensors"), initial, recipe, stage="initial")
    for name, file in (("lite-stage1", "stage1"), ("lite", "model")):
        facts = read_facts(run / f"{file}.safetensors")
        more = {k: facts[k] for k in ("stage", "step", "validation")}
        save_weights(CARD.with_name(f"{name}.safetensors"), load_weights(run / f"{file}.safetensors"), recipe, **more)
    log = read_log(run / "log.jsonl")
    seconds = {
        s: max(e["seconds"] for e in log if e["stage"] == s and "seconds" in e) for s in ("pretrain", "finetune")
    }
    steps = {s: max(e["step"] for e in log if e["stage"] == s) for s in seconds}
    RESULTS.write_text(json.dumps({"training": {"seconds": seconds, "steps": steps}}))


def measure(folder: Path) -> dict:
    """Every set of the card: {name: what `evaluate` returns}."""
    localizer, photos = Localizer.from_pretrained("lite"), os.path.expandvars("$MPC_LITE_DATA/photos/clothing")
    scenes = {
        "packaged photographs and dead leaves": Scenes("test", ["packaged", "dead_leaves"]),
        "clothing photographs": Scenes("test", ["photos"], photos),
    }
    sets = {}
    for what, n in IMAGES.items():
        for name, scene in scenes.items():
            made = write_set(folder / f"{what} {name}", "test", n, 0, 256, scene, null=what == "null splices")
            sets[f"generated {what}, {name}"] = evaluate(localizer, made)
    sets["research images"] = evaluate(localizer, Path(os.environ["MPC_LITE_DATA"]) / "forged.csv", split="test")
    return sets


def rows(sets: dict) -> list[str]:
    """The card's table; per source, and for generated sets the mean over their images."""
    lines = [
        "| test images | n | F1 | 95 % interval | IoU | pixel AUC | "
        + " | ".join(f"F1 {b}" for b in BASELINES.values())
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
    base = [f"{s['baselines'][b]['f1']:.3f}" for b in BASELINES]
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
    return f"""# Model card: `lite`

A `nano` network ({sum(p.numel() for p in MPC.from_pretrained("lite").parameters()):,} parameters, encoder and
{recipe.model.head} head) for learning and for trying things out on a laptop. It is not a forensic instrument: on real
forgeries from the wild its scores are those of the table below, and they are low.

## Training

- Recipe `lite`, seed {recipe.seed}, one run. Stage 1: {t["steps"]["pretrain"]} steps of {recipe.pretrain.batch} crops
  of {recipe.data.size}², `{recipe.pretrain.formulation}` contrastive loss ({minutes["pretrain"]} minutes). Stage 2:
  {t["steps"]["finetune"]} steps of {recipe.finetune.batch} crops, focal loss, alpha {recipe.finetune.alpha}, gamma
  {recipe.finetune.gamma}, encoder {recipe.finetune.encoder} ({minutes["finetune"]} minutes). Two slow shared CPU cores.
- Our choices, not the paper's: no ImageNet weights; the stem also sees a truncated high-pass residual; stage 2 trains
  the whole network ("encoder: trained"), where the paper freezes the encoder.
- Scenes: 80 % of 600 photographs of the clothing dataset (CC0 1.0), photographs packaged with scikit-image and
  scikit-learn (NOTICE), dead-leaves images. All forgeries are generated; no research data set was used.
- The best step by held-out generated validation images was kept (step {facts["step"]}, validation F1
  {facts["validation"]["f1"]:.3f}); validation and test share neither scenes nor cameras with training. The ranges of
  the test split (`mpc_lite/splits.yaml`) were fixed before training.

## Figures

Protocol `mpc`: foreground F1 and IoU at threshold 0.5, mean over tampered images; the interval is a bootstrap over
images. Score maps: {e.mode} of {e.size} pixels, overlap {e.overlap}, native size. Each baseline has the best fixed
threshold for generated validation images (`baselines.json`). Measured on CPU, torch {results["versions"]["torch"]}.

{chr(10).join(rows(results["sets"]))}

The *null splices* are the control: host and donor come from one camera with the same settings, so that no trace
differs. What the model marks there it owes to content and paste edges, not to camera traces.

{chr(10).join(image_rows(results["sets"]))}

False-alarm rate: share of authentic images whose score (maximum of the map after 8×8 mean pooling) exceeds 0.5.

## Limits

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
`python book/tools/lite_card.py runs/lite`, with `MPC_LITE_DATA` naming the folder that holds `photos/clothing` and
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
            beside = f"{s['baselines'][best]['f1']:.2f} ({BASELINES[best]})"
            lines.append(f"| {label} | {s['n']} | {s['f1']:.2f} | {low:.2f}–{high:.2f} | {beside} |")
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) > 1:
        ship(Path(sys.argv[1]))
    results = {"training": json.loads(RESULTS.read_text())["training"]}
    with tempfile.TemporaryDirectory() as folder:
        results["sets"] = measure(Path(folder))
    names = ("lite", "lite-stage1", "lite-initial")
    results["sha256"] = {n: hashlib.sha256(pretrained_file(n).read_bytes()).hexdigest() for n in names}
    results |= {"versions": versions(), "commit": commit(), "device": "cpu"}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    CARD.write_text(card(results))
    before, start, rest = README.read_text().partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{start}\n{summary(results['sets'])}\n{end}{after}")
    print(CARD.read_text())


if __name__ == "__main__":
    main()
