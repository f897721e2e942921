"""A machine with names that stand nowhere by chance, so that a file which tells them is told from one that does not.

The real names will not do: a host may be called `vm`, which a picture's base64 holds sooner or later, or `cpu`.
"""

import contextlib
import os
import platform
import site
import socket
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest

HOST, USER, FOLDER = "host-of-the-tests", "user-of-the-tests", "folder-of-the-tests"
# Python runs a module of this name at its start: the kernel of a notebook gets the names too.
SITECUSTOMIZE = f"""
import os, platform, socket
socket.gethostname = platform.node = lambda: {HOST!r}
if hasattr(os, "uname"):
    known = os.uname()
    os.uname = lambda: os.uname_result((known.sysname, {HOST!r}, *known[2:]))
"""


@contextlib.contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    """Work in `folder`, whose path holds FOLDER, with host HOST, user USER and a home below it, child processes too."""
    assert FOLDER in str(folder)
    (folder / "start").mkdir()
    (folder / "start" / "sitecustomize.py").write_text(SITECUSTOMIZE, encoding="utf-8")
    (folder / "home").mkdir()
    path = [str(folder / "start"), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Another home, and still this user's packages and matplotlib's list of fonts.
    kept = {"PYTHONUSERBASE": site.getuserbase(), "MPLCONFIGDIR": matplotlib.get_configdir()}
    names = {"HOME": str(folder / "home"), "USERPROFILE": str(folder / "home"), "LOGNAME": USER, "USER": USER}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**kept, **names, "USERNAME": USER, "PYTHONPATH": os.pathsep.join(path)}.items():
            patch.setenv(key, value)
        for module, name in ((socket, "gethostname"), (platform, "node")):
            patch.setattr(module, name, lambda: HOST)
        if hasattr(os, "uname"):
            known = os.uname()
            patch.setattr(os, "uname", lambda: os.uname_result((known.sysname, HOST, *known[2:])))
        patch.chdir(folder)
        yield


def names_in(text: str) -> list[str]:
    """Which of the names of `elsewhere` a text tells; its folder's path holds FOLDER, and so does its home's."""
    return [name for name in (HOST, USER, FOLDER) if name in text]
