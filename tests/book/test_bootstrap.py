"""The set-up cell of the twins, run as Colab runs it: in a Python that has torch and numpy, but not our package."""

import nbformat
import pytest
from bootstrap import KEPT, bootstrap_source
from labels import chapters, project

from tests.book.fake_colab import FACTS, colab, facts, refused, said, small_wheel, wheel

__all__ = ["colab", "wheel"]  # fixtures
PROJECT = project()
# Stand-ins where the real modules would only cost time.
FAST = """
import sys, types
from importlib.machinery import ModuleSpec
for name in ("torch", "torchvision", "numpy", "mpc_lite.notebook"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__version__, sys.modules[name].__spec__ = "99.0", ModuleSpec(name, None)
sys.modules["torch"].cuda = types.SimpleNamespace(is_available=lambda: False)
"""


# --- it works -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_in_colab_the_package_comes_and_torch_and_numpy_stay(colab, wheel):
    cell = bootstrap_source(PROJECT, str(wheel))
    own = "import mpc_lite; print('FACT', mpc_lite.__file__)"
    # What a chapter does next: recipes, weights and figures came along.
    used = "from mpc_lite import Localizer, load_recipe; load_recipe('quickstart'); Localizer.from_pretrained('lite')"
    figures = "from mpc_lite.figures import interactive, show"
    done = colab.run("\n".join([FACTS, cell, FACTS, own, used, figures]))
    assert done.returncode == 0, done.stdout + done.stderr
    *before_after, where = facts(done)
    assert len(before_after) == 6 and before_after[:3] == before_after[3:]
    assert where.split()[1].startswith(str(colab.own))
    (line,) = said(done)
    assert line.startswith(f"mpc_lite {PROJECT['version']}, torch ") and line.endswith(" on cpu")
    assert colab.installed() == {"mpc_lite"}, "only our package was missing"
    unknown = bootstrap_source(PROJECT, "")
    again = colab.run(f"{FAST}\n{cell}\n{cell}\n{unknown}")
    assert again.returncode == 0, again.stderr
    assert len(said(again)) == 3 and len(set(said(again))) == 1, "once installed, no address is needed"


@pytest.mark.slow
def test_anywhere_else_it_does_nothing(colab):
    done = colab.run(bootstrap_source(PROJECT, "nowhere.whl"), stub=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert colab.installed() == set()


@pytest.mark.slow
def test_colab_is_found_when_it_is_only_loaded(colab):
    loaded = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
    assert "does not know where" in refused(colab.run(FAST + loaded + bootstrap_source(PROJECT, ""), stub=False))


@pytest.mark.slow
def test_a_small_package_that_is_missing_comes_too(colab, wheel, tmp_path):
    colab.forget("safetensors")
    small_wheel(tmp_path / "links", "safetensors", "0.9.9")
    done = colab.run(FAST + bootstrap_source(PROJECT, str(wheel)), PIP_FIND_LINKS=str(tmp_path / "links"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert colab.installed() == {"mpc_lite", "safetensors"}


# --- it stops, and says why -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_an_address_it_says_so(colab):
    sentence = refused(colab.run(FAST + bootstrap_source(PROJECT, "")))
    assert "does not know where the package mpc_lite lives" in sentence and "from a wheel or a clone" in sentence


@pytest.mark.slow
def test_an_install_that_fails_is_one_sentence(colab):
    sentence = refused(colab.run(FAST + bootstrap_source(PROJECT, "/nowhere/mpc_lite-0.1.0-py3-none-any.whl")))
    assert "pip could not install" in sentence and "ERROR" in sentence and "run this cell again" in sentence


@pytest.mark.slow
def test_a_package_that_wants_another_numpy_is_refused(colab, wheel, tmp_path):
    """No small package may bring another numpy with it."""
    colab.forget("safetensors")
    small_wheel(tmp_path / "links", "safetensors", "0.9.9", needs="numpy>=99")
    small_wheel(tmp_path / "links", "numpy", "99.0")
    cell, links = FAST + bootstrap_source(PROJECT, str(wheel)), str(tmp_path / "links")
    before = facts(colab.run(FACTS))
    assert "could not install safetensors>=" in refused(colab.run(cell, PIP_FIND_LINKS=links))
    assert facts(colab.run(FACTS)) == before
    without = cell.replace('"-c", as_is', '"--pre"')  # the seeded fault: without the constraints numpy does change
    colab.run(without, PIP_FIND_LINKS=links)
    assert "numpy" in colab.installed()


@pytest.mark.slow
@pytest.mark.parametrize("name, old", [("torch", "1.13.1+cu116"), ("torchvision", "0.14.1"), ("numpy", "1.9.0")])
def test_an_old_torch_is_named(colab, name, old):
    stub = f"sys.modules['{name}'].__version__ = '{old}'\n"
    sentence = refused(colab.run(FAST + stub + bootstrap_source(PROJECT, "nowhere.whl")))
    assert f"needs {name} " in sentence and f"found {old}" in sentence and "Runtime" in sentence
    assert colab.installed() == set()


@pytest.mark.slow
def test_an_old_package_is_named(colab, wheel):
    cell = FAST + bootstrap_source({**PROJECT, "version": "99.1.0"}, str(wheel))
    assert f"needs mpc_lite 99.1.0 or newer, found {PROJECT['version']}" in refused(colab.run(cell))


# --- how it is made -------------------------------------------------------------------------------------------------


def test_the_address_is_that_of_the_project():
    known = {**PROJECT, "urls": {"Repository": "https://example.org/a/b.git"}}
    assert f'package="git+https://example.org/a/b@v{PROJECT["version"]}"' in bootstrap_source(known)
    assert 'package="",' in bootstrap_source({**PROJECT, "urls": {}})


def test_bounds_are_those_of_the_project_and_no_shell_is_used():
    cell = bootstrap_source(PROJECT, "")
    for need in PROJECT["dependencies"]:
        name, bound = need.split(">=")
        if name in KEPT:
            assert f'"{need}"' not in cell and (name == "ipykernel" or f'"{name}": "{bound}"' in cell)
        else:
            assert f'"{need}"' in cell
    assert "shell" not in cell and "os.system" not in cell and "\n!" not in cell and "drive" not in cell.lower()
    assert max(map(len, cell.splitlines())) <= 120


def test_a_bound_that_the_cell_cannot_read_is_an_error():
    with pytest.raises(ValueError, match="torch~=2"):
        bootstrap_source({**PROJECT, "dependencies": [*PROJECT["dependencies"], "torch~=2.6"]})


@pytest.mark.parametrize("source", chapters(), ids=lambda p: p.stem)
def test_every_chapter_begins_with_the_same_cell(source):
    cells = nbformat.read(source.with_suffix(".ipynb"), as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert first.source == bootstrap_source(PROJECT) and "bootstrap" in first.metadata.tags
    assert sum("bootstrap" in cell.metadata.get("tags", []) for cell in cells) == 1
