"""The network as an ONNX graph, written node by node from its modules.

PyTorch's exporter is not used: it refuses the shipped network (a view of a non-contiguous tensor, pytorch issue
136543), puts the weights into a second file and paths and source lines of the machine into the first, and copies maps
to and fro between layouts. Here each kind of module has a function that adds its nodes, and
`tests/inference/test_export.py` compares the numbers. Only operators of the ONNX standard are used, so that every
runtime can read the file.

Maps are (B,C,H,W) for convolutions; a block turns them once to (B,H,W,C), where window attention only moves rows of
channels, and back. What depends on the map's sides is computed once for each scale (`Windows`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mpc_lite.errors import InputError
from mpc_lite.network.folding import folded, without_norms
from mpc_lite.network.head import HEADS
from mpc_lite.network.hrformer import WINDOW, Block, Bottleneck, HRFormer, Module, Projection, Residual
from mpc_lite.network.model import MPC

OPSET = 20  # the first with Gelu as one operator
IR_VERSION = 9  # of the file format, the one that belongs to the opset: older runtimes refuse newer files


def network_graph(model: MPC, metadata: Mapping[str, Any]) -> bytes:
    """An ONNX file of `model` in evaluation mode; equal weights and metadata give equal bytes.

    Input `images` (B,3,H,W) float32 in [0,1], H and W multiples of 32. Outputs `logits` (B,1,H/4,W/4), whose sigmoid is
    the score map, and `embeddings` (B,D,H/4,W/4), the finest map as `MPC.encode` gives it, not normalised.
    metadata: each value is stored as JSON. ValueError for a network in training mode,
    InputError for one with a neighbour's head.
    """
    if model.head not in HEADS:
        raise InputError(
            f"a network of head {model.head} has no ONNX graph yet, only those of {', '.join(HEADS)}; "
            "use it with the torch backend"
        )
    if folded(model) is model:
        raise ValueError("this network cannot be folded; expected an MPC with weights, in evaluation mode")
    graph = drawn(model, Graph()).model()
    helper.set_model_props(graph, {key: json.dumps(entry, sort_keys=True) for key, entry in metadata.items()})
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)


def drawn(model: MPC, graph: Graph) -> Graph:
    """`graph` with the nodes of `model`, in evaluation mode; each stored tensor passes through `graph.tensor`."""
    network = without_norms(model)
    graph.embedding = network.encoder.convs[0].conv.out_channels
    finest, *coarser = encoder(graph, network.encoder, "images")
    graph.node("Identity", [finest], output="embeddings")
    sides = graph.node("Shape", [finest], start=2, end=4)
    x = graph.node("Concat", [finest, *(resize(graph, x, sides) for x in coarser)], axis=1)
    *layers, last = network.decoder.classifier
    conv(graph, last, sequence(graph, layers, x), output="logits")
    return graph


class Graph:
    """Nodes and stored tensors in the order of their use. A tensor's name is the operator's that makes it, numbered."""

    def __init__(self):
        self.embedding = 0  # channels of the output of this name
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: dict[tuple, onnx.TensorProto] = {}

    def node(self, operator: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add an operator with one output; returns the output's name."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        # Named, or a fusion of onnxruntime before 1.22 gives two nodes one name and refuses its own result.
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, values: Tensor | Sequence[int]) -> str:
        """Store values: tensors as float32, integers as int64. Equal ones are stored once."""
        array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else np.asarray(values, np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.tensors:
            kind = "weights" if array.dtype == np.float32 else "integers"
            self.tensors[key] = numpy_helper.from_array(np.ascontiguousarray(array), f"{kind}_{len(self.tensors)}")
        return self.tensors[key].name

    def model(self) -> onnx.ModelProto:
        def value(name: str, channels: int, *sides: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", channels, *sides])

        quarter = ("height/4", "width/4")
        inputs = [value("images", 3, "height", "width")]
        outputs = [value("logits", 1, *quarter), value("embeddings", self.embedding, *quarter)]
        graph = helper.make_graph(self.nodes, "MPC", inputs, outputs, [*self.tensors.values()])
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="mpc_lite")


# ------------------------------------------------------------------------------------------------------- plain modules


def conv(graph: Graph, layer: nn.Conv2d, x: str, output: str | None = None) -> str:
    weights = [graph.tensor(layer.weight)] + ([graph.tensor(layer.bias)] if layer.bias is not None else [])
    (top, left), kernel = layer.padding, list(layer.kernel_size)
    settings = {"pads": [top, left, top, left], "strides": list(layer.stride), "group": layer.groups}
    return graph.node("Conv", [x, *weights], output, kernel_shape=kernel, **settings)


def batch_norm(graph: Graph, layer: nn.BatchNorm2d, x: str) -> str:
    tensors = [graph.tensor(t) for t in (layer.weight, layer.bias, layer.running_mean, layer.running_var)]
    return graph.node("BatchNormalization", [x, *tensors], epsilon=layer.eps)


def layer_norm(graph: Graph, layer: nn.LayerNorm, x: str) -> str:
    return graph.node(
        "LayerNormalization", [x, graph.tensor(layer.weight), graph.tensor(layer.bias)], epsilon=layer.eps
    )


def linear(graph: Graph, weight: Tensor, bias: Tensor, x: str) -> str:
    """x (N,C) -> (N,C'), weight (C',C) as PyTorch stores it."""
    return graph.node("Gemm", [x, graph.tensor(weight), graph.tensor(bias)], transB=1)


def sequence(graph: Graph, layers: Iterable[nn.Module], x: str) -> str:
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            x = conv(graph, layer, x)
        elif isinstance(layer, nn.BatchNorm2d):
            x = batch_norm(graph, layer, x)
        elif isinstance(layer, nn.ReLU):
            x = graph.node("Relu", [x])
        elif isinstance(layer, nn.Upsample):
            scales = graph.tensor(torch.tensor([1.0, 1.0, layer.scale_factor, layer.scale_factor]))
            way = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            x = graph.node("Resize", [x, "", scales], mode="nearest", **way)
        elif isinstance(layer, nn.Sequential):
            x = sequence(graph, layer, x)
        elif not isinstance(layer, nn.Identity):
            raise TypeError(f"{type(layer).__name__} has no nodes here")
    return x


def resize(graph: Graph, x: str, shape: str) -> str:
    """Bilinear, corners aligned, to the two sides in `shape`."""
    way = {"mode": "linear", "coordinate_transformation_mode": "align_corners", "axes": [2, 3]}
    return graph.node("Resize", [x, "", "", shape], **way)


# --------------------------------------------------------------------------------------------------------- the encoder


def encoder(graph: Graph, network: HRFormer, images: str) -> list[str]:
    """images (B,3,H,W) -> the four maps (B,D,·,·), as HRFormer.forward."""
    x = residual(graph, images) if isinstance(network.residual, Residual) else images
    for layer in (network.conv1, network.conv2):
        x = graph.node("Relu", [conv(graph, layer, x)])
    for layer in network.layer1:
        x = bottleneck(graph, layer, x)
    maps = [sequence(graph, [transition], x) for transition in network.transition1]
    windows = [Windows(graph, y, layer.conv.in_channels) for y, layer in zip(maps, network.convs, strict=False)]
    maps = stage(graph, network.stage2, maps, windows)
    for number, transition in ((3, network.transition2[2]), (4, network.transition3[3])):
        maps.append(sequence(graph, [transition], maps[-1]))
        windows.append(Windows(graph, maps[-1], network.convs[number - 1].conv.in_channels))
        maps = stage(graph, getattr(network, f"stage{number}"), maps, windows)
    return [projection(graph, layer, x) for layer, x in zip(network.convs, maps, strict=True)]


def residual(graph: Graph, images: str) -> str:
    """`Residual` as one depthwise convolution: the two second differences are the kernel (1,-2,1)ᵀ(1,-2,1)."""
    line = torch.tensor([1.0, -2.0, 1.0])
    kernel = (line[:, None] * line[None] * (Residual.GAIN / 4)).expand(3, 1, 3, 3)
    x = graph.node("Pad", [images, graph.tensor([1, 1, 1, 1]), "", graph.tensor([2, 3])], mode="edge")
    x = graph.node("Conv", [x, graph.tensor(kernel)], kernel_shape=[3, 3], group=3)
    x = graph.node("Clip", [x, graph.tensor(torch.tensor(-1.0)), graph.tensor(torch.tensor(1.0))])
    return graph.node("Concat", [images, x], axis=1)


def bottleneck(graph: Graph, layer: Bottleneck, x: str) -> str:
    y = graph.node("Relu", [conv(graph, layer.conv1, x)])
    y = graph.node("Relu", [conv(graph, layer.conv2, y)])
    y = conv(graph, layer.conv3, y)
    return graph.node("Relu", [graph.node("Add", [y, sequence(graph, [layer.downsample], x)])])


def projection(graph: Graph, layer: Projection, x: str) -> str:
    return graph.node("Relu", [conv(graph, layer.conv, x)])


def stage(graph: Graph, modules: Iterable[Module], maps: list[str], windows: list[Windows]) -> list[str]:
    for layer in modules:
        maps = module(graph, layer, maps, windows)
    return maps


def module(graph: Graph, layer: Module, maps: list[str], windows: list[Windows]) -> list[str]:
    """Blocks in every branch, then each branch becomes the sum of all of them at its scale."""
    maps = list(maps)
    for i, branch in enumerate(layer.branches):
        for part in branch:
            maps[i] = block(graph, part, maps[i], windows[i])
    outputs = []
    for target, ways in enumerate(layer.fuse_layers):
        total = maps[target]
        for source, way in enumerate(ways):
            if source != target:
                total = graph.node("Add", [total, sequence(graph, [way], maps[source])])
        outputs.append(graph.node("Relu", [total]))
    return outputs


# ------------------------------------------------------------------------------------------------------------ a block


class Windows:
    """Cutting maps (B,H,W,C) of one scale into 7×7 windows and putting them together again.

    As in `WindowAttention` the map is zero-padded on all sides (the smaller half left and top) to a multiple of 7.
    """

    def __init__(self, graph: Graph, example: str, channels: int):
        """example: a map (B,C,H,W) of this scale."""
        node, tensor = graph.node, graph.tensor
        self.graph, self.sides = graph, node("Shape", [example], start=2, end=4)  # H, W
        more = node("Mod", [node("Neg", [self.sides]), tensor([WINDOW])])  # takes the divisor's sign: 0 to 6
        self.start = node("Div", [more, tensor([2])])
        self.end = node("Add", [self.start, self.sides])
        self.pads = node("Concat", [self.start, node("Sub", [more, self.start])], axis=0)
        padded = node("Add", [self.sides, more])
        grid = node("Div", [padded, tensor([WINDOW])])
        rows, columns = (node("Gather", [grid, tensor([i])]) for i in (0, 1))
        # Shapes for Reshape, where 0 keeps a side and -1 is whatever is left.
        self.cut = node("Concat", [tensor([0]), rows, tensor([WINDOW]), columns, tensor([WINDOW, channels])], axis=0)
        self.tokens = tensor([-1, channels])
        self.grid = node("Concat", [tensor([-1]), grid, tensor([WINDOW, WINDOW, channels])], axis=0)
        self.whole = node("Concat", [tensor([0]), padded, tensor([channels])], axis=0)

    def split(self, x: str) -> str:
        """x (B,H,W,C) -> (windows·49,C)."""
        node, axes = self.graph.node, self.graph.tensor([1, 2])
        x = node("Reshape", [node("Pad", [x, self.pads, "", axes]), self.cut])
        return node("Reshape", [node("Transpose", [x], perm=[0, 1, 3, 2, 4, 5]), self.tokens])

    def join(self, x: str) -> str:
        """x (windows·49,C) -> (B,H,W,C)."""
        node, axes = self.graph.node, self.graph.tensor([1, 2])
        x = node("Transpose", [node("Reshape", [x, self.grid])], perm=[0, 1, 3, 2, 4, 5])
        return node("Slice", [node("Reshape", [x, self.whole]), self.start, self.end, axes])


def block(graph: Graph, layer: Block, x: str, windows: Windows) -> str:
    """x (B,C,H,W) -> (B,C,H,W)."""
    node, last, first = graph.node, [0, 2, 3, 1], [0, 3, 1, 2]  # where the channels go
    x = node("Transpose", [x], perm=last)
    y = windows.split(layer_norm(graph, layer.norm1, x))
    x = node("Add", [x, windows.join(attention(graph, layer.attn.attn, y))])
    y = node("Transpose", [layer_norm(graph, layer.norm2, x)], perm=first)
    for part in (layer.mlp.fc1, layer.mlp.dw3x3, layer.mlp.fc2):
        y = node("Gelu", [conv(graph, part, y)])
    return node("Add", [node("Transpose", [x], perm=first), y])


def attention(graph: Graph, layer: nn.Module, tokens: str) -> str:
    """tokens (windows·49,C) -> (windows·49,C); `layer` holds q, k and v in one matrix, as `folded` makes it.

    softmax(q·kᵀ + bias) · v, with the factor 1 / sqrt(C / heads) in the weights of q.
    """
    node, tensor, heads, channels = graph.node, graph.tensor, layer.heads, layer.weight.shape[1]
    width, many = channels // heads, heads > 1
    # (windows,49,C), and with several heads (windows,heads,49,width)
    shape = tensor([-1, WINDOW**2, heads, width] if many else [-1, WINDOW**2, channels])

    def project(weight: Tensor, offset: Tensor) -> str:
        x = node("Reshape", [linear(graph, weight, offset, tokens), shape])
        return node("Transpose", [x], perm=[0, 2, 1, 3]) if many else x

    (wq, wk, wv), (bq, bk, bv) = layer.weight.split(channels), layer.offset.split(channels)
    q, k, v = project(wq * width**-0.5, bq * width**-0.5), project(wk, bk), project(wv, bv)
    similarity = node("MatMul", [q, node("Transpose", [k], perm=[0, 1, 3, 2] if many else [0, 2, 1])])
    bias = tensor(layer.bias if many else layer.bias[0])
    x = node("MatMul", [node("Softmax", [node("Add", [similarity, bias])], axis=-1), v])
    x = node("Transpose", [x], perm=[0, 2, 1, 3]) if many else x
    x = node("Reshape", [x, tensor([-1, channels])])
    return linear(graph, layer.out_proj.weight, layer.out_proj.bias, x)
