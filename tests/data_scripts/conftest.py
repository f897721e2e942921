"""Generated images in the real layouts of the public data sets, and the means to run the sets' scripts on them."""

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from mpc_lite.data.manifest import check, read_manifest

SCRIPTS = Path(__file__).parents[2] / "data_scripts"
# Last, because a script may be called as a package is (coverage.py); for the modules that the scripts share.
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))


def _load(name):
    known = f"data_scripts_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, SCRIPTS / f"{name}.py")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


def _save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def load():
    """load("casia1"): a set's script as a module."""
    return _load


@pytest.fixture
def photo():
    """photo(path, size=(width, height), seed=0): a file of smooth random pixels; gives its path."""

    def make(path, size=(36, 24), seed=0):
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        return _save(np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)), Path(path))

    return make


@pytest.fixture
def mask_file():
    """mask_file(path, size=(w, h), box=(x, y, x2, y2), inside=255, outside=0): a grey mask file; gives its path."""

    def make(path, size=(36, 24), box=(4, 6, 12, 14), inside=255, outside=0):
        values = np.full(size[::-1], outside, np.uint8)
        values[box[1] : box[3], box[0] : box[2]] = inside
        return _save(values, Path(path))

    return make


@pytest.fixture
def run(capsys, tmp_path):
    """run(module.SET, *arguments) with `--out tmp_path/sets`: what `make.main` gave and wrote.

    .code, .out, .err; .rows (Sample), .record (JSON), .bad (rows of the table), of the first set's name. Every manifest
    written must pass `mpc-lite check`, and no record may hold a path of the machine.
    """

    def go(dataset, *arguments):
        from make import main

        out = tmp_path / "sets"
        sets = dataset if isinstance(dataset, (list, tuple)) else [dataset]
        code = main(*sets, argv=[*map(str, arguments), "--out", str(out)])
        printed = capsys.readouterr()
        result = SimpleNamespace(code=code, out=printed.out, err=printed.err, folder=out, rows=[], record=None, bad=[])
        for manifest in out.glob("*.csv"):
            if not manifest.name.endswith(".bad.csv"):
                assert check(manifest) == []
        manifest, record = out / f"{sets[0].name}.csv", out / f"{sets[0].name}.json"
        bad = out / f"{sets[0].name}.bad.csv"
        if manifest.is_file():
            result.rows = read_manifest(manifest)
        if record.is_file():
            assert str(tmp_path) not in record.read_text(encoding="utf-8")
            result.record = json.loads(record.read_text(encoding="utf-8"))
        if bad.is_file():
            result.bad = list(csv.DictReader(bad.open(encoding="utf-8")))
        return result

    return go
