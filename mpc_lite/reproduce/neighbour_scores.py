"""A method beside MPC, measured in everybody's way: all protocols, null splices, and the metric of each method's paper.

The authors' metrics count otherwise than MPC's F1 and cannot be compared with it. Here each is computed for every
method, on the same score maps at threshold 0.5:
    MSCCNet  accuracy, F1, IoU and MCC of all pixels of the set together, F1 and IoU as means of the two classes; of
             whole images accuracy and AUC, where a network has an image head
    PPPC     the mean IoU of the two classes, all pixels together, on images after a shift: made smaller, saved as JPEG
    PCLMix   Dice and the 95 % Hausdorff distance of each tampered image, 0 and 50 pixels where nothing is marked
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mpc_lite.data.manifest import Sample, manifest_rows, read_mask
from mpc_lite.errors import InputError
from mpc_lite.evaluation.evaluate import aligned, evaluate, number
from mpc_lite.evaluation.metrics import Counts, count, f1, iou, roc_auc
from mpc_lite.evaluation.protocols import PROTOCOLS
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.images import read_image
from mpc_lite.inference.forward import device_of
from mpc_lite.inference.localizer import Localizer
from mpc_lite.neighbours.mscc.network import MSCCNet, tampered_logit
from mpc_lite.neighbours.pppc.stage import shifted
from mpc_lite.recipes.neighbour_keys import Shift
from mpc_lite.reproduce.run import Run

NULL_SPLICES = 64  # at most; fewer where the test set is smaller
NOTHING_MARKED = 50.0  # pixels, PCLMix's distance of an empty prediction


def neighbour_scores(run: Run, network: Localizer, manifest: str | Path) -> dict[str, dict]:
    """What `save_results` adds for a method: {"protocols", "null_splices", "own_metrics"}.

    protocols: {NAME: {f1, iou}}, averages as `evaluate` gives them, from the maps that it left in OUT/maps.
    null_splices: {n, f1, iou, auc} of splices whose parts one camera took with the same settings: what is found there
    is no trace of another camera. own_metrics: see `own_metrics`. Values in 0-1, but for hd95, in pixels.
    """
    protocols = {}
    for name in PROTOCOLS:
        average = evaluate(network, manifest, name, maps_dir=run.out / "maps", baselines={})["average"]
        protocols[name] = {key: average[key] for key in ("f1", "iou")}
    data = run.recipe.data
    stream, n = Stream("test", run.recipe.seed, data, data.test_size), min(NULL_SPLICES, data.test_images)
    null = evaluate(network, stream.write(run.out / "null", n, data.test_size, null=True), baselines={})["average"]
    samples = [sample for sample, problem in manifest_rows(Path(manifest)) if problem is None]
    return {
        "protocols": protocols,
        "null_splices": {key: null[key] for key in ("n", "f1", "iou", "auc")},
        "own_metrics": own_metrics(network, samples),
    }


def own_metrics(network: Localizer, samples: Iterable[Sample]) -> dict[str, float | None]:
    """The metrics of the three methods (see the module) of a network on images, tampered and authentic.

    Returns {pixel_accuracy, macro_f1, miou, mcc, target_miou, dice, hd95} and of an `MSCCNet` {image_accuracy,
    image_auc} too; None where a figure is undefined. The shift is the middle of the default `Shift`.
    """
    shift, nobody = Shift(), Counts(0, 0, 0, 0)
    ratio, quality = sum(shift.ratio) / 2, sum(shift.quality) // 2
    pooled, target, dice, distances, labels, margins = nobody, nobody, [], [], [], []
    for sample in samples:
        try:
            image = read_image(sample.image)
            mask = read_mask(sample, image.shape[:2])
        except InputError:
            continue  # `evaluate` has named the row
        score_map = network(image).score_map
        after = shifted(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))), ratio, quality)
        counts = count(score_map, mask)
        pooled += counts
        target += count(network(np.ascontiguousarray(after.numpy().transpose(1, 2, 0))).score_map, mask)
        if (mask == 1).any():
            dice.append(float(f1(counts)))
            distances.append(hausdorff95(score_map > 0.5, mask == 1))
        labels.append(int(sample.label == 1))
        if isinstance(network.model, MSCCNet):
            margins.append(_image_margin(network.model, image))
    figures = {
        "pixel_accuracy": _share(pooled.tp + pooled.tn, pooled.tp + pooled.tn + pooled.fp + pooled.fn),
        "macro_f1": float(f1(pooled) + f1(pooled.authentic())) / 2,
        "miou": _mean_iou(pooled),
        "mcc": matthews(pooled),
        "target_miou": _mean_iou(target),
        "dice": float(np.mean(dice)) if dice else None,
        "hd95": float(np.mean(distances)) if distances else None,
    }
    if margins:
        marked, truth = np.array(margins) > 0, np.array(labels)
        figures["image_accuracy"] = float((marked == truth).mean())
        figures["image_auc"] = roc_auc(truth, np.array(margins)) if 0 < truth.sum() < truth.size else None
    return figures


def matthews(counts: Counts) -> float:
    """MCC = (TP·TN − FP·FN) / √((TP+FP)(TP+FN)(TN+FP)(TN+FN)); 0 when a factor is 0, as in scikit-learn."""
    tp, fp, fn, tn = (float(x) for x in (counts.tp, counts.fp, counts.fn, counts.tn))
    whole = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / whole**0.5 if whole else 0.0


def hausdorff95(marked: np.ndarray, truth: np.ndarray) -> float:
    """The 95th percentile of the distances between two borders, both ways, in pixels; 50 when one region is empty.

    marked, truth: (H,W) bool. A border is what a 3×3 cross erodes from a region. Source: MedPy's hd95, which PCLMix's
    evaluation calls; 50 for an empty prediction is that evaluation's.
    """
    if not marked.any() or not truth.any():
        return NOTHING_MARKED
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    borders = []
    for region in (marked.astype(np.uint8), truth.astype(np.uint8)):
        inner = cv2.erode(region, cross, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        borders.append((region > inner).astype(np.uint8))
    first, second = borders
    to_first, to_second = (cv2.distanceTransform(1 - border, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for border in borders)
    return float(np.percentile(np.concatenate([to_second[first == 1], to_first[second == 1]]), 95))


def arm_of(run: Mapping[str, Any]) -> str | None:
    """The arm of a results.json of recipe `neighbours`; None where other values of the recipe were changed, too."""
    return None if set(run["parameters"]) - {"arm"} else run["recipe"]["choice"]["arm"]


def figures_of(run: Mapping[str, Any]) -> dict[str, float | None]:
    """A results.json with `neighbour_scores` as one level of names; scores in 0–1, minutes of the whole run, hd95 in
    pixels; None where a figure is undefined.

    f1, iou, auc: tampered images, each weighing alike. f1_best_threshold: with the best threshold of each image.
    null_f1, null_auc: of null splices. false_alarms, image_auc: of whole images. The rest are `own_metrics`.
    """
    sets = [scores for scores in run["sets"].values() if scores["auc"] is not None]
    pixels = sum(scores["n"] for scores in sets)
    return {
        "f1": run["average"]["f1"],
        "f1_best_threshold": run["protocols"]["best_threshold"]["f1"],
        "iou": run["average"]["iou"],
        "auc": sum(scores["n"] * scores["auc"] for scores in sets) / pixels if pixels else None,
        "null_f1": run["null_splices"]["f1"],
        "null_auc": run["null_splices"]["auc"],
        "false_alarms": run["image_level"]["false_alarm_rate"],
        "image_auc": run["image_level"]["auc"],
        "minutes": run["seconds"] / 60,
        **{name if name != "image_auc" else "head_image_auc": value for name, value in run["own_metrics"].items()},
    }


def format_scores(scores: dict[str, dict]) -> str:
    """What `neighbour_scores` returns as plain text."""
    rows = [["protocol", "F1", "IoU"]]
    rows += [[name, number(s["f1"]), number(s["iou"])] for name, s in scores["protocols"].items()]
    null = scores["null_splices"]
    own = [f"  {name.replace('_', ' ')} {number(value)}" for name, value in scores["own_metrics"].items()]
    return "\n".join(
        [
            *aligned(rows),
            f"null splices ({null['n']}): F1 {number(null['f1'])}, pixel AUC {number(null['auc'])}",
            "metrics of the three methods' papers:",
            *own,
        ]
    )


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _mean_iou(counts: Counts) -> float:
    return float(iou(counts) + iou(counts.authentic())) / 2


@torch.inference_mode()
def _image_margin(network: MSCCNet, image: np.ndarray) -> float:
    """The image head's logit of "tampered" for a whole photograph at its own size, mirrored up to 32 pixels."""
    height, width = (max(0, 32 - side) for side in image.shape[:2])
    image = np.pad(image, ((0, height), (0, width), (0, 0)), mode="symmetric")
    images = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].to(device_of(network)).float() / 255
    return float(tampered_logit(network.eval().outputs(images)["image"]))
