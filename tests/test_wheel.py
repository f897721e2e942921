"""The package as a stranger installs it: a wheel alone, in an empty environment outside the clone."""

import json
import subprocess
from pathlib import Path

import pytest
import sklearn.datasets

from tests.book.fake_colab import ROOT, colab, wheel

__all__ = ["colab", "wheel"]  # fixtures
pytestmark = pytest.mark.slow
PHOTO = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"
DATA = ("*.yaml", "*.js", "README.md", "pretrained/*")


@pytest.fixture
def installed(colab, wheel):
    """run(*words): `mpc-lite WORDS` of the wheel that stands alone in the environment `colab`, in an empty folder."""
    words = [colab.python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(colab.folder), "OMP_NUM_THREADS": "1"}
    subprocess.run(words, check=True, timeout=900, env=clean)
    assert colab.installed() == {"mpc_lite"}
    (colab.folder / "work").mkdir()

    def run(*words):
        command = [colab.python.with_name("mpc-lite"), *words]
        places = {"capture_output": True, "text": True, "cwd": colab.folder / "work", "env": clean}
        return subprocess.run(command, timeout=900, **places)

    return run


def test_the_wheel_holds_the_data_that_the_clone_holds(installed, colab):
    package = ROOT / "mpc_lite"
    expected = {p.relative_to(package) for pattern in DATA for p in package.rglob(pattern) if p.is_file()}
    assert {
        Path("pretrained/lite.safetensors"),
        Path("reproduce/paper.yaml"),
        Path("recipes/quickstart.yaml"),
    } <= expected
    there = colab.own / "mpc_lite"
    missing = [str(p) for p in expected if not (there / p).is_file()]
    assert missing == []
    assert all((there / p).read_bytes() == (package / p).read_bytes() for p in expected)
    modules = {p.relative_to(package) for p in package.rglob("*.py")}
    assert modules == {p.relative_to(there) for p in there.rglob("*.py")}


def test_it_marks_a_photograph_and_says_what_a_run_needs(installed, colab):
    done = installed("predict", str(PHOTO), "--out", "marked")
    assert done.returncode == 0, done.stderr
    out = colab.folder / "work" / "marked"
    (line,) = map(json.loads, (out / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    assert line["error"] is None and (line["width"], line["height"]) == (640, 427) and 0 <= line["score"] <= 1
    assert {p.name for p in out.glob("china.*.png")} == {f"china.{x}.png" for x in ("score", "mask", "overlay")}

    done = installed("reproduce", "quickstart", "--profile", "smoke")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line]
    assert "quickstart" in sentence and "--book" in sentence
