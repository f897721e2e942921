"""The figures on the book's status page are of this package, and good enough to be shown."""

import json
from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS
from tests.trust.test_corpus import LEAST

RESULT = json.loads((Path(__file__).parents[2] / "book" / "results" / "trust.json").read_text(encoding="utf-8"))


def test_every_fault_of_the_list_was_seeded_and_caught():
    assert RESULT["faults"]["caught"] == RESULT["faults"]["seeded"] == len(FAULTS) >= 20
    assert len({fault.name for fault in FAULTS}) == len({(fault.file, fault.old, fault.new) for fault in FAULTS})


@pytest.mark.skipif("tests" not in RESULT, reason="book/results/trust.py has not run the tests: the page says so")
def test_no_hostile_file_got_through():
    part = RESULT["tests"]
    assert part["tests"] and not part["failures"] and not part["errors"] and part["seconds"] <= 240
    assert set(LEAST) < set(part["figures"])


@pytest.mark.skipif("coverage" not in RESULT, reason="book/results/trust.py has not read a coverage: the page says so")
def test_nine_lines_of_ten_are_run():
    part = RESULT["coverage"]
    assert part["lines_run"] >= 0.9 * part["lines"] and 0 < part["branches_run"] < part["branches"]
