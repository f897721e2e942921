"""Each seeded fault has its place in the package and a test that exists: the slow runner (`run.py`) can use it."""

from pathlib import Path

import pytest

from tests.mutations.faults import FAULTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_one_place_and_a_test(fault):
    assert (ROOT / "mpc_lite" / fault.file).read_text(encoding="utf-8").count(fault.old) == 1
    assert fault.new != fault.old
    file, name = fault.test.split("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
