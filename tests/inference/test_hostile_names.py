"""File names that systems allow and programs forget: none of them loses the photographs after it."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from mpc_lite.cli import main

pytestmark = pytest.mark.trust
NAMES = {
    "latin-1": os.fsdecode(b"caf\xe9.png"),
    "250 letters": "a" * 250 + ".png",
    "250 bytes of umlauts": "ä" * 120 + ".png",
    "a turned name": "a\u202egnp.png",
    "an escape": "\x1b[2Ja.png",
    "a line within": "a\nall is well.png",
    "markup": "[red]a[@click].png",
    "an option": "-rf.png",
    "a formula": "=1+1.png",
}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_every_photograph_is_scored_and_named(tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in NAMES.values():
        try:
            with open(photos / name, "wb") as file:
                Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(file, "PNG")
        except OSError:
            pytest.skip("this file system has no such names")
    given = [str(photos / name) for name in NAMES.values()]
    given.insert(3, str(photos / ("b" * 5000 + ".png")))
    given.insert(6, str(photos / "missing\x1b.png"))
    assert main(["predict", *given, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(NAMES) and len(said.err.splitlines()) == 2
    assert all(line.isprintable() for line in (said.out + said.err).splitlines())
    data = (tmp_path / "out" / "predictions.jsonl").read_bytes().decode("utf-8")
    lines = [json.loads(line) for line in data.splitlines()]
    assert [line["image"] for line in lines] == given
    assert [bool(line["error"]) for line in lines] == ["bbb" in name or "missing" in name for name in given]
    for line in lines:
        assert all((tmp_path / "out" / file).is_file() for file in line["files"].values())
    files = [file for line in lines for file in line["files"].values()]
    assert len(set(files)) == len(files) == 3 * len(NAMES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with names")
def test_a_folder_with_a_pipe_in_it_and_weights_that_are_a_device(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    os.mkfifo(tmp_path / "photos" / "a.jpg")
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(tmp_path / "photos" / "b.png")
    call = ["predict", str(tmp_path / "photos"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(call) == 1
    said = capsys.readouterr()
    assert (
        "a.jpg: cannot be read as an image (a pipe or a device" in said.err
        and "b.png: " in said.out
        and "; score " in said.out
    )
    assert main([*call, "--weights", os.devnull]) == 2
    assert "null is a pipe or a device; expected a .safetensors file" in capsys.readouterr().err
