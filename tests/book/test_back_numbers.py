"""Numbers that are typed in the ledger, on the front page and in the README are those of the chapter, or the results
file, that they name."""

import json
import re
from functools import cache

import pytest

from mpc_lite.provenance import book_result
from tests.book.site_under_test import ROOT, chapters

NUMBER = re.compile(r"(?<![\w./-])[−+-]?\d+\.\d+(?![\w/-]|\.\d)")
README = (ROOT / "README.md").read_text(encoding="utf-8")


@cache
def pages() -> dict[str, str]:
    """label of a chapter -> its page."""
    texts = {page: (ROOT / f"{page}.md").read_text(encoding="utf-8") for page in chapters()}
    return {re.search(r"^\((ch-\w+)\)=$", text, re.M)[1]: page for page, text in texts.items()}


def values(text: str) -> list[float]:
    return [
        float(x.replace("−", "-")) for x in re.findall(r"[−+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text.replace("\u202f", ""))
    ]


@cache
def told(label: str) -> list[float]:
    """Every number that a chapter says: in its text, in what its cells print, and those that its text quotes."""
    cells = json.loads((ROOT / f"{pages()[label]}.ipynb").read_text(encoding="utf-8"))["cells"]
    found = []
    for cell in cells:
        if cell["cell_type"] == "markdown":
            found += values("".join(cell["source"]))
        for output in cell.get("outputs", []):
            found += values("".join(output.get("text", "")))
            for kind, data in output.get("data", {}).items():
                if kind == "text/plain" or "record" in kind:
                    found += values(
                        data if isinstance(data, str) else json.dumps(data) if isinstance(data, dict) else "".join(data)
                    )
            found += values(json.dumps(output.get("metadata", {})))
            alt = re.search(r'(?:alt|aria-label)="([^"]*)"', "".join(output.get("data", {}).get("text/html", "")))
            found += values(alt[1]) if alt else []
    return found


def known(text: str) -> list[float] | None:
    """The numbers of the chapters and the results files that a passage names; None where it names none."""
    labels, files = re.findall(r"\{ref\}`(ch-\w+)`", text), re.findall(r"`book/results/([\w-]+)\.json`", text)
    if not labels and not files:
        return None
    return [v for label in labels for v in told(label)] + [v for f in files for v in values(json.dumps(book_result(f)))]


def is_known(number: str, numbers: list[float]) -> bool:
    """Whether one of the numbers, or a hundred times it, is rounded to what is typed."""
    digits, value = len(number.split(".")[1]), float(number.replace("−", "-"))
    half = 0.5 * 10**-digits * (1 + 1e-9)
    return any(abs(abs(v) * scale - abs(value)) <= half for v in numbers for scale in (1, 100))


def effects() -> list[str]:
    """What the ledger's rows measured: each from its bold word to the next item."""
    text = (ROOT / "book" / "deviations.md").read_text(encoding="utf-8")
    return [
        x for x in re.findall(r"^- \*\*Effect\*\*(.*?)(?=^- |^\(row-|^#|\Z)", text, re.M | re.S) if known(x) is not None
    ]


def test_a_number_is_found_at_the_digits_that_are_typed():
    assert is_known("0.59", [0.5943]) and is_known("30.5", [0.30518]) and is_known("−0.11", [-0.1134])
    assert not is_known("0.59", [0.5842, 59.6]) and not is_known("0.590", [0.5943])
    assert NUMBER.findall("F1 0.34, 0.30; at 1.5 %, torch 2.14.1, `a-0.25`") == ["0.34", "0.30", "1.5"]


@pytest.mark.parametrize("effect", effects(), ids=lambda effect: "")
def test_the_ledger_says_what_its_chapter_or_file_says(effect):
    numbers = known(effect)
    assert [x for x in NUMBER.findall(effect) if not is_known(x, numbers)] == []


def test_the_readmes_table_is_the_results_file():
    rows = re.findall(
        r"^\| ([^|]+?) \| (\d+) \| ([\d.]+) \| ([\d.]+)–([\d.]+) \| ([\d.]+) \(([\w ]+)\) \|$", README, re.M
    )
    assert len(rows) >= 7
    sets = dict(book_result("lite2")["sets"])
    research = sets["research images"]["sets"]
    names = {"error levels": "ela", "noise residual": "noise_residual", "all tampered": "all_tampered"}
    for name, n, f1, low, high, best, baseline in rows:
        scores = research[name] if name in research else sets[name]["average"]
        assert (int(n), f"{scores['f1']:.2f}") == (scores["n"], f1), name
        assert [f"{x:.2f}" for x in scores["f1_ci95"]] == [low, high], name
        others = {key: each["f1"] for key, each in scores["baselines"].items() if isinstance(each, dict)}
        assert f"{max(others.values()):.2f}" == best and max(others, key=others.get) == names[baseline], name
