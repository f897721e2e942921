"""The pictures of the book's front page, its logo, and how usual each of its three examples is.

    python book/results/front-page.py book/results/front-page.json

The method's overview and three examples of the shipped model go to book/assets/front. The examples are picked by rule,
not by eye: of the first 36 test forgeries from packaged photographs, 256 pixels wide, the first splice with an F1 of at
least 0.8 is `right`, the first forgery with one below 0.1 is `wrong`, and the first authentic photograph with an image
score above 0.5 is `alarm`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mpc_lite.evaluation.evaluate import ALARM
from mpc_lite.evaluation.protocols import get_protocol
from mpc_lite.figures.overview import example, logo, overview
from mpc_lite.files import write_atomic
from mpc_lite.forgeries.scenes import Scenes
from mpc_lite.forgeries.synth import Forgery, forge
from mpc_lite.images import encode_jpeg
from mpc_lite.inference.localizer import Hit, Localizer
from mpc_lite.inference.score_map import quantise
from mpc_lite.provenance import record

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "book/assets/front"
WEIGHTS, N, SIZE, RIGHT, WRONG = "lite2", 36, 256, 0.8, 0.1
OVERVIEW = (
    "The method in six steps: a photograph; four maps of it, from fine to coarse, in which each cell is a vector; in "
    "stage 1 three pools of cells that an anchor meets (the same map, coarser maps, a second pass), and a contrast "
    "that draws authentic vectors together and pushes tampered ones away; in stage 2 a head that reads the four maps; "
    "and a score map, yellow where the photograph was changed."
)


def looked_at(index: int, localizer: Localizer) -> tuple[Forgery, Hit]:
    """Test forgery number `index` and what the model says about it."""
    forgery = forge("test", 0, index, Scenes("test", ["packaged"]), SIZE)
    return forgery, localizer(forgery.image)


def draw(picks: dict[str, int], localizer: Localizer) -> dict[str, bytes]:
    """File name -> content of every picture of the front page, and the logos."""
    files = {f"logo-{theme}.svg": logo(theme == "dark").encode() for theme in ("light", "dark")}
    for name, index in picks.items():
        forgery, hit = looked_at(index, localizer)
        source = f"generated-{forgery.kind}"
        picture = example(forgery.image, forgery.mask, hit.score_map, source)
        files[f"{name}.jpg"] = encode_jpeg(picture, 88, 0)
        if name == "right":
            files["overview.svg"] = overview(forgery.image, forgery.mask, hit.score_map, source, OVERVIEW).encode()
    return files


def facts(localizer: Localizer) -> dict[str, Any]:
    """Of each of the first N test forgeries, which rule it fits; the numbers of the picks."""
    protocol, rows = get_protocol("mpc"), []
    for index in range(N):
        forgery, hit = looked_at(index, localizer)
        f1 = protocol.summarise([protocol.score_image(quantise(hit.score_map), forgery.mask)])["f1"]
        rows.append((forgery.kind, None if forgery.kind == "authentic" else f1, hit.score, float(hit.mask.mean())))
    tampered = [k for k, row in enumerate(rows) if row[1] is not None]
    right, wrong = [k for k in tampered if rows[k][1] >= RIGHT], [k for k in tampered if rows[k][1] < WRONG]
    alarm = [k for k, row in enumerate(rows) if row[1] is None and row[2] > ALARM]
    picks = {"right": next(k for k in right if rows[k][0] == "splice"), "wrong": wrong[0], "alarm": alarm[0]}
    return {
        "picks": picks,
        "f1": {name: rows[k][1] and round(rows[k][1], 4) for name, k in picks.items()},
        "marked": {name: round(rows[k][3], 4) for name, k in picks.items()},
        "image_score": {name: round(rows[k][2], 4) for name, k in picks.items()},
        "n_tampered": len(tampered),
        "n_authentic": N - len(tampered),
        "n_right": len(right),
        "n_wrong": len(wrong),
        "n_alarm": len(alarm),
        "mean_f1": round(float(np.mean([rows[k][1] for k in tampered])), 4),
    }


def main(target: Path) -> None:
    localizer = Localizer.from_pretrained(WEIGHTS, device="cpu")
    command = f"python book/results/front-page.py {target.as_posix()}"
    result = record(schema=1, command=command, weights=WEIGHTS, size=SIZE, **facts(localizer))
    PICTURES.mkdir(exist_ok=True)
    for name, content in draw(result["picks"], localizer).items():
        write_atomic(PICTURES / name, content)
    write_atomic(target, (json.dumps(result, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
