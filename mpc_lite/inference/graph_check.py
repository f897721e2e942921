"""Is an ONNX file what `graph.network_graph` writes? Asked before anything else reads it.

A graph is a program. Made by a stranger it could ask for any memory and time, with a few of our own operators as well
as with others: a short file may enlarge, repeat or multiply maps without end. So it is compared with the graph of the
network that the file says it holds, node by node; what may differ are the weights' values, their names and order.
And since two bytes are enough for an empty node, of which protobuf makes a hundred times as many, the parts of a file
are counted before that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx
import torch
from onnx import ModelProto, TensorProto
from torch import Tensor

from mpc_lite.errors import shown
from mpc_lite.inference.graph import Graph, drawn
from mpc_lite.network.model import MPC

# What is set in a message of an exported file: no functions, subgraphs, external data, or other ways to store values.
_FIELDS = {
    "ModelProto": {"ir_version", "opset_import", "producer_name", "producer_version", "graph", "metadata_props"},
    "GraphProto": {"node", "name", "initializer", "input", "output"},
    "TensorProto": {"dims", "data_type", "name", "raw_data"},
}
MOST_PARTS = 100_000  # of a file, each field of each message; the largest network's has 30 thousand


class _Frame(Graph):
    """The graph of a network whose tensors are on the device `meta`: its weights are shapes without values."""

    def tensor(self, values: Tensor | Sequence[int]) -> str:
        if not (isinstance(values, Tensor) and values.is_meta):
            return super().tensor(values)
        name = f"weights_{len(self.tensors)}"
        self.tensors[(name,)] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
        return name


def check_parts(data: bytes) -> None:
    """ValueError for a file of more parts than an exported one has, or that is no message of protobuf, by its bytes."""
    waiting, parts = [(0, len(data), ModelProto.DESCRIPTOR)], 0
    while waiting:
        at, end, message = waiting.pop()
        while at < end:
            tag, at = _whole_number(data, at)
            parts += 1
            kind, length = tag & 7, {1: 8, 5: 4}.get(tag & 7, 0)
            if kind in (0, 2):
                value, at = _whole_number(data, at)
            if kind == 2:
                length, field = value, _fields(message).get(tag >> 3)
                if field and field.message_type:
                    waiting.append((at, at + length, field.message_type))
                elif field and field.type not in (field.TYPE_STRING, field.TYPE_BYTES):
                    parts += length  # numbers in a row, each of a byte or more
            if kind not in (0, 1, 2, 5) or tag >= 2**32 or at + length > end:
                raise ValueError("it is damaged, or no message of protobuf")
            if parts > MOST_PARTS:
                raise ValueError(f"it has more than {MOST_PARTS} parts")
            at += length


def _whole_number(data: bytes, at: int) -> tuple[int, int]:
    """A number as protobuf writes it, seven bits a byte, and where the next thing begins."""
    number = 0
    for i, byte in enumerate(data[at : at + 10]):
        number |= (byte & 127) << 7 * i
        if byte < 128:
            return number, at + i + 1
    raise ValueError("it is damaged, or no message of protobuf")


@cache
def _fields(message: Any) -> dict[int, Any]:
    return {field.number: field for field in message.fields}


def difference(model: ModelProto, size: str, head: str) -> str | None:
    """Where a graph is not that of the network of this size and head, in words; None: it is, whatever its weights."""
    with torch.device("meta"):
        network = MPC.build(size, head).eval()
    like = drawn(network, _Frame()).model()
    parts = [model, model.graph, *model.graph.initializer]
    if odd := {field.name for part in parts for field, _ in part.ListFields() if not _known(part, field.name)}:
        return f"it has {shown(', '.join(sorted(odd)))}, which an exported file has not"
    if model.ir_version != like.ir_version or list(model.opset_import) != list(like.opset_import):
        found = ", ".join(f"{entry.domain} {entry.version}".strip() for entry in model.opset_import)
        expected = f"{like.opset_import[0].version}, IR version {like.ir_version}"
        return f"it has opset {shown(found)}, IR version {model.ir_version}, expected {expected}"
    for kind in ("input", "output"):
        found, expected = getattr(model.graph, kind), getattr(like.graph, kind)
        if list(found) != list(expected):
            return f"its {kind}s are {_ends(found)}, expected {_ends(expected)}"
    if (found := len(model.graph.node)) != (expected := len(like.graph.node)):
        return f"it has {found} nodes, expected {expected} of a network of size {size} with head {head}"
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {"images", *(name for node in like.graph.node for name in node.output)}
    frame = {tensor.name: tensor for tensor in like.graph.initializer}
    used = set()
    for number, (node, twin) in enumerate(zip(model.graph.node, like.graph.node, strict=True)):
        same = len(node.input) == len(twin.input) and all(
            _alike(stored.get(name), frame[own]) if own in frame else name == own
            for name, own in zip(node.input, twin.input, strict=True)
        )
        if not same or _settings(node) != _settings(twin):
            return f"its node {number}, {shown(node.op_type)}, is not the {twin.op_type} of an exported file"
        used.update(name for name, own in zip(node.input, twin.input, strict=True) if own in frame)
    if len(model.graph.initializer) != len(stored) or stored.keys() != used or used & made:
        return "it stores what no node uses, or one name twice"
    return None


def _known(part: onnx.ModelProto | onnx.GraphProto | TensorProto, field: str) -> bool:
    return field in _FIELDS[part.DESCRIPTOR.name]


def _alike(found: TensorProto | None, like: TensorProto) -> bool:
    """Whether a stored tensor has the shape and type of ours, and its values where they are not weights."""
    if found is None or found.data_type != like.data_type or list(found.dims) != list(like.dims):
        return False
    return found.raw_data == like.raw_data if like.raw_data else len(found.raw_data) == 4 * math.prod(like.dims)


def _settings(node: onnx.NodeProto) -> tuple:
    """A node without its inputs."""
    return node.op_type, node.domain, node.name, list(node.output), list(node.attribute)


def _ends(values: Sequence[onnx.ValueInfoProto]) -> str:
    """The inputs or outputs of a graph in a message: `logits float (batch,1,height/4,width/4)`."""
    texts = []
    for value in values:
        kind = value.type.tensor_type
        known = kind.elem_type in TensorProto.DataType.values()
        name = TensorProto.DataType.Name(kind.elem_type).lower() if known else "of an unknown type"
        sides = ",".join(side.dim_param or str(side.dim_value) for side in kind.shape.dim)
        texts.append(f"{value.name} {name} ({sides})")
    return shown(", ".join(texts) or "nothing", 120)
