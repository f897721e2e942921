"""The set-up cell for Google Colab with which every notebook twin begins; generated, so that one fix mends all.

It installs the package from the repository at the twin's release and the small packages that are missing or too old,
and leaves torch, torchvision and numpy as they are. Everywhere but in Colab it does nothing.
"""

from __future__ import annotations

import re
from typing import Any

from labels import repository

# Colab's own builds, and the kernel that is running: checked, never installed.
KEPT = ("torch", "torchvision", "numpy", "ipykernel")
# What chapters use beyond the dependencies of the package.
CHAPTERS_USE = ("plotly", "ipywidgets")
MODULES = {
    "pyyaml": "yaml",
    "pillow": "PIL",
    "opencv-python-headless": "cv2",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}

# How the cell shows: Colab and JupyterLab fold it.
METADATA = {"tags": ["bootstrap"], "cellView": "form", "jupyter": {"source_hidden": True}}

CELL = r"""# @title Set-up for Google Colab (anywhere else this cell does nothing)
# Installs mpc_lite and the small packages that are missing; torch, torchvision and numpy stay as they are.
def _set_up(package, version, kept, extras):
    import importlib, os, re, subprocess, sys, tempfile
    from importlib import metadata, util

    def fail(sentence):
        print(sentence, "More help: the book's page 'troubleshooting'.")
        raise RuntimeError("the set-up stopped; the line above says what to do") from None

    def found(name, module):  # the version, "0" when there is none to read, None when the module is missing
        try:
            return metadata.version(name) if util.find_spec(module) else None
        except metadata.PackageNotFoundError:
            return "0"

    def older(have, least):
        return [int(n) for n in re.findall(r"\d+", have)[:3]] < [int(n) for n in least.split(".")]

    def install(*what):
        with tempfile.TemporaryDirectory() as folder:
            as_is = os.path.join(folder, "as-is.txt")
            with open(as_is, "w") as file:
                file.writelines(f"{name}=={found(name, name)}\n" for name in kept if found(name, name) != "0")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", as_is]
            done = subprocess.run([*pip, *what], capture_output=True, text=True)
        if done.returncode:
            why = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["no reason given"]
            fail(f"pip could not install {', '.join(what)} ({why[-1]}): check the network, then run this cell again.")
        importlib.invalidate_caches()

    newest = "choose 'Disconnect and delete runtime' in the menu Runtime, then run this notebook in a new one."
    for name, least in kept.items():
        have = importlib.import_module(name).__version__ if util.find_spec(name) else "none"
        if have == "none" or older(have, least):
            fail(f"This book needs {name} {least} or newer, found {have}: {newest}")
    if not util.find_spec("mpc_lite"):
        if not package:
            fail("This copy of the notebook does not know where the package mpc_lite lives: install it from a wheel "
                 "or a clone with '%pip install --no-deps PATH', then run this cell again.")
        install("--no-deps", package)
    have = {module: found(need.split(">=")[0], module) for module, need in extras.items()}
    lacking = [need for module, need in extras.items()
               if have[module] is None or have[module] != "0" and older(have[module], need.split(">=")[1])]
    if lacking:
        install(*lacking)
    have = found("mpc-lite", "mpc_lite")
    if older(have, version):
        fail(f"This notebook needs mpc_lite {version} or newer, found {have}: {newest}")
    try:
        import mpc_lite.notebook, torch
    except Exception as error:
        fail(f"mpc_lite is installed but cannot be imported ({type(error).__name__}: {error}): {newest}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    shown = [f"{name} {importlib.import_module(name).__version__}" for name in ("mpc_lite", *kept)]
    print(", ".join(shown), "on", device)


import importlib.util, sys  # noqa: E401

if "google.colab" in sys.modules or importlib.util.find_spec("google") and importlib.util.find_spec("google.colab"):
    _set_up(
        package=@PACKAGE@,
        version=@VERSION@,
        kept=@KEPT@,
        extras=@EXTRAS@,
    )"""


def bootstrap_source(project: dict[str, Any], package: str | None = None) -> str:
    """The cell's code.

    Args:
        project: the table [project] of pyproject.toml.
        package: what pip installs; by default the repository at the tag of the version, empty without an address.
    """
    if package is None:
        address = repository(project)
        package = f"git+{address}@v{project['version']}" if address else ""
    used = [need for need in project["optional-dependencies"]["book"] if _name(need) in CHAPTERS_USE]
    needs = {_name(need): need for need in [*project["dependencies"], *used]}
    if odd := [need for need in needs.values() if not re.fullmatch(r"[\w-]+>=[\d.]+", need)]:
        raise ValueError(f"the set-up cell reads only NAME>=VERSION, found {odd}")
    versions = {name: needs[name].split(">=")[1] for name in KEPT if name != "ipykernel"}
    extras = {_module(name): need for name, need in needs.items() if name not in KEPT}
    values = {"PACKAGE": package, "VERSION": project["version"], "KEPT": versions, "EXTRAS": extras}
    code = CELL
    for name, value in values.items():
        code = code.replace(f"@{name}@", _literal(value))
    return code


def _name(need: str) -> str:
    return re.split(r"[<>=!~\[; ]", need)[0]


def _module(name: str) -> str:
    return MODULES.get(name, name.replace("-", "_"))


def _literal(value: Any) -> str:
    """As Python source with double quotes; long tables one entry a line."""
    if isinstance(value, dict):
        entries = [f"{_literal(key)}: {_literal(entry)}" for key, entry in value.items()]
        one = "{" + ", ".join(entries) + "}"
        return one if len(one) < 100 else "{\n" + "".join(f"            {e},\n" for e in entries) + "        }"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
