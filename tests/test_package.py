"""The package as a whole: public names, metadata that agree with one another, a file that a stranger can install."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import mpc_lite

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it there

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_public_names_are_what_they_say():
    for name in mpc_lite.__all__:
        assert getattr(mpc_lite, name) is not None
    from mpc_lite.evaluate import table_rows

    assert callable(table_rows) and callable(mpc_lite.evaluate) and mpc_lite.evaluate.__name__ == "evaluate"
    with pytest.raises(AttributeError, match="evaluat"):
        _ = mpc_lite.evaluation


def test_help_does_not_wait_for_torch():
    code = "import sys, mpc_lite, mpc_lite.cli; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def bare(requirement: str) -> str:
    return re.split(r"[<>=!~ \[]", requirement.strip())[0].lower()


def test_requirements_environment_and_metadata_agree():
    lines = [x for x in (ROOT / "requirements.txt").read_text().splitlines() if x and not x.startswith("#")]
    assert lines[-1] == "-e .[book,test]" and len(lines) == 9
    assert [x for x in lines[:-1] if x != bare(x)] == ["jupyter-book<2"]
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["book"]
    assert {bare(x) for x in lines[:-1]} <= {bare(x) for x in declared}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert environment[-1] == {"pip": ["-r requirements.txt"]}
    assert f"python{PROJECT['requires-python']}" in environment
    assert any(x.startswith("jupyter-book") and x.endswith("<2") for x in declared)


def test_everything_installed_is_lower_bounds_only():
    for requirement in [
        *PROJECT["dependencies"],
        *(x for extra in PROJECT["optional-dependencies"].values() for x in extra),
    ]:
        assert "==" not in requirement and ">=" in requirement, requirement


ORDER = """
sections config images manifest list_formats lists scenes camera synth augment augment_pixels augment_warps
augment_official entries data degrade recompute hrformer model folding sampling views infonce loss metrics protocols
weights convert checkpoint processes trainlog features training counting roofline pretrain finetune cost baselines
maps evaluate localizer robustness goals progress figures kernel reproduce cells workers sweep testsets paper tables
collect results notebook report options cli
"""


def test_modules_import_only_from_rows_above_their_own():
    """The design's order, from configuration up to the command line; imports inside functions are counted as well."""
    order = ORDER.split()
    modules = [p for p in (ROOT / "mpc_lite").glob("*.py") if p.stem != "__init__"]
    for path in [*modules, ROOT / "mpc_lite" / "figures" / "__init__.py"]:
        used = set(re.findall(r"^ *(?:from|import) mpc_lite\.(\w+)", path.read_text(), re.M)) - {path.parent.name}
        name = path.parent.name if path.stem == "__init__" else path.stem
        late = {u for u in used if order.index(u) >= order.index(name)}
        # Only MPC.from_pretrained looks down, as its comment says.
        assert late == ({"weights"} if name == "model" else set()), (name, late)


def test_recipes_know_every_protocol():
    from mpc_lite.protocols import PROTOCOLS
    from mpc_lite.sections import PROTOCOL_NAMES

    assert set(PROTOCOL_NAMES) == set(PROTOCOLS)
