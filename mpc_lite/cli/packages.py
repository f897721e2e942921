"""Whether the packages that mpc_lite asks for are there and can be loaded: of `mpc-lite doctor` what comes first."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pkgutil import resolve_name
from traceback import walk_tb

from mpc_lite.errors import shown


@dataclass(frozen=True)
class Finding:
    """state: "ok"; "note", something that a beginner should know; "fails", with what to do about it."""

    state: str
    what: str
    do: str = ""


def temporary() -> Iterator[Finding]:
    """A folder for temporary files, without which packages cannot be imported that are in order."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:  # none that is tried takes a file: full, read-only, not there
        what = f"no folder for temporary files can be written: {error.strerror}"
        yield Finding("fails", what, "free some space, or set TMPDIR to a folder that you may write")


# What is used of each package: an empty folder that was left in its place can be imported too. Those that others need
# come before them, as the ones to blame.
USED = {
    "numpy": "numpy:ndarray",
    "pillow": "PIL.Image:open",
    "pyyaml": "yaml:safe_load",
    "pydantic": "pydantic:BaseModel",
    "rich": "rich.console:Console",
    "typer": "typer:Typer",
    "filelock": "filelock:FileLock",
    "torch": "torch:Tensor",
    "torchvision": "torchvision:ops",
    "safetensors": "safetensors.torch:save_file",
    "accelerate": "accelerate:Accelerator",
    "opencv-python-headless": "cv2:resize",
    "scikit-image": "skimage:data",
    "scikit-learn": "sklearn.cluster:KMeans",
    "distributed": "distributed:Client",
    "ipykernel": "ipykernel.kernelapp:IPKernelApp",
    "papermill": "papermill:execute_notebook",
    "matplotlib": "matplotlib.figure:Figure",
}


def versions() -> Iterator[Finding]:
    """Python and every package that mpc_lite asks for."""
    from packaging.requirements import Requirement

    yield Finding("ok", f"mpc-lite {metadata.version('mpc-lite')}, Python {sys.version.split()[0]} in {sys.prefix}")
    needed = [Requirement(text) for text in metadata.requires("mpc-lite") or []]
    good = []
    for package in needed:
        if package.marker and not package.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            version = None
        if version is not None and package.specifier.contains(version, prereleases=True):
            good.append(f"{package.name} {version}")
        else:
            there = f"{package.name} {version} is too old or too new" if version else f"{package.name} is not installed"
            yield Finding("fails", f"{there}; needed: {package}", f'{sys.executable} -m pip install "{package}"')
    yield Finding("ok", ", ".join(good))
    installed = {text.partition(" ")[0].lower() for text in good}
    broken: dict[str, str] = {}  # what was imported: its package
    for package, used in USED.items():  # installed is not yet usable
        if package in installed:
            try:
                resolve_name(used)
            except Exception as error:  # libraries of the system that are missing or others, half an installation
                cause = next((broken[name] for name in _modules(error) if name in broken), None)
                if cause:
                    yield Finding("fails", f"{package} cannot be imported without {cause}", f"mend {cause} first")
                else:
                    yield _broken(package, used, error)
                    broken[used.partition(":")[0].partition(".")[0]] = package


def _modules(error: BaseException | None) -> Iterator[str]:
    """The modules, without their parts, through which an error went or which it names."""
    while error:
        names = [frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)]
        names.append(error.name if isinstance(error, ImportError) else None)
        names.append(getattr(getattr(error, "obj", None), "__name__", None))  # of an AttributeError
        yield from (name.partition(".")[0] for name in names if isinstance(name, str))
        error = error.__cause__ or error.__context__


def _stranger(error: Exception) -> str | None:
    """A file outside of what was installed that an error was raised in, or names as the module where a name lacks."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    files = [getattr(error, "path", None), getattr(getattr(error, "obj", None), "__file__", None)]
    files.append(error.filename if isinstance(error, SyntaxError) else None)
    file = next((file for file in files if file), frame.f_code.co_filename)
    return file if os.path.isfile(file) and not file.startswith((*_installed(), __file__)) else None


def _installed() -> Iterator[str]:
    """The folders of what was installed: of this Python, of its user, and by pip's --target, on PYTHONPATH."""
    yield from (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from (site.getusersitepackages(), *site.getsitepackages())
    for package in USED:
        with suppress(metadata.PackageNotFoundError):
            yield str(metadata.distribution(package).locate_file(""))


def _broken(package: str, used: str, error: Exception) -> Finding:
    """Of a package of which cannot be had what is used."""
    again = f"{sys.executable} -m pip install --force-reinstall {package}"
    module, _, name = used.partition(":")
    found = sys.modules.get(module.partition(".")[0])
    if found and isinstance(error, (AttributeError, ModuleNotFoundError)) and error.name in (module, name):
        file = getattr(found, "__file__", None)
        places = [file.removesuffix(f"{os.sep}__init__.py")] if file else list(found.__path__)
        what = f"{package} is installed, but in its place is {' and '.join(places)}, without {used.replace(':', '.')}"
        return Finding(
            "fails", what, f"rename or remove that, which pip does not; if {package} is then missing: {again}"
        )
    what = f"{package} cannot be imported: {type(error).__name__}: {error}"
    backend = os.environ.get("MPLBACKEND")
    if package == "matplotlib" and backend and isinstance(error, ValueError):
        what = f"MPLBACKEND={shown(backend)}: with it matplotlib cannot be imported ({shown(error)})"
        return Finding("fails", what, "unset MPLBACKEND")
    if any(temporary()):  # for want of which good ones fail, and pip too
        return Finding("fails", what, "a folder for temporary files first: see above")
    if stranger := _stranger(error):
        do = f"if {stranger} is yours, rename or remove it: it stands in the place of a module that {package} needs"
        return Finding("fails", what, f"{do}; if not: {again}")
    return Finding("fails", what, f"{again}; a missing .so file is one of the system")
