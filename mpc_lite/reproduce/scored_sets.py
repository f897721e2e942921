"""What a run is tested on, as one manifest in its folder; and the network that is tested, fed the recipe's way.

The test images are those of `evaluate.manifests`, or, where a recipe names none, forgeries of the test split made here.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mpc_lite.data.manifest import COLUMNS, Sample, check_split, manifest_rows, read_manifest, read_mask, write_manifest
from mpc_lite.errors import InputError
from mpc_lite.evaluation.degrade import degrade
from mpc_lite.files import expand, expand_all, relative, write_atomic
from mpc_lite.forgeries.mixed import Stream
from mpc_lite.images import read_image
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.devices import choose_device
from mpc_lite.network.model import MPC
from mpc_lite.reproduce.run import Run

NETWORKS = ("Facebook", "Wechat", "Weibo", "Whatsapp")  # of the paper's Table 6; a source reads `Columbia, Facebook`

# What stands in for a social network where none was used: it makes a picture smaller and saves it again.
STAND_IN = (("resize_ratio", 0.75), ("jpeg_quality", 75))


def scored_manifest(run: Run) -> Path:
    """The test images of a run as one manifest in its folder; made again, it has the same bytes.

    The rows of all `evaluate.manifests` go into OUT/test.csv, with paths relative to it and all columns kept; `listed`
    says where a row comes from. Without manifests, forgeries are written to OUT/test, as `mpc-lite synth` does.

    With `evaluate.split`, a manifest that names splits gives the rows of that split, one that names none all its rows.
    Rows with a mistake stay in: `evaluate` leaves them out and counts them among its errors.

    Raises:
        InputError: a variable in a path that is not set, a file that is no manifest, one that names splits but not
            this one, or two manifests that are one file.
    """
    recipe = run.recipe
    if not recipe.evaluate.manifests:
        data = recipe.data
        stream = Stream("test", recipe.seed, data, data.test_size)
        return stream.write(run.out / "test", data.test_images, data.test_size)
    files = expand_all(recipe.evaluate.manifests)
    if len({file.resolve() for file in files}) < len(files):
        raise InputError(f"evaluate.manifests names a file twice: {', '.join(recipe.evaluate.manifests)}; keep one")
    rows = [row for file in files for row in _rows(file, recipe.evaluate.split, run.out.resolve())]
    columns = [*COLUMNS, "listed"]
    columns += dict.fromkeys(name for row in rows for name in row if name not in columns)
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    run.out.mkdir(parents=True, exist_ok=True)
    write_atomic(run.out / "test.csv", text.getvalue().encode())
    return run.out / "test.csv"


def _rows(file: Path, split: str | None, folder: Path) -> list[dict[str, str]]:
    """The rows of a manifest as they will stand in one of `folder`."""
    pairs = list(manifest_rows(file))
    splits = {sample.split for sample, _ in pairs if sample is not None} - {None}
    if split is not None and splits:
        check_split(split, splits, file.name)
        pairs = [(sample, problem) for sample, problem in pairs if sample is None or sample.split == split]

    rows = []
    for sample, problem in pairs:
        if sample is None:  # a row that is none: what is wrong with it takes the place of its image
            rows.append({"image": "", "label": "0", "source": file.stem, "listed": problem})
            continue
        rows.append(
            {
                **sample.extra,
                "image": relative(sample.image, folder) if sample.image != file.parent else "",
                "mask": relative(sample.mask, folder),
                "label": str(sample.label),
                "source": sample.source,
                "split": sample.split or "",
                "listed": sample.where,
            }
        )
    return rows


def is_generated(run: Run) -> bool:
    """Whether the test images are forgeries made here, of which no number can be compared with the paper's."""
    return not run.recipe.evaluate.manifests


def scored_network(run: Run, weights: str | Path | None) -> Localizer:
    """The network of those weights, a shipped name or a file, on the run's device and fed as the recipe says.

    Raises InputError for weights that are not there or do not fit, and where a recipe that trains nothing names none.
    """
    if weights is None:
        raise InputError(
            f"{run.name} trains nothing and evaluate.weights is empty; name what to score, for example "
            "-p evaluate.weights=lite, or a file by 'mpc-lite convert' or of a finished run"
        )
    network = MPC.from_pretrained(str(expand(weights))).to(choose_device(run.torch_device))
    way = run.recipe.evaluate
    return Localizer(network, way.mode, way.size, way.overlap)


def stand_in(run: Run, manifest: Path) -> Path:
    """A manifest of the same photographs as they are and once made smaller and saved again (`STAND_IN`).

    A photograph that was changed so has ", recompressed" behind its source. This is no social network: those choose
    size, quality and filters themselves, photograph by photograph.
    """
    samples, out = read_manifest(manifest), run.out / "stand-in"
    out.mkdir(parents=True, exist_ok=True)
    changed = []
    for number, sample in enumerate(samples):
        photo = read_image(sample.image)
        smaller = degrade(photo, STAND_IN, run.recipe.seed)
        height, width = smaller.shape[:2]
        image, mask = out / f"{number:06d}.png", None
        Image.fromarray(smaller).save(image)
        if sample.label == 1:
            truth = read_mask(sample, photo.shape[:2]) * np.uint8(255)
            truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_LINEAR)
            mask = out / f"{number:06d}.mask.png"
            Image.fromarray(truth).save(mask)
        changed.append(Sample(image, mask, sample.label, f"{sample.source}, recompressed", sample.split))
    write_manifest(run.out / "stand-in.csv", [*samples, *changed])
    return run.out / "stand-in.csv"


def grid_manifest(run: Run, manifest: Path, grid: str) -> Path:
    """The rows of a manifest to which the paper applies that grid, as a manifest beside it.

    Chains follow a social network (MPC, Table 7), single steps the photograph as published (Fig. 2): where some sources
    name a network and others none, `chains` gets the former, any other grid the latter. Otherwise all rows.
    """
    with open(manifest, newline="", encoding="utf-8") as file:
        table = csv.DictReader(file)
        rows, columns = list(table), table.fieldnames
    sent = [row for row in rows if network_of(row["source"])]
    if not sent or len(sent) == len(rows):
        return manifest
    grid_rows = sent if grid == "chains" else [row for row in rows if not network_of(row["source"])]
    text = io.StringIO()
    written = csv.DictWriter(text, columns, lineterminator="\n")
    written.writeheader()
    written.writerows(grid_rows)
    target = run.out / f"test-{grid}.csv"
    write_atomic(target, text.getvalue().encode())
    return target


def network_of(source: str) -> str | None:
    """The social network that a source names behind its set: `Columbia, Facebook` -> `Facebook`, `Columbia` -> None."""
    behind = source.rpartition(", ")[2]
    return behind if behind in NETWORKS and behind != source else None
