"""Some hundred damaged and hostile files of each kind: no crash, no hang, no memory without end, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import check
from mpc_lite.evaluation.evaluate import evaluate
from tests.trust import corpus

pytestmark = pytest.mark.trust
LEAST = {"images": 200, "lists": 100, "weights": 50, "archives": 30}
SECONDS, MEMORY = 10, 1024  # of the processor, for one file; MiB beyond the imports, for all


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAST)
def test_every_file_is_read_or_refused_in_words(kind, tmp_path, record_property):
    (tmp_path / "files").mkdir()
    good(tmp_path / "files")
    call = [sys.executable, "-m", "tests.trust.reader", kind, str(tmp_path / "files")]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    # A hang ends here: what was printed until then names the file.
    with open(tmp_path / "said", "w+") as said:
        try:
            done = subprocess.run(call, cwd=root, env=environment, stdout=said, stderr=subprocess.PIPE, timeout=240)
            code, errors = done.returncode, done.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            code, errors = "none: it hung", ""
        said.seek(0)
        lines = [json.loads(line) for line in said]
    names, ends = [x["name"] for x in lines if "name" in x], [x for x in lines if "end" in x]
    assert code == 0 and len(names) == len(ends), f"{kind}: exit {code} at '{names[-1:]}'\n{errors[-2000:]}"
    odd = {name: end["end"] for name, end in zip(names, ends, strict=True) if end["end"] not in ("read", "refused")}
    assert not odd, "\n\n".join(f"{name}: {text[-1500:]}" for name, text in list(odd.items())[:5])
    slowest = max(zip([end["seconds"] for end in ends], names, strict=True))
    refused = sum(end["end"] == "refused" for end in ends)
    peak = ends[-1]["memory"]
    record_property(
        "trust",
        f"{kind}: {len(names)} files, {refused} refused, {len(names) - refused} read, 0 crashes, 0 tracebacks, "
        f"slowest {slowest[0]:.1f} s, {peak} MiB beyond the imports",
    )
    assert len(names) >= LEAST[kind] and 0 < refused < len(names)
    assert slowest[0] <= SECONDS, slowest
    longest = max(
        zip([end["waited"] for end in ends], names, strict=True)
    )  # by the clock: one that waits computes nothing
    assert longest[0] <= SECONDS, longest
    assert peak <= MEMORY


def good(folder: Path) -> None:
    """A photograph and its mask that are whole."""
    mask = np.zeros((80, 96), np.uint8)
    mask[20:60, 30:70] = 255
    Image.fromarray(corpus.picture()).save(folder / "good.png")
    Image.fromarray(mask).save(folder / "good-mask.png")


@pytest.mark.slow
def test_whole_files_among_damaged_ones_score_as_without_them(tmp_path, record_property):
    good(tmp_path)
    rows = [f"good.png,good-mask.png,1,whole {n}" for n in range(2)]
    (tmp_path / "whole.csv").write_text("\n".join(["image,mask,label,source", *rows]))
    damaged = []
    for number, (name, data) in enumerate(corpus.images()):
        (tmp_path / f"{number}{Path(name).suffix}").write_bytes(data)
        damaged.append(f"{number}{Path(name).suffix},good-mask.png,1,damaged")
    (tmp_path / "all.csv").write_text("\n".join(["image,mask,label,source", rows[0], *damaged, rows[1]]))

    def model(image):
        return np.float32(image[..., 0]) / 255

    alone, among = (evaluate(model, tmp_path / f"{name}.csv") for name in ("whole", "all"))
    assert {name: s for name, s in among["sets"].items() if name != "damaged"} == alone["sets"]
    lost = len(among["errors"])
    assert among["sets"]["damaged"]["n"] + lost == len(damaged) and lost
    problems = check(tmp_path / "all.csv")
    assert [p for p in problems if "is in row 2 already" in p] and len(problems) == lost + 1
    record_property(
        "trust", f"evaluate and check: {lost} of {len(damaged)} damaged rows listed, 2 of 2 whole ones scored"
    )
