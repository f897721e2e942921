"""Whether the packages that mpc_lite asks for are there and can be loaded: of `mpc-lite doctor` what comes first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata


@dataclass(frozen=True)
class Finding:
    """state: "ok"; "note", something that a beginner should know; "fails", with what to do about it."""

    state: str
    what: str
    do: str = ""


_IMPORTED_AS = {  # packages that are called otherwise where they are imported
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
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
    for package in (text.partition(" ")[0] for text in good):  # installed is not yet usable
        try:
            import_module(_IMPORTED_AS.get(package.lower(), package.lower().replace("-", "_")))
        except Exception as error:  # libraries of the system that are missing or others, half an installation
            do = f"{sys.executable} -m pip install --force-reinstall {package}; a missing .so file is one of the system"
            yield Finding("fails", f"{package} cannot be imported: {type(error).__name__}: {error}", do)
