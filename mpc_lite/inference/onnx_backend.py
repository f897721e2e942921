"""A network that onnxruntime computes in place of PyTorch: on a CPU 1.5 times as fast."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpc_lite.errors import InputError, shown
from mpc_lite.files import open_file
from mpc_lite.inference.export import HOW_TO_INSTALL, export_bytes
from mpc_lite.network.checks import LONGEST_FACTS, check_sections
from mpc_lite.network.head import HEADS
from mpc_lite.network.hrformer import SIZES
from mpc_lite.provenance import read_json

_ADVICE = "make one with 'mpc-lite export'"
LONGEST = 2**28  # bytes of a file; the largest network's has 182 million
STRIDE = 32  # of the coarsest map; the file's upsampling fits only maps that every stride divides


class OnnxNetwork(nn.Module):
    """images (B,3,H,W) in [0,1] on the CPU -> logits (B,1,H/4,W/4), as `MPC` computes them up to rounding.

    It takes the place of an `MPC` wherever one is only applied (`Localizer`, `evaluate`). It has no parameters; the
    sha256 of its file is a buffer, so that a fingerprint of its tensors tells it from other networks. It uses as many
    threads as PyTorch is set to when it is made: the images of a batch are computed side by side, because threads that
    share an image wait for each other after each of its five hundred operators.
    """

    bears_threads = True  # its maps may be asked for in several threads at a time

    def __init__(self, data: bytes, source: str = "the ONNX file"):
        """data: a file by `export`; source: what messages call it. InputError for any other file."""
        super().__init__()
        self.threads = torch.get_num_threads()
        self._data, self._sessions = data, {}  # sessions by their threads, made when they are needed
        runtime = _onnxruntime()
        self.facts = _checked_facts(data, source)  # before onnxruntime, which computes what it finds, sees the graph
        self.recipe: dict = self.facts["recipe"]
        try:
            self.session = self._session(runtime, 1)
        except Exception as error:  # onnxruntime has a class of its own for each way in which a file can be wrong
            raise _foreign(source, error) from None
        self.source = source
        self.register_buffer("digest", torch.frombuffer(bytearray(hashlib.sha256(data).digest()), dtype=torch.uint8))

    @classmethod
    def from_pretrained(cls, name_or_file: str | Path) -> OnnxNetwork:
        """From a file that `export` wrote (`*.onnx`), or from weights, exported in memory: nothing is written.

        InputError as the constructor and `export` raise it.
        """
        path = Path(name_or_file)
        if path.suffix.lower() != ".onnx":
            _onnxruntime()  # said first, before the work of an export
            return cls(export_bytes(name_or_file), str(name_or_file))
        try:
            with open_file(path) as file:
                return cls(file.read(LONGEST + 1), str(path))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from None

    def forward(self, images: Tensor) -> Tensor:
        """InputError for sides that are no multiples of `STRIDE`, and for a graph that fails or answers otherwise."""
        height, width = images.shape[2:]
        if height % STRIDE or width % STRIDE:
            raise InputError(
                f"images of {width}×{height} pixels; the ONNX backend takes multiples of {STRIDE}: choose such a size"
            )
        pixels = images.float().contiguous().numpy()
        threads = min(self.threads, torch.get_num_threads())  # one, where a thread has the image to itself
        parts = min(len(pixels), threads)
        runtime = _onnxruntime()
        session, how = self._session(runtime, max(1, threads // max(1, parts))), runtime.RunOptions()
        how.only_execute_path_to_fetches = True  # nothing for the embeddings, which nobody asked for

        def compute(part: np.ndarray) -> list[np.ndarray]:
            """One image after the other: its maps fit into the cache, those of several do not."""
            try:
                return [session.run(["logits"], {"images": image[None]}, how)[0] for image in part]
            except Exception as error:  # as in the constructor; the graph is ours, so what lacks is memory
                raise InputError(
                    f"{self.source}: onnxruntime cannot compute an image of {width}×{height} pixels "
                    f"({_line(error)}); choose a smaller size, or the torch backend"
                ) from None

        if parts < 2:
            return torch.from_numpy(np.concatenate(compute(pixels)))
        with ThreadPoolExecutor(parts) as pool:
            shares = pool.map(compute, np.array_split(pixels, parts))
            return torch.from_numpy(np.concatenate([logits for share in shares for logits in share]))

    def _session(self, runtime: Any, threads: int) -> Any:
        """An onnxruntime session whose runs use so many threads each; runs of one may overlap."""
        if threads not in self._sessions:
            options = runtime.SessionOptions()
            options.intra_op_num_threads = threads
            # Waiting in a loop would cost others their core.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.log_severity_level = 4  # each error is raised too; what it logs holds names as they are in the file
            self._sessions[threads] = runtime.InferenceSession(self._data, options, providers=["CPUExecutionProvider"])
        return self._sessions[threads]


def _checked_facts(data: bytes, source: str) -> dict[str, Any]:
    """The metadata of a file by `export`. InputError for another file, by its graph, its metadata or its form."""
    try:
        import onnx

        from mpc_lite.inference.graph_check import check_parts, difference
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise InputError(f"reading an ONNX file needs the package onnx; {HOW_TO_INSTALL}") from None
    if len(data) > LONGEST:
        raise _foreign(source, f"it has more than {LONGEST} bytes")
    try:
        check_parts(data)
        model = onnx.load_model_from_string(data)
        if (length := sum(len(entry.key + entry.value) for entry in model.metadata_props)) > LONGEST_FACTS:
            raise ValueError(f"what it says of itself has {length} letters, at most {LONGEST_FACTS}")
        facts = {entry.key: read_json(entry.value) for entry in model.metadata_props}
    except Exception as error:  # of protobuf, whose classes differ by its version, or of JSON
        raise _foreign(source, error) from None
    model.DiscardUnknownFields()
    if model.ByteSize() != len(data):  # parts that onnx passes over, and onnxruntime perhaps not
        raise _foreign(source, "it has parts that the format does not have")
    for key, known in (("recipe", ()), ("size", SIZES), ("head", HEADS)):
        if key not in facts:
            raise _foreign(source, f"it holds no {key}")
        if known and facts[key] not in list(known):  # of any JSON type
            raise _foreign(source, f"it holds a network of {key} {shown(facts[key])}, expected {', '.join(known)}")
    check_sections(source, facts, _ADVICE)
    if found := difference(model, facts["size"], facts["head"]):
        raise _foreign(source, found)
    return facts


def _foreign(source: str, reason: object) -> InputError:
    return InputError(f"{source} is no ONNX file that this version of the package writes ({_line(reason)}); {_ADVICE}")


def _line(reason: object) -> str:
    return shown(str(reason).split("\n")[0], 300)


def _onnxruntime():
    # Since 1.29 it writes an identification number and a database below the user's cache folder, and sends events.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name != "onnxruntime":
            raise
        raise InputError(f"backend 'onnx' needs the package onnxruntime; {HOW_TO_INSTALL}") from None
    return onnxruntime
