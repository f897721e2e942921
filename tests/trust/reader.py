"""Reads every file of one kind of the corpus, in a process of its own, and tells of each what came of it.

    python -m tests.trust.reader KIND FOLDER

A line of JSON a file, {name, end, seconds, memory}: `end` is read, refused, or an error with its traceback; `memory` is
the process's highest so far, MiB beyond what it had after its imports. A crash or a hang shows by the line that lacks.
"""

import contextlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch

from mpc_lite.data.lists import sort_entries
from mpc_lite.data.manifest import check
from mpc_lite.errors import InputError, printable_lines
from mpc_lite.images import read_image, read_mask_file
from mpc_lite.inference.localizer import Localizer
from mpc_lite.network.model import load_weights
from mpc_lite.recipes.load import load_recipe
from tests.trust import corpus

sys.path.append(str(Path(__file__).parents[2] / "data_scripts"))
from archives import unpack


def read_picture(path: Path) -> None:
    with contextlib.suppress(InputError):  # a photograph is no mask
        assert read_mask_file(path).max() <= 1
    pixels = read_image(path)
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.size


def read_list(path: Path) -> None:
    if path.suffix == ".yaml":
        load_recipe(path)
    elif problems := check(path) if path.suffix == ".csv" else [text for _, text in sort_entries(path)[1]]:
        raise InputError("\n".join(problems))


def read_model(path: Path) -> None:
    model = load_weights(path)
    assert np.isfinite(Localizer(model)(corpus.picture()).score)


READERS = {"images": read_picture, "lists": read_list, "weights": read_model, "archives": unpack}


def memory() -> float:
    """Most MiB that this process has held. On Linux not ru_maxrss, which starts at what the parent held."""
    if os.path.exists("/proc/self/status"):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS


def main(kind: str, folder: Path) -> None:
    torch.set_num_threads(1)
    read, out, before = READERS[kind], sys.stdout, memory()
    for number, (name, data) in enumerate(getattr(corpus, kind)()):
        suffix = Path(name).suffix if kind != "weights" else ".safetensors"
        path = folder / f"{number}{suffix}"
        path.write_bytes(data)
        print(json.dumps({"name": name}), file=out, flush=True)
        start, begun, end = time.process_time(), time.monotonic(), "read"
        try:
            with contextlib.redirect_stdout(sys.stderr):
                read(path)
        except InputError as error:
            end, text = "refused", str(error).replace(str(folder), "")
            if printable_lines(text) != text or not text.strip():
                end = f"a message that speaks to the terminal: {text!r}"
        except BaseException:
            end = traceback.format_exc()
        seconds = round(time.process_time() - start, 2)
        facts = {"seconds": seconds, "waited": round(time.monotonic() - begun, 2), "memory": round(memory() - before)}
        print(json.dumps({"end": end, **facts}), file=out, flush=True)
        path.unlink()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
