"""Every page means one shipped model, and what is typed about it stands in a results file."""

import hashlib
import re
from functools import cache

import jupytext
import pytest

from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.weights import pretrained_file
from mpc_lite.provenance import book_result
from tests.book.site_under_test import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "book").rglob("*.md"))]


@cache
def kinds():
    return book_result("lite2")["sets"]


@cache
def second():
    return book_result("second-edition")["weights"]["second"]


def rung(level: dict) -> str:
    """Alarms at 0.5 as a count."""
    return f"{round(level['false_alarm_rate'] * level['n_authentic'])} of {level['n_authentic']}"


def sentences() -> list[tuple[str, str]]:
    """(page, words that must stand there)."""
    scenes, research = kinds()["generated forgeries, all scenes"], kinds()["research images"]
    alarms, generated = rung(research["image_level"]), rung(scenes["image_level"])
    whole, source = second()["images"]["maximum"], "(`book/results/lite2.json`, one seed)"
    found = {name: f"{100 * whole['sets'][name]['detections']:.0f} %" for name in ("casia2", "lalonde")}
    mean, (null,) = research["average"], kinds()["generated null splices, all scenes"]["sets"].values()
    low, high = mean["baselines"]["all_tampered"]["lead_ci95"]
    zero = "contains 0" if low <= 0 <= high else "does not contain 0"
    splice, marked = scenes["sets"]["photos-clothing-splice"], mean["baselines"]["all_tampered"]["f1"]
    trips = book_result("speed-real-forgeries")["ratio"]
    cost = f"{trips['mean']:.1f} saves and openings of a JPEG of its size ({trips['low']:.1f} to {trips['high']:.1f} in"
    works = book_result("speed-versus")["work"]
    slow = works["localizer"]["measures"]["seconds a megapixel"]["this"]
    quick = [works["onnx"]["measures"][f"seconds a megapixel at {size}"]["this"] for size in (2, 6, 12)]
    ledger, trouble = "book/deviations.md", "book/troubleshooting.md"
    return [
        (
            "README.md",
            f"At 0.5 it raises an alarm on {alarms} authentic `casia2` photographs, so a mark alone says little.",
        ),
        ("README.md", f"`predict` compares a photograph with {whole['photographs']} authentic ones instead"),
        ("README.md", f"finds {found['casia2']} of `casia2`'s forgeries and {found['lalonde']} of `lalonde`'s"),
        (
            "book/own-pictures.md",
            f"takes {slow:.1f} s on two slow cores, with `--backend onnx` {min(quick):.2f} to {max(quick):.2f} (`book",
        ),
        (trouble, f"at 0.5 the shipped model raised an alarm on {alarms} authentic research photographs"),
        (trouble, f"and on {generated} authentic generated ones (all scenes)."),
        (trouble, f"Its {whole['photographs']} authentic photographs are not yours"),
        ("book/part3-evidence/08-training.md", f"A real-camera forgery of 128 × 128 costs {cost}"),
        ("book/index.md", f"how many of {whole['photographs']} authentic photographs score as high"),
        (
            ledger,
            f"trained on generated forgeries, `lite2` reaches F1 {mean['f1']:.2f} on {mean['n']} research images,",
        ),
        (ledger, f"marking everything {marked:.2f}; the interval of the lead {zero} {source}."),
        (ledger, f"at 0.5 `lite2` raises an alarm on {generated} authentic generated images of all scenes {source};"),
        (ledger, f"F1 is {splice['f1']:.2f} on splices from two cameras, {null['f1']:.2f} on null splices,"),
        (ledger, f"which have no trace {source}."),
    ]


@pytest.mark.parametrize(("page", "words"), sentences())
def test_what_is_typed_is_what_was_measured(page, words):
    assert words in (ROOT / page).read_text(encoding="utf-8")


def test_what_was_measured_is_what_ships_and_both_files_agree():
    digest = hashlib.sha256(pretrained_file("lite2").read_bytes()).hexdigest()
    assert book_result("lite2")["sha256"] == {"lite2": digest} and second()["sha256"] == digest
    again, research = kinds()["research images"], second()["pixels"]["research images"]
    assert again["manifest"] == research["manifest"]
    for name, scores in research["sets"].items():
        assert again["sets"][name]["f1"] == pytest.approx(scores["f1"], abs=1e-6)
    calibration = Localizer.from_pretrained(device="cpu").calibration
    assert len(calibration.scores) == second()["images"]["maximum"]["photographs"]


def test_no_page_calls_the_first_edition_the_shipped_model():
    wrong = re.compile(r"shipped (?:model, )?`lite`|(?:the|our) `lite` (?:model|network)\b", re.I)
    found = {page.name: wrong.findall(page.read_text(encoding="utf-8")) for page in PAGES}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_table_of_all_scores_names_every_set(capsys):
    cells = jupytext.read(ROOT / "book/status.md").cells
    names = {}
    for cell in cells:
        if cell.cell_type == "code" and ("book_result" in cell.source or "at_half" in cell.source):
            exec(cell.source, names)
    text = capsys.readouterr().out
    for name, scores in second()["pixels"]["research images"]["sets"].items():
        (line,) = [x for x in text.splitlines() if re.match(rf"{name} +own", x)]
        shown = [f"{scores['n']}", f"{scores['f1']:.2f}", f"{scores['f1_best_threshold']:.2f}", f"{scores['auc']:.2f}"]
        assert set(shown) <= set(line.split())
    for name in second()["images"]["maximum"]["sets"]:
        assert re.search(rf"^{re.escape(name)} .* at 0\.\d+$", text, re.M)
    assert max(map(len, text.splitlines())) <= 88


def test_of_authentic_photographs_few_are_suspected():
    """Photographs of phones and cameras that neither training nor calibration saw: 90 of 100 get "cannot tell"."""
    said = second()["verdicts"]
    assert {"test: clothing", "test: open"} == set(said)
    for name, counts in said.items():
        assert sum(counts.values()) == second()["images"]["maximum"]["sets"][name]["n"] >= 20
        assert counts["cannot tell"] >= 0.9 * sum(counts.values()), name


def test_a_real_camera_forgery_costs_at_most_eight_round_trips_in_half_a_gigabyte():
    cost = book_result("speed-real-forgeries")
    assert cost["ratio"]["mean"] <= 8 and cost["cache_bytes"] <= 512 * 2**20
    assert (cost["size"], cost["threads"]) == (128, 1)
