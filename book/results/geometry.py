"""How pixels lie in the embedding of each shipped network: write geometry.json beside this file.

    MPC_LITE_DATA=… python book/results/geometry.py [FORGERIES RESEARCH NULL [SET]]

Four weights (before stage 1, after it, after stage 2, second edition) on 60 generated test forgeries, on 30 null
splices and, where MPC_LITE_DATA is set, on 30 real splices of the set `lalonde`, or on as many as the arguments say.
For one image of each kind also the places that UMAP gives its pixels before and after stage 1. With SET only that set
and the places are measured, and added to the file. Of each image EACH
pixels of each class are drawn among those that are alive in the maps compared. Every measure is also taken with the
mask of the next image, laid over this one: same vectors, same kind of region, wrong place. What is above that is about
the forgery.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from umap import UMAP

from mpc_lite.contrast.views import finest_labels, label_pyramid
from mpc_lite.data.manifest import read_manifest, read_mask
from mpc_lite.evaluation import geometry
from mpc_lite.evaluation.geometry import Pixels, balanced, dead, image_pixels, neighbour_purity
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import forge
from mpc_lite.images import read_image
from mpc_lite.network.hrformer import STRIDES, DropPath
from mpc_lite.network.model import MPC, load_weights
from mpc_lite.provenance import record

RESULT = Path(__file__).with_suffix(".json")
WEIGHTS = ("lite-initial", "lite-stage1", "lite", "lite2")
SEED, SIZE, EACH = 0, 256, 200
IMAGES = (60, 30, 30)  # generated forgeries, research images, null splices
DISTANCES = (4, 8, 16, 32, 48, 64, 96)  # pixels
APART = 32
LEAST = 40  # pixels of a class that an image must have
VIEWS = ("within_image", "cross_scale", "cross_modality")
MAPPED = {"splice": ("splice", False), "copy-move": ("copy_move", False), "removal": ("removal", False)}
MAPPED |= {"null splice": ("splice", True)}  # kind as the figure calls it -> kind, null of `forge`


def images(forgeries: int, research: int, null: int) -> dict[str, list[tuple[np.ndarray, np.ndarray, str]]]:
    """Set -> (image (H,W,3) uint8, mask (H,W), kind): the first with EACH pixels of both classes on the finest map."""
    scenes = Scenes("test", ["packaged", "dead_leaves"])
    stream = (forge("test", SEED, i, scenes, SIZE, authentic_share=0.0) for i in count())
    sets = {"generated": list(islice(((f.image, f.mask, f.kind) for f in stream if enough(f.mask)), forgeries))}
    if "MPC_LITE_DATA" in os.environ:
        rows = [s for s in read_manifest(Path(os.environ["MPC_LITE_DATA"]) / "forged.csv", "test")]
        pairs = ((read_image(s.image), read_mask(s), "splice") for s in rows if s.source == "lalonde")
        sets["lalonde"] = list(islice((p for p in pairs if enough(p[1])), research))
    stream = (forge("test", SEED, i, scenes, SIZE, kind="splice", null=True) for i in count())
    sets["null splices"] = list(islice(((f.image, f.mask, "null splice") for f in stream if enough(f.mask)), null))
    return sets


def enough(mask: np.ndarray, each: int = EACH) -> bool:
    labels = finest_labels(torch.from_numpy(mask)[None])
    return min(int((labels == c).sum()) for c in (0, 1)) >= each


def drawing(model: MPC, noise: bool) -> MPC:
    """Evaluation mode; with `noise` stochastic depth drops as in training."""
    model.eval()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.training = noise
    return model


def labelled(maps, mask: np.ndarray):
    return label_pyramid(torch.from_numpy(mask)[None], maps)


class Passes(NamedTuple):
    """Maps of one image: in evaluation mode, and of two passes in which stochastic depth drops."""

    still: list[torch.Tensor]
    noisy: list[list[torch.Tensor]]


def passes(model: MPC, image: np.ndarray) -> Passes:
    pixels = to_tensor(image)
    noisy = [drawing(model, True).encode(pixels) for _ in "ab"]
    return Passes(drawing(model, False).encode(pixels), noisy)


def views_of(maps: Passes) -> dict[str, tuple]:
    """View -> (maps and strides of the first pool, of the second)."""
    finest = (maps.still[:1], STRIDES[:1])
    first, second = ((noisy[:1], STRIDES[:1]) for noisy in maps.noisy)
    return {
        "within_image": (finest, finest),
        "cross_scale": (finest, (maps.still[1:], STRIDES[1:])),
        "cross_modality": (first, second),
    }


def drawn(maps, strides, mask: np.ndarray, rng: np.random.Generator) -> Pixels | None:
    """Up to EACH living pixels of each class; None when a class has fewer than LEAST."""
    pixels = image_pixels(maps, labelled(maps, mask), strides)
    pixels = pixels.take(torch.linalg.vector_norm(pixels.vectors, dim=1) > 0)
    fewest = min(int((pixels.labels == c).sum()) for c in (0, 1))
    return pixels.take(balanced(pixels.labels.numpy(), min(EACH, fewest), rng)) if fewest >= LEAST else None


def measures(view: str, pools, mask: np.ndarray, rng: np.random.Generator) -> dict | None:
    """All measures of one image, or None where a pool has too few pixels of a class."""
    (first, second) = (drawn(*pool, mask, rng) for pool in pools)
    if first is None or second is None:
        return None
    others = None if view == "within_image" else second
    purity = [neighbour_purity(first, others, d) for d in DISTANCES]
    told = {"purity_at": [p.value for p in purity], "chance_at": [p.chance for p in purity]}
    told["purity"] = told["purity_at"][DISTANCES.index(APART)]
    told["separability"] = geometry.separability(first, others)
    for name, label in (("authentic", 0), ("tampered", 1)):
        told[f"compactness_{name}"] = geometry.compactness(
            first.of_class(label), None if others is None else others.of_class(label)
        )
    told["fisher_ratio"] = geometry.fisher_ratio(second)
    told["effective_rank"] = geometry.effective_rank(second.vectors - second.vectors.mean(0))
    return told


def fitted(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A mask of another image, at this one's size: nearest neighbour."""
    rows, columns = (np.arange(n) * side // n for n, side in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def place_vectors(places: torch.Tensor) -> torch.Tensor:
    """An embedding (N,4) that knows where a pixel lies and nothing else: its row and column as angles."""
    angles = places / (2 * SIZE) * torch.pi
    return torch.cat([angles.cos(), angles.sin()], 1) / 2**0.5


def place_alone(mask: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Purity at each distance of an embedding that only knows the place."""
    blank = [torch.ones(1, 1, *(-(-side // STRIDES[0]) for side in mask.shape))]
    pixels = drawn(blank, STRIDES[:1], mask, rng)
    pixels = pixels._replace(vectors=place_vectors(pixels.places))
    return [neighbour_purity(pixels, None, d).value for d in DISTANCES]


def summary(rows: list[dict | None], wrong: list[dict | None]) -> dict:
    """Mean, spread over images and standard error of each measure, and the mean with the wrong mask."""
    each = {"purity": "purity", "fisher": "fisher_ratio"}
    table = {
        f"{name}{suffix}_each": [r and round(r[key], 3) for r in x]  # None where an image had too few living pixels
        for name, key in each.items()
        for suffix, x in (("", rows), ("_wrong", wrong))
    }
    rows, wrong = ([r for r in x if r] for x in (rows, wrong))
    table["n"] = len(rows)
    for key in rows[0] if rows and wrong else ():
        values, null = (np.array([r[key] for r in x], float) for x in (rows, wrong))
        spread = np.nanstd(values, axis=0, ddof=1)
        facts = {"mean": np.nanmean(values, axis=0), "sd": spread, "se": spread / np.sqrt(len(rows))}
        facts["wrong_mask"] = np.nanmean(null, axis=0)
        table[key] = {name: np.round(value, 4).tolist() for name, value in facts.items()}
    return table


def dead_shares(maps: Passes, mask: np.ndarray) -> dict:
    """Of one image: shares of dead pixels, of each map, of the finest by class and with noise; channels that are 0."""
    here, label = dead(maps.still[0]), labelled(maps.still, mask)[0]
    return {
        "maps": [dead(m).double().mean().item() for m in maps.still],
        "finest_by_class": [here[label == c].double().mean().item() for c in (0, 1)],
        "finest_with_noise": np.mean([dead(noisy[0]).double().mean().item() for noisy in maps.noisy]),
        "silent": np.stack([(m.amax((0, 2, 3)) == 0).numpy() for m in maps.still]),
    }


def dead_table(rows: list[dict]) -> dict:
    """Means over images, spread and worst image of the maps, and the share of channels silent in every image."""
    maps = np.array([r["maps"] for r in rows])
    table = {"maps": maps.mean(0), "maps_sd": maps.std(0, ddof=1), "most_in_one_image": maps.max(0)}
    table |= {k: np.mean([r[k] for r in rows], axis=0) for k in ("finest_by_class", "finest_with_noise")}
    table["silent_channels"] = np.all([r["silent"] for r in rows], axis=0).mean(1)
    return {name: np.round(value, 5).tolist() for name, value in table.items()}


def dead_in_training(weights: str, pairs) -> float:
    """Share of dead pixels of the finest map in training mode: noise, and the statistics of batches of 12 images."""
    torch.manual_seed(SEED)
    model = load_weights(weights).train()
    batches = torch.cat([to_tensor(image) for image, *_ in pairs[:24]]).split(12)
    return round(float(np.mean([dead(model.encode(batch)[0]).double().mean().item() for batch in batches])), 5)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255


def purity_of(pixels: Pixels) -> float:
    return round(neighbour_purity(pixels, None, APART).value, 3)


def umap_places(pixels: Pixels) -> list[list[float]]:
    at = UMAP(metric="cosine", random_state=SEED, n_jobs=1).fit_transform(pixels.vectors.numpy())
    return [[round(float(v), 2) for v in xy] for xy in at]


def umap_maps(per_class: int = 300) -> list[dict]:
    """Of the first forgery of each kind with enough pixels of both classes: where UMAP puts a sample of them, dead ones
    too, before and after stage 1, the purity of the sample, and, for the first kind, both for an embedding of the place
    alone."""
    scenes, maps = Scenes("test", ["packaged", "dead_leaves"]), []
    models = {"before": load_weights("lite-initial").eval(), "after": load_weights("lite-stage1").eval()}
    for name, (kind, null) in MAPPED.items():
        made = ((i, forge("test", SEED, i, scenes, SIZE, kind=kind, null=null)) for i in count())
        index, forgery = next((i, f) for i, f in made if enough(f.mask, per_class))
        cells = {w: model.encode(to_tensor(forgery.image))[:1] for w, model in models.items()}
        cells = {w: image_pixels(m, labelled(m, forgery.mask), STRIDES[:1]) for w, m in cells.items()}
        labels = cells["before"].labels.numpy()
        at = balanced(labels, per_class, np.random.default_rng([SEED, index]))
        pixels = {w: each.take(at) for w, each in cells.items()}
        if name == "splice":
            pixels["place"] = pixels["before"]._replace(vectors=place_vectors(pixels["before"].places))
        maps.append({"kind": name, "index": index, "labels": labels[at].tolist()})
        maps[-1]["purity"] = {w: purity_of(each) for w, each in pixels.items()}
        maps[-1] |= {w: umap_places(each) for w, each in pixels.items()}
    return maps


def tables(pairs, model: MPC) -> tuple[dict, dict]:
    """(view -> summary, table of dead pixels) of one network on one set."""
    right, wrong = ({view: [] for view in VIEWS} for _ in "rw")
    died = []
    torch.manual_seed(SEED)
    for i, (image, mask, _) in enumerate(pairs):
        maps, other = passes(model, image), fitted(pairs[(i + 1) % len(pairs)][1], mask.shape)
        died.append(dead_shares(maps, mask))
        for view, pools in views_of(maps).items():
            for rows, truth in ((right, mask), (wrong, other)):
                told = measures(view, pools, truth, np.random.default_rng([SEED, i]))
                rows[view].append(told)
    return {view: summary(right[view], wrong[view]) for view in VIEWS}, dead_table(died)


def measure(result: dict, sets: dict[str, list]) -> None:
    """Add the tables of every network on `sets` to `result`."""
    for weights in WEIGHTS:
        model = load_weights(weights)
        both = [result[key].setdefault(weights, {}) for key in ("weights", "dead")]
        for name, pairs in sets.items():
            both[0][name], both[1][name] = tables(pairs, model)
        print(weights, json.dumps(both[1]), flush=True)
    result["images"] |= {name: len(pairs) for name, pairs in sets.items()}
    result["kinds"] |= {name: [kind for *_, kind in pairs] for name, pairs in sets.items()}


@torch.no_grad()
def main(numbers: tuple[int, ...], only: str | None = None) -> None:
    torch.set_num_threads(1)
    started, sets = time.process_time(), images(*numbers)
    command = f"python book/results/geometry.py {' '.join(map(str, numbers))}"
    if only:
        result = json.loads(RESULT.read_text())
        measure(result, {only: sets[only]})
        result["added"] = {only: record(command=f"{command} '{only}'")}
    else:
        facts = {"command": command, "seed": SEED, "device": "cpu", "pixels_of_a_class": EACH}
        result = {"schema": 1, **record(**facts), "distances": DISTANCES}
        result |= {"images": {}, "kinds": {}, "weights": {}, "dead": {}}
        measure(result, sets)
        rng = np.random.default_rng(SEED)
        result["place_alone"] = {
            name: np.nanmean([place_alone(mask, rng) for _, mask, _ in pairs], axis=0).round(4).tolist()
            for name, pairs in sets.items()
        }
        for weights in WEIGHTS:  # of one size, so that they make batches
            in_training = dead_in_training(weights, sets["generated"])
            result["dead"][weights]["generated"]["finest_in_training"] = in_training
        result["minutes"] = round((time.process_time() - started) / 60, 1)  # of one processor
    result["maps"] = umap_maps()
    result.pop("island", None)
    write_atomic(RESULT, (json.dumps(result) + "\n").encode())


if __name__ == "__main__":
    main(tuple(map(int, sys.argv[1:4])) or IMAGES, *sys.argv[4:5])
