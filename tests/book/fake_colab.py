"""A Python like Colab's: it has torch, numpy and the rest, a package google.colab, but not mpc_lite; no network."""

import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What the cell must leave as it is: version, file and the time of its installation.
FACTS = """
import importlib.metadata, importlib.util, os, sys
for name in ("torch", "torchvision", "numpy"):
    sys.path_importer_cache.clear()
    file = next(f"{p}/{name}/__init__.py" for p in sys.path if os.path.isfile(f"{p}/{name}/version.py"))
    print("FACT", name, importlib.metadata.version(name), file, os.stat(file).st_mtime_ns)
"""


@dataclass
class Colab:
    """A virtual environment that sees what this Python has installed, without mpc_lite, and a stub of google.colab."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")

    @property
    def own(self) -> Path:
        """Where pip installs."""
        return next(self.folder.glob("lib/python*/site-packages"), self.folder / "Lib" / "site-packages")

    @property
    def seen(self) -> Path:
        """Links to everything that this Python has installed."""
        return self.folder / "seen"

    def run(self, code: str, stub: bool = True, **variables: str) -> subprocess.CompletedProcess:
        """Run code in it, cut off from every package index and from the variables of the caller."""
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "PIP_NO_INDEX": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"PYTHONPATH": str(self.folder / "stub")} if stub else {}
        command = [self.python, "-c", code]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=self.folder, env={**environment, **variables}, timeout=900
        )

    def forget(self, name: str) -> None:
        """Take a package away."""
        for link in [*self.seen.glob(name), *self.seen.glob(f"{name}-*.dist-info")]:
            link.unlink()

    def installed(self) -> set[str]:
        return {path.name.split("-")[0] for path in self.own.glob("*.dist-info")}


@pytest.fixture
def colab(tmp_path):
    folder = tmp_path / "colab"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=900)
    made = Colab(folder)
    made.seen.mkdir()
    # Links instead of the folder itself: its .pth files, and pip's record of our package, must not be seen.
    for place in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))):
        for entry in Path(place).iterdir():
            ours = entry.name.startswith(("mpc_lite", "mpc-lite", "__editable__", "google")) or entry.suffix == ".pth"
            if not ours and not (made.seen / entry.name).exists():
                (made.seen / entry.name).symlink_to(entry)
    (made.own / "seen.pth").write_text(f"{made.seen}\n")
    (folder / "stub" / "google" / "colab").mkdir(parents=True)
    (folder / "stub" / "google" / "colab" / "__init__.py").touch()
    return made


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The package as a stranger gets it, built from its source without a network."""
    work = tmp_path_factory.mktemp("wheel")
    copy = work / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for file in (ROOT / "mpc_lite").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            target = copy / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", work, copy], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"needs setuptools and wheel in this Python: {done.stderr}"
    (built,) = work.glob("mpc_lite-*.whl")
    return built


def small_wheel(folder: Path, name: str, version: str, needs: str = "") -> Path:
    """A wheel with one empty module."""
    folder.mkdir(exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {needs}\n" if needs else ""
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f'__version__ = "{version}"\n')
        archive.writestr(f"{info}/METADATA", facts)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def said(done: subprocess.CompletedProcess) -> list[str]:
    """What the cell printed, without the facts of the test."""
    return [line for line in done.stdout.splitlines() if not line.startswith("FACT")]


def facts(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stdout.splitlines() if line.startswith("FACT")]


def refused(done: subprocess.CompletedProcess) -> str:
    """The one sentence of a cell that stopped."""
    assert done.returncode == 1 and len(said(done)) == 1, done.stdout + done.stderr
    assert "RuntimeError: the set-up stopped" in done.stderr.strip().splitlines()[-1]
    assert done.stderr.count("Traceback") == 1
    assert "'troubleshooting'" in said(done)[0]
    return said(done)[0]
