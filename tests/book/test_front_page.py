"""The front page: its pictures are what the script draws, its numbers what the results file holds."""

import base64
import io
import json
import re
import runpy

import numpy as np
import pytest
from PIL import Image

from mpc_lite.inference.localizer import Localizer
from tests.book.site_under_test import ROOT

SCRIPT = runpy.run_path(str(ROOT / "book/results/front-page.py"))
RESULT = json.loads((ROOT / "book/results/front-page.json").read_text())
PAGE = (ROOT / "book/index.md").read_text(encoding="utf-8")
DATA = re.compile(r'href="data:image/\w+;base64,([^"]+)"')


def apart(a: bytes, b: bytes) -> float:
    """Mean difference of two picture files, in levels."""
    first, second = (np.asarray(Image.open(io.BytesIO(x)).convert("RGB")).astype(float) for x in (a, b))
    assert first.shape == second.shape
    return float(np.abs(first - second).mean())


@pytest.fixture(scope="module")
def drawn():
    return SCRIPT["draw"](RESULT["picks"], Localizer.from_pretrained(RESULT["weights"], device="cpu"))


def test_committed_pictures_are_what_the_script_draws(drawn):
    """Pixels may differ by a hair: another torch, another JPEG library."""
    assert {path.name for path in SCRIPT["PICTURES"].iterdir()} == set(drawn)
    for name, content in drawn.items():
        kept = (SCRIPT["PICTURES"] / name).read_bytes()
        if name.endswith(".svg"):
            new, old = content.decode(), kept.decode()
            assert DATA.sub("", new) == DATA.sub("", old)
            pairs = zip(DATA.findall(new), DATA.findall(old), strict=True)
            assert max((apart(base64.b64decode(a), base64.b64decode(b)) for a, b in pairs), default=0) < 1
        else:
            assert apart(content, kept) < 1, name


def test_another_picture_would_be_noticed(drawn):
    assert apart(drawn["right.jpg"], drawn["wrong.jpg"]) > 5


def test_the_page_shows_every_picture_and_says_in_words_what_it_shows():
    shown = re.findall(r"^```\{image\} (\S+)\n:alt: (.+)\n", PAGE, re.M)
    assert {f"assets/front/{name}" for name in ("overview.svg", "right.jpg", "wrong.jpg", "alarm.jpg")} == {
        path for path, _ in shown
    }
    assert dict(shown)["assets/front/overview.svg"] == SCRIPT["OVERVIEW"]
    assert all(len(alt.split()) >= 8 for _, alt in shown)


def test_the_pages_numbers_are_those_of_the_results_file():
    said = " ".join(PAGE.split())
    numbers = {0: "None", 1: "One", 2: "Two", 3: "Three"}
    share = f"{RESULT['marked']['alarm']:.0%}".replace("%", " %")
    few = {n: word.lower() for n, word in numbers.items()} | {7: "seven"}
    for text in (
        f"of {SCRIPT['N']} generated forgeries and untouched photographs",
        f"A splice with F1 {RESULT['f1']['right']:.2f}. {RESULT['n_right']} of the {RESULT['n_tampered']} forgeries",
        f"Another splice, F1 {RESULT['f1']['wrong']:.2f}",
        f"{numbers[RESULT['n_wrong']]} of the {RESULT['n_tampered']} stay below {SCRIPT['WRONG']}",
        f"{share} of it is marked",
        f"its image score is {RESULT['image_score']['alarm']:.2f}",
        f"{few[RESULT['n_alarm']]} of the {few[RESULT['n_authentic']]} untouched photographs",
    ):
        assert text in said, text


def test_levels_are_the_encoders_and_stages_the_trainings():
    before = PAGE.split("## Three ways")[0]
    assert "four levels" in before
    assert set(re.findall(r"[Ss]tage \d|[Ss]tages?\b(?! \d)", before)) <= {"stage 1", "stage 2", "stages", "Stage 1"}
    assert "Training has two stages" in before
