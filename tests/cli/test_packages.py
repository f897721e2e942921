"""The packages that `mpc-lite doctor` looks for: missing, too old, broken, or others in their place."""

import errno
import os
import subprocess
import sys
import tempfile
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from mpc_lite.cli import doctor, main, packages

pytestmark = pytest.mark.trust


def test_packages_that_are_missing_or_too_old_are_named_with_the_command(monkeypatch):
    needed = ["numpy>=999", "no-such-package-anywhere>=1", 'pytest>=1; extra == "test"', "torch>=2"]
    monkeypatch.setattr(packages.metadata, "requires", lambda name: needed)
    fails = [finding for finding in packages.versions() if finding.state == "fails"]
    assert ["too old" in fails[0].what, "is not installed" in fails[1].what, len(fails)] == [True, True, 2]
    assert fails[0].do.endswith('-m pip install "numpy>=999"')


@pytest.mark.parametrize("error", [ImportError("libjpeg.so.62"), SystemError("another core"), OSError("a cut library")])
def test_packages_that_cannot_be_imported_are_named(monkeypatch, error):
    """Their metadata stay when they are broken."""
    real = packages.resolve_name

    def importing(name):
        if name == "PIL.Image:open":
            raise error
        return real(name)

    monkeypatch.setattr(packages, "resolve_name", importing)
    (bad,) = [finding for finding in packages.versions() if finding.state == "fails"]
    assert bad.what.startswith(f"pillow cannot be imported: {type(error).__name__}: {error}")
    assert "-m pip install --force-reinstall pillow" in bad.do


def test_of_each_package_that_is_asked_for_something_is_used():
    needed = [Requirement(text) for text in metadata.requires("mpc-lite")]
    assert set(packages.USED) == {
        each.name for each in needed if not each.marker or each.marker.evaluate({"extra": ""})
    }


def asked(monkeypatch, folder, used, files):
    """What fails of the packages in `used` alone, where these files can be imported, whose names are no other's."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(packages, "USED", used)
    failing = [finding for finding in packages.versions() if finding.state == "fails"]
    for name in [name for name in sys.modules if name.partition(".")[0].startswith("left_")]:
        del sys.modules[name]
    return failing


@pytest.mark.parametrize("rest", ["left_over/.nfs0000000012ab", "left_over/__init__.py", "left_over.py"])
@pytest.mark.parametrize("used", ["left_over:open", "left_over.Image:open"])
def test_what_lies_in_the_place_of_a_package_is_named(monkeypatch, tmp_path, rest, used):
    """pip leaves folders that hold files which it does not know, and they can be imported."""
    (bad,) = asked(monkeypatch, tmp_path, {"pillow": used}, {rest: ""})
    place = tmp_path / ("left_over.py" if rest.endswith("r.py") else "left_over")
    assert bad.what == f"pillow is installed, but in its place is {place}, without {used.replace(':', '.')}"
    assert bad.do.startswith("rename or remove that") and bad.do.endswith("-m pip install --force-reinstall pillow")


@pytest.mark.parametrize(
    "broken", ["", "raise ImportError('no library')", "from left_a import core", "import left_a.b"]
)
@pytest.mark.parametrize("need", ["import left_a; left_a.open", "from left_a import open"])
@pytest.mark.parametrize("told", ["{}", "try:\n    {}\nexcept Exception as error:\n    raise RuntimeError from error"])
def test_of_a_broken_package_those_that_need_it_are_not_to_be_installed_anew(monkeypatch, tmp_path, broken, need, told):
    used = {"pillow": "left_a:open", "torch": "left_b:Tensor", "matplotlib": "left_c:Figure", "rich": "left_d:Console"}
    files = {
        "left_a.py": broken,
        "left_b.py": told.format(need),
        "left_c.py": "import left_b",
        "left_d.py": "import no",
    }
    first, *needing, other = asked(monkeypatch, tmp_path, used, files)
    assert "--force-reinstall pillow" in first.do and "--force-reinstall rich" in other.do
    for name, finding in zip(("torch", "matplotlib"), needing, strict=True):
        assert (finding.what, finding.do) == (f"{name} cannot be imported without pillow", "mend pillow first")


@pytest.mark.parametrize(
    "inner, text",
    [
        ("left_b.py", "raise RuntimeError('mine')"),
        ("left_b.py", "x = 1"),
        ("left_b.py", "x = ("),
        ("left_a.py", "raise RuntimeError('mine')"),
    ],
)
@pytest.mark.parametrize("need", ["from left_b import Queue", "import left_b; left_b.Queue"])
def test_a_file_of_ones_own_in_the_place_of_a_module_is_named(monkeypatch, tmp_path, inner, text, need):
    """A script called queue.py beside one's others, and PYTHONPATH: no installation mends that."""
    (bad,) = asked(monkeypatch, tmp_path, {"torch": "left_a:Tensor"}, {"left_a.py": need, inner: text})
    assert bad.do.startswith(f"if {tmp_path / inner} is yours, rename or remove it: it stands in the place of a module")


def test_an_installed_package_is_not_taken_for_a_file_of_ones_own(monkeypatch, tmp_path):
    """pip's --target puts packages into any folder; what one of them needs may be missing."""
    files = {"left_a.py": "import left_gone", "pillow-99.dist-info/METADATA": "Name: pillow\nVersion: 99\n"}
    (bad,) = asked(monkeypatch, tmp_path, {"pillow": "left_a:open"}, files)
    assert bad.what.endswith("ModuleNotFoundError: No module named 'left_gone'")
    assert bad.do.startswith(f"{sys.executable} -m pip install --force-reinstall pillow;")


def test_without_a_folder_for_temporary_files_no_package_is_to_be_installed_anew(monkeypatch, tmp_path, capsys):
    """As on a full disk: some ask for the folder while they are imported, and Python looks for one that takes files."""

    def refused():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    assert not list(packages.temporary())
    monkeypatch.setattr(tempfile, "gettempdir", refused)
    monkeypatch.setattr(doctor, "CHECKS", doctor.CHECKS[:2])
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert (
        "no folder for temporary files can be written: No usable" in said and "free some space, or set TMPDIR" in said
    )
    (bad,) = asked(
        monkeypatch, tmp_path, {"torch": "left_a:b"}, {"left_a.py": "import tempfile\ntempfile.gettempdir()"}
    )
    assert bad.what.startswith("torch cannot be imported: FileNotFoundError") and "--force-reinstall" not in bad.do


def test_a_backend_that_matplotlib_does_not_know_is_to_be_unset():
    code = "from mpc_lite.cli import packages; print(*packages.versions(), sep='\\n')"
    environment = {**os.environ, "MPLBACKEND": "Qt4Agg"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    (bad,) = [line for line in done.stdout.splitlines() if "'fails'" in line]
    assert "MPLBACKEND=Qt4Agg: with it matplotlib cannot be imported" in bad and "do='unset MPLBACKEND'" in bad
